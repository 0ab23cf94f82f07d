//! Writes weight files: f32 and i64 tensors and packed matrices (`docs/format.md`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use half::f16;
use ocelli_kernels::{PackedMatrix, PackedShape, pack_matrix};
use safetensors::{Dtype, SafeTensorError, View};

use crate::Error;

/// Tensors that will be one safetensors file.
#[derive(Debug, Default)]
pub struct WeightsWriter {
    tensors: BTreeMap<String, OwnedTensor>,
}

#[derive(Debug)]
struct OwnedTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &OwnedTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

impl WeightsWriter {
    /// No tensors yet.
    pub fn new() -> WeightsWriter {
        WeightsWriter::default()
    }

    /// Adds an f32 tensor of that shape, row-major.
    ///
    /// # Errors
    /// [`Error::Write`] if the name is taken or the number of values is not that of the shape.
    pub fn f32(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<&mut WeightsWriter, Error> {
        self.values(name, Dtype::F32, shape, values)
    }

    /// Adds an i64 tensor of that shape, row-major: token ids, for example.
    ///
    /// # Errors
    /// As [`WeightsWriter::f32`].
    pub fn i64(&mut self, name: &str, shape: &[usize], values: &[i64]) -> Result<&mut WeightsWriter, Error> {
        self.values(name, Dtype::I64, shape, values)
    }

    fn values<T: bytemuck::Pod>(
        &mut self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        values: &[T],
    ) -> Result<&mut WeightsWriter, Error> {
        let expected = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
        if expected != Some(values.len()) {
            let detail = format!("shape {shape:?} does not fit {} values", values.len());
            return Err(Error::Write { tensor: name.to_owned(), detail });
        }
        self.add(name, dtype, shape, bytemuck::cast_slice(values).to_vec())
    }

    /// Packs the matrix of the layer `name` and adds it as `name.weight_codes` and `name.weight_scales`. `quantization_config` has to say
    /// the same `bits`, `group_size` and `zero_point` for this name.
    ///
    /// # Errors
    /// [`Error::Write`] if the name is taken, or for values that cannot be packed.
    pub fn packed(&mut self, name: &str, shape: PackedShape, values: &[f32]) -> Result<&mut WeightsWriter, Error> {
        let (codes, scales) = pack_matrix(shape, values)
            .map_err(|error| Error::Write { tensor: format!("{name}.weight"), detail: error.to_string() })?;
        self.packed_bytes(name, shape, codes, &scales)
    }

    /// Adds a matrix that is packed already: codes `[rows, row_bytes]` and scales `[rows, num_groups]`. Otherwise as [`WeightsWriter::packed`].
    ///
    /// # Errors
    /// [`Error::Write`] if the name is taken, or the bytes are no such matrix.
    pub fn packed_bytes(
        &mut self,
        name: &str,
        shape: PackedShape,
        codes: Vec<u8>,
        scales: &[f16],
    ) -> Result<&mut WeightsWriter, Error> {
        PackedMatrix::new(shape, &codes, scales)
            .map_err(|error| Error::Write { tensor: format!("{name}.weight"), detail: error.to_string() })?;
        self.add(&format!("{name}.weight_codes"), Dtype::U8, &[shape.rows(), shape.row_bytes()], codes)?;
        let scales = bytemuck::cast_slice(scales).to_vec();
        self.add(&format!("{name}.weight_scales"), Dtype::F16, &[shape.rows(), shape.num_groups()], scales)
    }

    fn add(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Result<&mut WeightsWriter, Error> {
        let tensor = OwnedTensor { dtype, shape: shape.to_vec(), bytes };
        if self.tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(Error::Write {
                tensor: name.to_owned(),
                detail: "there is one of that name already".to_owned(),
            });
        }
        Ok(self)
    }

    /// The bytes of the file.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, SafeTensorError> {
        safetensors::serialize(&self.tensors, None)
    }

    /// Writes the file: to a temporary sibling first, which is then renamed, so that `path` never holds half a file and a file that is
    /// mapped is never written over.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let io = |action, source| Error::Io { action, path: path.to_owned(), source };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let temporary = path.with_file_name(name);
        let tensors = self.tensors.iter();
        let written = safetensors::serialize_to_file(tensors, None, &temporary)
            .map_err(|error| match error {
                SafeTensorError::IoError(source) => io("write", source),
                other => io("write", std::io::Error::other(other)),
            })
            .and_then(|()| std::fs::rename(&temporary, path).map_err(|source| io("rename to", source)));
        if written.is_err() {
            // What is left of a failed write is of no use to anyone; that it cannot be removed changes nothing.
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }
}
