//! Tensors by name out of memory-mapped safetensors files.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Component, Path};
use std::sync::Arc;

use half::{bf16, f16};
use safetensors::Dtype;
use serde::Deserialize;

use crate::weight_file::{Bytes, TensorEntry, WeightFile};
use crate::{Embedding, Error, Linear, QuantizationConfig, WeightsWriter};

/// The largest index of shards that is read; that of a model of 10^5 tensors has 10 MB.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// The weights of a model, or those under a prefix. Cheap to clone: the files are shared.
#[derive(Debug, Clone)]
pub struct Weights {
    shared: Arc<Shared>,
    quantization: Option<Arc<QuantizationConfig>>,
    prefix: String,
}

struct Shared {
    /// How messages call the whole.
    label: String,
    tensors: HashMap<String, Tensor>,
}

/// A tensor and the file that has it.
#[derive(Clone)]
struct Tensor {
    file: Arc<WeightFile>,
    entry: TensorEntry,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("label", &self.label).field("num_tensors", &self.tensors.len()).finish()
    }
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: HashMap<String, String>,
}

impl Weights {
    /// Maps a safetensors file, or that of a model directory (`model.safetensors`, or the shards of
    /// `model.safetensors.index.json`). Nothing large is copied. A file must not change while it is used.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoWeights`], [`Error::NotAFile`], [`Error::Header`]; for shards [`Error::Index`],
    /// [`Error::ShardName`] and [`Error::MissingTensor`].
    pub fn open(path: impl AsRef<Path>) -> Result<Weights, Error> {
        let path = path.as_ref();
        if !path.is_dir() {
            return Ok(Weights::from_file(WeightFile::open(path)?));
        }
        let (single, index) = (path.join("model.safetensors"), path.join("model.safetensors.index.json"));
        if single.exists() {
            Ok(Weights::from_file(WeightFile::open(&single)?))
        } else if index.exists() {
            Weights::open_shards(path, &index)
        } else {
            Err(Error::NoWeights { path: path.to_owned() })
        }
    }

    /// A safetensors file that is part of the program; messages call it `label`.
    ///
    /// # Errors
    /// [`Error::Header`].
    pub fn from_static(label: &str, bytes: &'static [u8]) -> Result<Weights, Error> {
        Ok(Weights::from_file(WeightFile::from_static(label, bytes)?))
    }

    fn from_file(file: WeightFile) -> Weights {
        Weights::new(file.label.clone(), tensors_of(&Arc::new(file)).collect())
    }

    fn new(label: String, tensors: HashMap<String, Tensor>) -> Weights {
        Weights { shared: Arc::new(Shared { label, tensors }), quantization: None, prefix: String::new() }
    }

    fn open_shards(directory: &Path, index_path: &Path) -> Result<Weights, Error> {
        let label = index_path.display().to_string();
        let io = |source| Error::Io { action: "read", path: index_path.to_owned(), source };
        let metadata = std::fs::metadata(index_path).map_err(io)?;
        if !metadata.is_file() {
            return Err(Error::NotAFile { path: index_path.to_owned() });
        }
        if metadata.len() > MAX_INDEX_BYTES {
            let detail = format!("it has {} bytes, expected at most {MAX_INDEX_BYTES}", metadata.len());
            return Err(Error::Index { file: label, detail });
        }
        let json = std::fs::read(index_path).map_err(io)?;
        let ShardIndex { weight_map } = serde_json::from_slice(&json)
            .map_err(|error| Error::Index { file: label.clone(), detail: error.to_string() })?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let mut files = HashMap::with_capacity(names.len());
        for name in names {
            let path = directory.join(name);
            let is_plain = matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
            if !is_plain || leads_elsewhere(&path, directory) {
                return Err(Error::ShardName { file: label, shard: name.clone() });
            }
            files.insert(name.clone(), Arc::new(WeightFile::open(&path)?));
        }
        let mut tensors = HashMap::with_capacity(weight_map.len());
        for (tensor, name) in weight_map {
            let file = Arc::clone(&files[&name]);
            let Some(entry) = file.tensors.get(&tensor).cloned() else {
                return Err(Error::MissingTensor { tensor, file: file.label.clone() });
            };
            tensors.insert(tensor, Tensor { file, entry });
        }
        Ok(Weights::new(label, tensors))
    }

    /// The same tensors under other names: pairs of the new name and the name that the tensor has in these weights. The result has these
    /// tensors alone and no prefix; a tensor may get several names. Nothing is copied. Messages use the new names.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] for a name that these weights lack, [`Error::Config`] for a new name that comes twice.
    pub fn renamed(&self, names: impl IntoIterator<Item = (String, String)>) -> Result<Weights, Error> {
        let mut tensors = HashMap::new();
        for (new, name) in names {
            let tensor = self.find(&name)?.clone();
            if tensors.insert(new.clone(), tensor).is_some() {
                let (field, found) = (format!("the new name `{new}` of a tensor"), "there twice".to_owned());
                return Err(Error::Config { field, found, expected: "each name once".to_owned() });
            }
        }
        let renamed = Weights::new(self.shared.label.clone(), tensors);
        Ok(Weights { quantization: self.quantization.clone(), ..renamed })
    }

