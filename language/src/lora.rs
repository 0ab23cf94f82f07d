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
use std::collections::{BTreeMap, BTreeSet};

use ocelli_nn::{Linear, Weights};

use crate::config::TextConfig;
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

/// What a low-rank adapter adds to the matrices of a decoder, for merging it into them.
#[derive(Debug)]
pub struct LoraDeltas {
    file: String,
    modules: BTreeMap<String, Vec<LoraDelta>>,
}

/// `matrix[first_row..][..rows] += b^T a^T` with `a` `[columns, rank]` and `b` `[rank, rows]`, the scale in `b`.
#[derive(Debug)]
struct LoraDelta {
    /// Which of queries, keys and values it is for; 0 elsewhere.
    part: usize,
    first_row: usize,
    rank: usize,
    a: Vec<f32>,
    b: Vec<f32>,
}

impl LoraDeltas {
    /// The adapter in `weights`, for a decoder of `config`.
    ///
    /// # Errors
    /// [`ErrorKind::Weights`](crate::ErrorKind::Weights) naming the tensor that is missing, misshapen or not finite;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a file with two adapters.
    pub fn new(weights: &Weights, config: &TextConfig) -> Result<Self> {
        let lora = LoraWeights::new(weights, config.lora_alpha)?;
        let mut modules: BTreeMap<String, Vec<LoraDelta>> = BTreeMap::new();
        let pairs: BTreeSet<&str> = weights
            .names()
            .into_iter()
            .filter_map(|name| name.strip_suffix(".a_transpose").or(name.strip_suffix(".b_transpose")))
            .collect();
        for pair in pairs {
            let Some((module, rest)) = pair.split_once(".adapters.") else { continue };
            let (part, first_row) = match rest.split_once('.').map(|(_, part)| part) {
                Some("lora_1") => (1, config.q_dim()),
                Some("lora_2") => (2, config.q_dim() + config.kv_dim()),
                _ => (0, 0),
            };
            let [a_name, b_name] = ["a_transpose", "b_transpose"].map(|name| format!("{pair}.{name}"));
            let shape_of = |name: &str| match weights.shape(name) {
                Some(&[rows, columns]) if rows > 0 && columns > 0 => Ok([rows, columns]),
                shape => {
                    let found = shape.map_or("missing".into(), |shape| format!("of shape {shape:?}"));
                    Err(lora.error(name.to_owned(), found, "a matrix".into()))
                }
            };
            let (a_shape, b_shape) = (shape_of(&a_name)?, shape_of(&b_name)?);
            let rank = a_shape[1];
            let a = lora.matrix(&a_name, a_shape)?;
            let num_rows = match rest.contains(".lora_") {
                true if part == 0 => config.q_dim(),
                true => config.kv_dim(),
                false => b_shape[1],
            };
            let mut b = lora.matrix(&b_name, [rank, num_rows])?;
            let scale = config.lora_alpha.map_or(1.0, |alpha| alpha / rank as f32);
            b.iter_mut().for_each(|value| *value *= scale);
            modules.entry(module.to_owned()).or_default().push(LoraDelta { part, first_row, rank, a, b });
        }
        lora.check_all_used()?;
        Ok(Self { file: weights.label().to_owned(), modules })
    }

    /// Checks that everything here is for a matrix of `weights`, and has its size.
    ///
    /// # Errors
    /// [`ErrorKind::Weights`](crate::ErrorKind::Weights) naming the layer that is not there or has another size.
    pub fn check(&self, weights: &Weights) -> Result<()> {
        let refused = |layer: &str, found: String| {
            let (file, tensor) = (self.file.clone(), format!("{layer}.adapters"));
            Err(Error::Tensor { file, tensor, found, expected: "an adapter for this model".into() })
        };
        let mut unused: BTreeSet<&str> = self.modules.keys().map(String::as_str).collect();
        for name in weights.names() {
            let (Some((layer, part)), Some(&[rows, columns])) = (layer_of(name), weights.shape(name)) else { continue };
            for delta in self.modules.get(&layer).into_iter().flatten() {
                let (num_rows, num_columns) = (delta.b.len() / delta.rank, delta.a.len() / delta.rank);
                let is_whole = part.is_some() || !name.contains(".fused_linear");
                let fits = if is_whole { num_rows == rows } else { delta.first_row + num_rows <= rows };
                if part.is_none_or(|part| part == delta.part) && (num_columns != columns || !fits) {
                    return refused(
                        &layer,
                        format!("for a matrix [{num_rows}, {num_columns}], not [{rows}, {columns}]"),
                    );
                }
            }
            unused.remove(&*layer);
        }
        match unused.first() {
            None => Ok(()),
            Some(layer) => refused(layer, "for a layer that the model does not have".to_owned()),
        }
    }

    /// Adds to rows of the tensor `name`, from `first_row` on; other tensors stay as they are.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the adapter is for a matrix of another width.
    pub fn add_to(&self, name: &str, first_row: usize, rows: &mut [f32]) -> Result<()> {
        let Some((layer, part)) = layer_of(name) else { return Ok(()) };
        let Some(deltas) = self.modules.get(&layer) else { return Ok(()) };
        for delta in deltas {
            if part.is_some_and(|part| part != delta.part) {
                continue;
            }
            let columns = delta.a.len() / delta.rank;
            if !rows.len().is_multiple_of(columns) {
                return Err(Error::Shape {
                    what: "the matrix that an adapter is for",
                    found: format!("{name} with other columns"),
                    expected: format!("{columns} columns"),
                });
            }
            let offset = if part.is_some() { 0 } else { delta.first_row };
            delta.add_to(offset, first_row, rows, columns);
        }
        Ok(())
    }
}

/// The layer that adapters know the matrix `name` by, and which of queries, keys and values it is where they are apart. They share the name of
/// their layer, fused or not.
fn layer_of(name: &str) -> Option<(String, Option<usize>)> {
    let module = name.strip_suffix(".weight")?.replace(".wrapped", "");
    let fused = module.strip_suffix(".fused_linear");
    let unfused = module.rsplit_once(".linear_").filter(|(layer, _)| layer.ends_with("qkv_transform"));
    Some(match (fused, unfused) {
        (Some(layer), _) => (layer.to_owned(), None),
        (None, Some((layer, part))) => (layer.to_owned(), part.parse().ok()),
        (None, None) => (module, None),
    })
}

impl LoraDelta {
    /// `rows` are `[n, columns]` from `first_row` of a matrix on, in which this begins at row `offset`.
    fn add_to(&self, offset: usize, first_row: usize, rows: &mut [f32], columns: usize) {
        let num_rows = self.b.len() / self.rank;
        for (row, values) in rows.chunks_exact_mut(columns).enumerate() {
            let Some(row) = (first_row + row).checked_sub(offset).filter(|&row| row < num_rows) else { continue };
            for (value, a) in values.iter_mut().zip(self.a.chunks_exact(self.rank)) {
                let products = a.iter().enumerate().map(|(rank, a)| a * self.b[rank * num_rows + row]);
                *value += products.sum::<f32>();
            }
        }
    }
}
