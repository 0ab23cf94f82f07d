//! The matrix of a linear layer or an embedding, of any kind of weights: the one place that tells the kinds apart.

use half::f16;
use ocelli_kernels::{Bits, Isa, PackedMatrix, PackedShape, matmul_f32, matmul_packed, matmul_unpacked};
use safetensors::Dtype;

use crate::values::Values;
use crate::weight_file::Bytes;
use crate::{Error, Weights};

/// `[rows, columns]`, cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    rows: usize,
    columns: usize,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    F32(Values<f32>),
    Packed { shape: PackedShape, codes: Bytes, scales: Values<f16>, activation_bits: u32 },
}

impl Matrix {
    /// Reads `weight` of `weights`: packed if `weight_codes` is there, float otherwise.
    pub fn load(weights: &Weights, rows: usize, columns: usize) -> Result<Matrix, Error> {
        if weights.contains("weight_codes") && !weights.contains("weight") {
            return Matrix::load_packed(weights, rows, columns);
        }
        let is_f32 = weights.dtype("weight").as_deref() == Some("F32");
        let values = if is_f32 {
            Values::new(weights.bytes("weight", &[rows, columns], "F32", |dtype| dtype == Dtype::F32)?.0)
        } else {
            Values::Owned(weights.tensor("weight", &[rows, columns])?.into())
        };
        Ok(Matrix { rows, columns, kind: Kind::F32(values) })
    }

    fn load_packed(weights: &Weights, rows: usize, columns: usize) -> Result<Matrix, Error> {
        let tensor = weights.full_name("weight");
        let file = || weights.file_of("weight_codes");
        let Some(part) = weights.quantization().and_then(|config| config.part_for(&tensor)) else {
            return Err(Error::NoQuantization { tensor, file: file() });
        };
        let packed = |source| Error::Packed { tensor: tensor.clone(), file: file(), source };
        let bits = Bits::new(part.bits).map_err(packed)?;
        let shape = PackedShape::new(bits, rows, columns, part.group_size)
            .and_then(|shape| shape.with_zero_point(part.zero_point))
            .map_err(packed)?;
        let codes = weights.bytes("weight_codes", &[rows, shape.row_bytes()], "U8", |dtype| dtype == Dtype::U8)?.0;
        let scales = weights.bytes("weight_scales", &[rows, shape.num_groups()], "F16", |dtype| dtype == Dtype::F16)?.0;
        let scales = Values::new(scales);
        PackedMatrix::new(shape, &codes, &scales).map_err(packed)?;
        Ok(Matrix { rows, columns, kind: Kind::Packed { shape, codes, scales, activation_bits: part.activation_bits } })
    }

    /// A matrix of f32 values, `[rows, columns]`.
    pub fn from_f32(values: Vec<f32>, rows: usize, columns: usize) -> Matrix {
        assert!(
            rows.checked_mul(columns) == Some(values.len()),
            "a matrix of shape [{rows}, {columns}] cannot have {} values",
            values.len()
        );
        Matrix { rows, columns, kind: Kind::F32(Values::Owned(values.into())) }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bits of a weight as it is held: 2, 4, 8 or 32.
    pub fn bits(&self) -> u32 {
        match &self.kind {
            Kind::F32(_) => 32,
            Kind::Packed { shape, .. } => shape.bits().count(),
        }
    }

    /// Bytes of the weights as they are held, scales included.
    pub fn num_bytes(&self) -> usize {
        match &self.kind {
            Kind::F32(values) => size_of_val::<[f32]>(values),
            Kind::Packed { codes, scales, .. } => codes.len() + size_of_val::<[f16]>(scales),
        }
    }

    /// `out [tokens, rows] = x [tokens, columns] * self^T + bias`.
    pub fn matmul(&self, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        match &self.kind {
            Kind::F32(values) => matmul_f32(Isa::active(), x, values, self.columns, bias, out),
            Kind::Packed { shape, codes, scales, activation_bits } => {
                let product = if *activation_bits == 8 { matmul_packed } else { matmul_unpacked };
                product(Isa::active(), x, &view(*shape, codes, scales), bias, out);
            }
        }
    }

    /// Writes a row to `out`, `[columns]`.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        match &self.kind {
            Kind::F32(values) => out.copy_from_slice(&values[row * self.columns..(row + 1) * self.columns]),
            Kind::Packed { shape, codes, scales, .. } => view(*shape, codes, scales).unpack_row(row, out),
        }
    }
}

/// The packed matrix over bytes that `Matrix::load_packed` has checked.
fn view<'a>(shape: PackedShape, codes: &'a [u8], scales: &'a [f16]) -> PackedMatrix<'a> {
    PackedMatrix::assume_valid(shape, codes, scales).expect("the lengths were checked when the matrix was loaded")
}