    /// These weights and the tensors of `tensors`, which are kept in memory; under the prefix, if there is one. A tensor that is there
    /// already is replaced.
    ///
    /// # Errors
    /// [`Error::Header`] if they are too many for a safetensors file.
    pub fn with_tensors(self, tensors: WeightsWriter) -> Result<Weights, Error> {
        let label = format!("the tensors added to {}", self.shared.label);
        let bytes = match tensors.to_bytes() {
            Ok(bytes) => bytes,
            Err(source) => return Err(Error::Header { file: label, source }),
        };
        let file = Arc::new(WeightFile::from_vec(label, bytes)?);
        let mut tensors = self.shared.tensors.clone();
        tensors.extend(tensors_of(&file).map(|(name, tensor)| (self.full_name(&name), tensor)));
        Ok(Weights { shared: Arc::new(Shared { label: self.shared.label.clone(), tensors }), ..self })
    }

    /// These weights with the `quantization_config` of their model.
    ///
    /// # Errors
    /// [`Error::Config`] if it is of another method or version, or has an impossible part.
    pub fn with_quantization(mut self, config: QuantizationConfig) -> Result<Weights, Error> {
        config.validate()?;
        self.quantization = Some(Arc::new(config));
        Ok(self)
    }

    /// The weights under `name`: `weights.pp("vision").pp("layers.3")` finds `bias` as `vision.layers.3.bias`.
    pub fn pp(&self, name: impl AsRef<str>) -> Weights {
        Weights { prefix: self.full_name(name.as_ref()), ..self.clone() }
    }

    /// The name of a tensor in the file.
    pub fn full_name(&self, name: &str) -> String {
        match (self.prefix.is_empty(), name.is_empty()) {
            (true, _) => name.to_owned(),
            (false, true) => self.prefix.clone(),
            (false, false) => format!("{}.{name}", self.prefix),
        }
    }

    /// How messages call the file of all weights.
    pub fn label(&self) -> &str {
        &self.shared.label
    }

