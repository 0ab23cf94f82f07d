//! The inputs of a trace, read from a safetensors file and checked.

use std::path::Path;

use ndarray::Array2;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::config::TextConfig;
use crate::error::{Error, Result};
use crate::files;

/// The largest file of inputs: 16,000 embeddings of the 3B decoder have 130 MB.
const MAX_BYTES: u64 = 1 << 30;

/// The largest position: where an f32 still counts every one.
const MAX_POSITION: i64 = 1 << 24;

/// Tokens of the greedy continuation, if the inputs do not say.
const NUM_GREEDY_TOKENS: i64 = 16;

/// The most of them.
const MAX_GREEDY_TOKENS: i64 = 1 << 16;

/// What a decoder is traced on; the tensors are listed at [`trace`](mod@crate::trace).
#[derive(Debug)]
pub struct TraceInputs {
    /// `[S]`, at least one, inside the vocabulary.
    pub(crate) token_ids: Vec<u32>,
    /// `[S, hidden_size]`.
    pub(crate) embeddings_in: Option<Array2<f32>>,
    /// Each at least 1; they sum to S.
    pub(crate) chunks: Vec<usize>,
    /// `[S]`.
    pub(crate) segment_ids: Option<Vec<i64>>,
    pub(crate) rope_positions: Option<Vec<u32>>,
    /// At least 1.
    pub(crate) num_greedy_tokens: usize,
}

impl TraceInputs {
    /// Reads a safetensors file.
    ///
    /// # Errors
    /// Names the file, and the tensor that is missing, broken or does not fit `config`.
    pub fn read(path: &Path, config: &TextConfig) -> Result<Self> {
        let file = path.display().to_string();
        let bytes = files::read(path, MAX_BYTES)?;
        let not_safetensors = |cause| Error::Tensor {
            file: file.clone(),
            tensor: "(the whole)".into(),
            found: format!("not readable ({cause})"),
            expected: "a safetensors file".into(),
        };
        let tensors = SafeTensors::deserialize(&bytes).map_err(not_safetensors)?;
        Reader { file, tensors }.read(config)
    }
}

struct Reader<'a> {
    file: String,
    tensors: SafeTensors<'a>,
}

impl Reader<'_> {
    fn read(&self, config: &TextConfig) -> Result<TraceInputs> {
        const TOKEN_IDS: &str = "token_ids";
        let Some(ids) = self.integers(TOKEN_IDS, None)? else {
            return Err(self.error(TOKEN_IDS, "missing".into(), "[tokens] of i64".into()));
        };
        let token_ids = self.indices(TOKEN_IDS, &ids, config.vocab_size as i64)?;
        let num_tokens = token_ids.len();
        if num_tokens == 0 {
            return Err(self.error(TOKEN_IDS, "empty".into(), "one token at least".into()));
        }
        let rope_positions = match self.integers("rope.positions", None)? {
            Some(positions) => Some(self.indices("rope.positions", &positions, MAX_POSITION)?),
            None => None,
        };
        const NUM_GREEDY: &str = "greedy.num_tokens";
        let num_greedy_tokens = match self.integers(NUM_GREEDY, Some(1))? {
            None => NUM_GREEDY_TOKENS,
            Some(count) if (1..=MAX_GREEDY_TOKENS).contains(&count[0]) => count[0],
            Some(count) => {
                return Err(self.error(NUM_GREEDY, count[0].to_string(), format!("1 to {MAX_GREEDY_TOKENS}")));
            }
        };
        Ok(TraceInputs {
            num_greedy_tokens: num_greedy_tokens as usize,
            chunks: self.chunks(num_tokens)?,
            embeddings_in: self.embeddings([num_tokens, config.hidden_size])?,
            segment_ids: self.integers("packed.segment_ids", Some(num_tokens))?,
            rope_positions,
            token_ids,
        })
    }

    fn chunks(&self, num_tokens: usize) -> Result<Vec<usize>> {
        const NAME: &str = "chunks";
        let Some(chunks) = self.integers(NAME, None)? else { return Ok(vec![num_tokens]) };
        let sum = chunks.iter().try_fold(0i64, |sum, &chunk| if chunk > 0 { sum.checked_add(chunk) } else { None });
        if sum != Some(num_tokens as i64) {
            let expected = format!("sizes above 0 that sum to the {num_tokens} tokens of token_ids");
            return Err(self.error(NAME, format!("{chunks:?}"), expected));
        }
        Ok(chunks.into_iter().map(|chunk| chunk as usize).collect())
    }

    fn embeddings(&self, shape: [usize; 2]) -> Result<Option<Array2<f32>>> {
        const NAME: &str = "embeddings_in";
        let Ok(tensor) = self.tensors.tensor(NAME) else { return Ok(None) };
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return Err(self.error(NAME, description(&tensor), format!("{shape:?} of F32 (tokens x hidden_size)")));
        }
        let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        Ok(Array2::from_shape_vec(shape, values).ok())
    }

    /// A vector of i64 of any length, or of this.
    fn integers(&self, name: &str, len: Option<usize>) -> Result<Option<Vec<i64>>> {
        let Ok(tensor) = self.tensors.tensor(name) else { return Ok(None) };
        let fits = matches!(tensor.shape(), [found] if len.is_none_or(|len| len == *found));
        if tensor.dtype() != Dtype::I64 || !fits {
            let len = len.map_or("n".into(), |len| len.to_string());
            return Err(self.error(name, description(&tensor), format!("[{len}] of I64")));
        }
        Ok(Some(tensor.data().as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect()))
    }

    /// Numbers from 0 to below `end`, which is at most 2^32.
    fn indices(&self, name: &str, numbers: &[i64], end: i64) -> Result<Vec<u32>> {
        let index = |(position, &number): (usize, &i64)| {
            let in_range = u32::try_from(number).ok().filter(|_| number < end);
            in_range.ok_or_else(|| {
                self.error(name, format!("{number} at position {position}"), format!("numbers from 0 to {}", end - 1))
            })
        };
        numbers.iter().enumerate().map(index).collect()
    }

    fn error(&self, tensor: &str, found: String, expected: String) -> Error {
        Error::Tensor { file: self.file.clone(), tensor: tensor.to_owned(), found, expected }
    }
}

fn description(tensor: &TensorView<'_>) -> String {
    format!("{:?} of {}", tensor.shape(), tensor.dtype())
}
