//! Low-rank adapters in the form of `tamm`: `y = W x + (alpha / rank) * B A x`.
//!
//! An adapter is the adapter part of a state dict, in adapter.safetensors beside the model:
//!
//! ```text
//! MODULE.adapters.ID.a_transpose           [in, rank]        MODULE.adapters.ID.b_transpose           [rank, out]
//! MODULE.adapters.ID.lora_{0,1,2}.a_transpose ...            for the queries, keys and values of a fused layer
//! ```
//!
//! It stays apart from the weights, which may be packed, and costs two thin products. Source: tamm 0.2.0,
//! `_adapters_v1/layer_adapters/lora.py` (Hu et al. 2021, arXiv 2106.09685).

use std::cell::RefCell;
use std::collections::BTreeSet;

use ocelli_nn::{Linear, Weights};

use crate::error::{Error, Result};

/// The tensors of an adapter, while a decoder is loaded with it.
pub(crate) struct LoraWeights<'a> {
    weights: &'a Weights,
    id: String,
    alpha: Option<f32>,
    unused: RefCell<BTreeSet<String>>,
}

/// The outputs of a linear layer that a part of an adapter adds to.
pub(crate) struct LoraOutputs {
    /// The first of them.
    pub(crate) first: usize,
    /// How many they are.
    pub(crate) count: usize,
}

impl<'a> LoraWeights<'a> {
    /// The adapter in `weights`. Without `alpha` its scale is 1.
    pub(crate) fn new(weights: &'a Weights, alpha: Option<f32>) -> Result<Self> {
        let names = weights.names();
        let mut ids = names.iter().filter_map(|name| name.split_once(".adapters.")?.1.split('.').next());
        let Some(id) = ids.next() else {
            return Err(Error::Tensor {
                file: weights.label().to_owned(),
                tensor: "MODULE.adapters.ID.a_transpose".into(),
                found: "missing".into(),
                expected: "the tensors of an adapter".into(),
            });
        };
        if let Some(other) = ids.find(|other| *other != id) {
            return Err(Error::Unsupported {
                what: format!("a file with two adapters, `{id}` and `{other}`"),
                hint: "keep one of them in it",
            });
        }
        let unused = names.iter().map(|&name| name.to_owned()).collect();
        Ok(Self { weights, id: id.to_owned(), alpha, unused: RefCell::new(unused) })
    }

    /// `linear` with what the adapter adds to some `outputs` of `module`, if anything; `part` is `lora_0.` ... of a fused layer,
    /// otherwise empty.
    pub(crate) fn adapt(&self, linear: Linear, module: &str, part: &str, outputs: LoraOutputs) -> Result<Linear> {
        let [a_name, b_name] =
            ["a_transpose", "b_transpose"].map(|name| format!("{module}.adapters.{}.{part}{name}", self.id));
        let rank = match self.weights.shape(&a_name) {
            None if !self.weights.contains(&b_name) => return Ok(linear),
            Some(&[_, rank]) if rank > 0 => rank,
            shape => {
                let found = shape.map_or("missing".into(), |shape| format!("of shape {shape:?}"));
                return Err(self.error(a_name, found, format!("[{}, rank]", linear.in_features())));
            }
        };
        let a = self.matrix(&a_name, [linear.in_features(), rank])?;
        let b = self.matrix(&b_name, [rank, outputs.count])?;
        let scale = self.alpha.map_or(1.0, |alpha| alpha / rank as f32);
        Ok(linear.with_low_rank(&a, &b, rank, outputs.first, scale))
    }

    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Vec<f32>> {
        let values = self.weights.tensor(name, &shape)?;
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(self.error(name.to_owned(), format!("not finite ({value})"), "finite numbers".into()));
        }
        self.unused.borrow_mut().remove(name);
        Ok(values)
    }

    /// Checks that every tensor of the adapter found its layer.
    pub(crate) fn check_all_used(&self) -> Result<()> {
        match self.unused.borrow().first() {
            None => Ok(()),
            Some(name) => {
                let found = "for a layer that the model does not have".into();
                Err(self.error(name.clone(), found, "a tensor of an adapter for this model".into()))
            }
        }
    }

    fn error(&self, tensor: String, found: String, expected: String) -> Error {
        Error::Tensor { file: self.weights.label().to_owned(), tensor, found, expected }
    }
}