    /// Whether there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.shared.tensors.contains_key(&self.full_name(name))
    }

    /// The names of the tensors under the prefix, without it, in alphabetical order.
    pub fn names(&self) -> Vec<&str> {
        let start = if self.prefix.is_empty() { String::new() } else { format!("{}.", self.prefix) };
        let mut names: Vec<_> = self.shared.tensors.keys().filter_map(|name| name.strip_prefix(&start)).collect();
        names.sort_unstable();
        names
    }

    /// The shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.find(name).ok().map(|tensor| &tensor.entry.shape[..])
    }

    /// The data type of a tensor, such as `F16`, if it is there.
    pub fn dtype(&self, name: &str) -> Option<String> {
        self.find(name).ok().map(|tensor| tensor.entry.dtype.to_string())
    }

    /// The bytes of a tensor in the file, if it is there.
    pub fn num_bytes(&self, name: &str) -> Option<usize> {
        self.find(name).ok().map(|tensor| Bytes::new(&tensor.file, &tensor.entry).len())
    }

    /// The values of a float tensor (f32, bf16 or f16) of that shape, row-major, as f32.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`], [`Error::Dtype`].
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let (bytes, dtype) = self.bytes(name, shape, FLOATS, |dtype| float_width(dtype).is_some())?;
        Ok(floats(&bytes, dtype))
    }

    /// `count` rows of a float tensor of two or more dimensions, from row `first` on, as f32: `[count, ..]`, where rows go along the first
    /// dimension. No other part of the tensor is read, and nothing stays in memory, so that a matrix larger than the memory can be read in
    /// pieces.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Dtype`]; [`Error::Rows`] if there are no such rows; [`Error::Io`] if they cannot be read.
    pub fn rows(&self, name: &str, first: usize, count: usize) -> Result<Vec<f32>, Error> {
        let Tensor { file, entry } = self.find(name)?;
        let (tensor, label) = (self.full_name(name), &file.label);
        let Some(width) = float_width(entry.dtype) else {
            return Err(Error::Dtype { tensor, file: label.clone(), expected: FLOATS, found: entry.dtype.to_string() });
        };
        match (&entry.shape[..], first.checked_add(count)) {
            ([num_rows, columns @ ..], Some(end)) if !columns.is_empty() && end <= *num_rows => {
                // The product with the number of rows fits: it was checked when the file was opened. A dimension of 0 leaves no values.
                let row_bytes = columns.iter().fold(width, |product, &size| product.saturating_mul(size));
                let is_empty = Bytes::new(file, entry).is_empty();
                let range = if is_empty { 0..0 } else { first * row_bytes..end * row_bytes };
                let path = || Path::new(label).to_owned();
                let bytes =
                    file.copy(entry, range).map_err(|source| Error::Io { action: "read", path: path(), source })?;
                Ok(floats(&bytes, entry.dtype))
            }
            _ => Err(Error::Rows { tensor, file: label.clone(), first, count, shape: entry.shape.clone() }),
        }
    }

    /// The linear layer `name.weight` (`[out_features, in_features]`, packed or float, as the file has it), with `name.bias` if
    /// `bias`. Packed codes, and floats that are f32, are used where they lie in the file.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`], [`Error::Dtype`], [`Error::Packed`], [`Error::NoQuantization`].
    pub fn linear(&self, name: &str, in_features: usize, out_features: usize, bias: bool) -> Result<Linear, Error> {
        Linear::load(&self.pp(name), in_features, out_features, bias)
    }

    /// The embedding `name.weight`, `[num_embeddings, dim]`, packed or float.
    ///
    /// # Errors
    /// Those of [`Weights::linear`].
    pub fn embedding(&self, name: &str, num_embeddings: usize, dim: usize) -> Result<Embedding, Error> {
        Embedding::load(&self.pp(name), num_embeddings, dim)
    }

    fn find(&self, name: &str) -> Result<&Tensor, Error> {
        let tensor = self.full_name(name);
        let found = self.shared.tensors.get(&tensor);
        found.ok_or_else(|| Error::MissingTensor { tensor, file: self.shared.label.clone() })
    }

    /// The file of a tensor as messages call it; that of all weights if the tensor is not there.
    pub(crate) fn file_of(&self, name: &str) -> String {
        self.find(name).map_or(&self.shared.label, |tensor| &tensor.file.label).clone()
    }

    /// The bytes of a tensor of that shape and one of the types that `accept` takes (`expected` in words).
    pub(crate) fn bytes(
        &self,
        name: &str,
        shape: &[usize],
        expected: &'static str,
        accept: impl Fn(Dtype) -> bool,
    ) -> Result<(Bytes, Dtype), Error> {
        let tensor = self.full_name(name);
        let Tensor { file, entry } = self.find(name)?;
        let label = || file.label.clone();
        if entry.shape != shape {
            let (expected, found) = (shape.to_vec(), entry.shape.clone());
            return Err(Error::Shape { tensor, file: label(), expected, found });
        }
        if !accept(entry.dtype) {
            return Err(Error::Dtype { tensor, file: label(), expected, found: entry.dtype.to_string() });
        }
        Ok((Bytes::new(file, entry), entry.dtype))
    }

    /// The bytes of a tensor as they lie in its file, if it is there.
    pub fn raw_bytes(&self, name: &str) -> Option<&[u8]> {
        let Tensor { file, entry } = self.find(name).ok()?;
        Some(file.bytes_of(entry))
    }

    /// The `quantization_config` of the model, if it has one.
    pub fn quantization(&self) -> Option<&QuantizationConfig> {
        self.quantization.as_deref()
    }
}

/// The tensors of a file by name.
fn tensors_of(file: &Arc<WeightFile>) -> impl Iterator<Item = (String, Tensor)> {
    file.tensors.iter().map(|(name, entry)| (name.clone(), Tensor { file: Arc::clone(file), entry: entry.clone() }))
}

/// The types of [`float_width`] as messages call them.
const FLOATS: &str = "F32, BF16 or F16";

/// Whether `path` is a link, other than those of the Hugging Face cache, whose snapshots hold links to the blobs of the same repository:
/// `models--NAME/snapshots/COMMIT/FILE` to `models--NAME/blobs/HASH`.
fn leads_elsewhere(path: &Path, directory: &Path) -> bool {
    if !std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
        return false;
    }
    let into_blobs = || -> Option<bool> {
        let (target, directory) = (path.canonicalize().ok()?, directory.canonicalize().ok()?);
        let snapshots = directory.parent()?;
        Some(snapshots.file_name()? == "snapshots" && target.parent()? == snapshots.parent()?.join("blobs"))
    };
    into_blobs() != Some(true)
}

/// Bytes of a float type that can be read.
fn float_width(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F32 => Some(4),
        Dtype::F16 | Dtype::BF16 => Some(2),
        _ => None,
    }
}

/// The values of bytes of a type of [`float_width`].
fn floats(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    match dtype {
        Dtype::F16 => to_f32(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => to_f32(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        _ => to_f32(bytes, f32::from_le_bytes),
    }
}

fn to_f32<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&bytes| read(bytes)).collect()
}

#[cfg(test)]
mod tests;
