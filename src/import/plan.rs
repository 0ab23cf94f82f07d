//! What an import writes: which tensors in which form.

use ocelli_nn::{Bits, PackedShape, PlannedTensor, TensorType, Weights};
use serde_json::Value;

use super::{ImportOptions, quantization_config, zero_point};
use crate::error::Result;

/// The parts whose bits can differ.
const PARTS: [&str; 5] = ["embedding", "output_transform", "layers", "vision", "adapter"];

/// The tensors of the new file.
pub(super) struct Plan {
    /// Tensors that stay floats, in the type that they have: norms, biases, positions, convolutions.
    pub(super) floats: Vec<String>,
    /// Matrices of linear layers and embeddings.
    pub(super) matrices: Vec<PlannedMatrix>,
    tensors: Vec<PlannedTensor>,
    /// The packed parts and their bits.
    parts: Vec<(&'static str, u32)>,
    group_size: Option<usize>,
}

/// A matrix `[rows, columns]`.
pub(super) struct PlannedMatrix {
    pub(super) name: String,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) bits: u32,
    pub(super) storage: Storage,
}

/// How a matrix is stored.
#[derive(Clone, Copy)]
pub(super) enum Storage {
    /// `F32`, `BF16` or `F16`.
    Float(&'static str),
    /// Codes and scales.
    Packed(PackedShape),
}

impl Storage {
    pub(super) fn group_size(&self) -> Option<usize> {
        match self {
            Storage::Float(_) => None,
            Storage::Packed(shape) => shape.group_size(),
        }
    }
}

impl Plan {
    pub(super) fn new(weights: &Weights, options: &ImportOptions) -> Result<Self> {
        let parts = PARTS.into_iter().map(|part| (part, options.bits_of(part)));
        let mut plan = Plan {
            floats: Vec::new(),
            matrices: Vec::new(),
            tensors: Vec::new(),
            parts: parts.filter(|(_, bits)| *bits <= 8).collect(),
            group_size: options.group_size,
        };
        let mut has_part = PARTS.map(|_| false);
        for name in weights.names() {
            let shape = weights.shape(name).unwrap_or_default();
            let part = PARTS.iter().position(|part| name.split('.').next() == Some(*part));
            match (shape, part) {
                (&[rows, columns], Some(part)) if name.ends_with(".weight") => {
                    has_part[part] = true;
                    plan.add_matrix(weights, name, [rows, columns], options)?;
                }
                _ => {
                    let dtype = tensor_type(&weights.dtype(name).unwrap_or_default());
                    plan.tensors.push(PlannedTensor { name: name.to_owned(), dtype, shape: shape.to_vec() });
                    plan.floats.push(name.to_owned());
                }
            }
        }
        plan.parts.retain(|(part, _)| PARTS.iter().zip(has_part).any(|(name, has)| has && name == part));
        Ok(plan)
    }

    fn add_matrix(
        &mut self,
        weights: &Weights,
        name: &str,
        [rows, columns]: [usize; 2],
        options: &ImportOptions,
    ) -> Result<()> {
        let bits = options.bits_of(name);
        let module = name.trim_end_matches(".weight");
        let storage = match bits {
            32 => Storage::Float("F32"),
            // bf16 has the range of f32; what is f16 already stays so.
            16 => Storage::Float(if weights.dtype(name).as_deref() == Some("F16") { "F16" } else { "BF16" }),
            _ => {
                let packed = |error: ocelli_nn::PackError| ocelli_nn::Error::Write {
                    tensor: name.to_owned(),
                    detail: error.to_string(),
                };
                let packed_bits = Bits::new(bits).map_err(packed)?;
                Storage::Packed(
                    PackedShape::new(packed_bits, rows, columns, options.group_size)
                        .and_then(|shape| shape.with_zero_point(zero_point(bits)))
                        .map_err(packed)?,
                )
            }
        };
        match storage {
            Storage::Float(dtype) => {
                let dtype = tensor_type(dtype);
                self.tensors.push(PlannedTensor { name: name.to_owned(), dtype, shape: vec![rows, columns] });
            }
            Storage::Packed(shape) => {
                let tensor = |kind: &str, dtype, width| PlannedTensor {
                    name: format!("{module}.weight_{kind}"),
                    dtype,
                    shape: vec![rows, width],
                };
                self.tensors.push(tensor("codes", TensorType::U8, shape.row_bytes()));
                self.tensors.push(tensor("scales", TensorType::F16, shape.num_groups()));
            }
        }
        self.matrices.push(PlannedMatrix { name: name.to_owned(), rows, columns, bits, storage });
        Ok(())
    }

    pub(super) fn tensors(&self) -> Vec<PlannedTensor> {
        self.tensors.clone()
    }

    /// Weights of all matrices.
    pub(super) fn num_weights(&self) -> u64 {
        self.matrices.iter().map(|matrix| matrix.rows as u64 * matrix.columns as u64).sum()
    }

    /// Bytes of all tensors.
    pub(super) fn num_bytes(&self) -> u64 {
        self.tensors
            .iter()
            .map(|tensor| tensor.shape.iter().product::<usize>() as u64 * tensor.dtype.width() as u64)
            .sum()
    }

    /// `quantization_config`, if anything is packed.
    pub(super) fn quantization(&self) -> Option<Value> {
        (!self.parts.is_empty()).then(|| quantization_config(&self.parts, self.group_size))
    }
}

fn tensor_type(dtype: &str) -> TensorType {
    match dtype {
        "BF16" => TensorType::BF16,
        "F16" => TensorType::F16,
        _ => TensorType::F32,
    }
}
