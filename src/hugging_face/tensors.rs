//! Which tensor of a checkpoint is which tensor here.

use std::collections::{HashMap, HashSet};

use ocelli_nn::{Weights, WeightsWriter};

use crate::error::{Cause, Result};

/// Tensors under their names here, collected one by one; what is left over is an error.
pub(super) struct TensorMap<'a> {
    weights: &'a Weights,
    /// Name here, name in the checkpoint.
    names: Vec<(String, String)>,
    /// Tensors that are made of others.
    derived: WeightsWriter,
    used: HashSet<String>,
}

impl<'a> TensorMap<'a> {
    pub(super) fn new(weights: &'a Weights) -> Self {
        Self { weights, names: Vec::new(), derived: WeightsWriter::new(), used: HashSet::new() }
    }

    pub(super) fn contains(&self, source: &str) -> bool {
        self.weights.contains(source)
    }

    /// The first of `prefixes` under which there is a tensor `name`; the first of all if there is none, for the error that follows.
    pub(super) fn prefix<'p>(&self, prefixes: &[&'p str], name: &str) -> &'p str {
        let found = prefixes.iter().find(|prefix| self.contains(&format!("{prefix}{name}")));
        found.or(prefixes.first()).copied().unwrap_or_default()
    }

    /// The tensor `source` of that shape is `name` here.
    pub(super) fn take(&mut self, source: &str, name: &str, shape: &[usize]) -> Result<()> {
        self.check(source, shape)?;
        self.names.push((name.to_owned(), source.to_owned()));
        Ok(())
    }

    /// `source.weight`, `[out_features, in_features]`, and `source.bias`.
    pub(super) fn take_linear(&mut self, source: &str, name: &str, shape: [usize; 2], bias: bool) -> Result<()> {
        self.take(&format!("{source}.weight"), &format!("{name}.weight"), &shape)?;
        if bias {
            self.take(&format!("{source}.bias"), &format!("{name}.bias"), &shape[..1])?;
        }
        Ok(())
    }

    /// `source.weight` and `source.bias` of a norm.
    pub(super) fn take_norm(&mut self, source: &str, name: &str, width: usize) -> Result<()> {
        self.take(&format!("{source}.weight"), &format!("{name}.weight"), &[width])?;
        self.take(&format!("{source}.bias"), &format!("{name}.bias"), &[width])
    }

    /// The values of a tensor of which others are made.
    pub(super) fn read(&mut self, source: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.check(source, shape)?;
        let values = self.weights.tensor(source, shape)?;
        check_finite(source, self.weights.label(), &values)?;
        Ok(values)
    }

    /// A tensor that is made of others.
    pub(super) fn derive(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        self.derived.f32(name, shape, values)?;
        Ok(())
    }

    fn check(&mut self, source: &str, shape: &[usize]) -> Result<()> {
        let file = || self.weights.label().to_owned();
        match self.weights.shape(source) {
            None => Err(ocelli_nn::Error::MissingTensor { tensor: source.to_owned(), file: file() }.into()),
            Some(found) if found != shape => {
                let (expected, found) = (shape.to_vec(), found.to_vec());
                Err(ocelli_nn::Error::Shape { tensor: source.to_owned(), file: file(), expected, found }.into())
            }
            Some(_) => {
                self.used.insert(source.to_owned());
                Ok(())
            }
        }
    }

    /// The weights under their names here, and the names in the checkpoint of those that are in it. `ignored`: beginnings of names that the
    /// model has and this engine does not need.
    pub(super) fn finish(self, architecture: &str, ignored: &[&str]) -> Result<(Weights, HashMap<String, String>)> {
        let is_extra = |name: &&str| {
            !self.used.contains(*name)
                && !name.ends_with(".position_ids")
                && !name.ends_with(".rotary_emb.inv_freq")
                && !ignored.iter().any(|prefix| name.starts_with(prefix))
        };
        if let Some(extra) = self.weights.names().into_iter().find(is_extra) {
            let (tensor, file) = (extra.to_owned(), self.weights.label().to_owned());
            return Err(Cause::ExtraTensor { tensor, file, architecture: architecture.to_owned() }.into());
        }
        let weights = self.weights.renamed(self.names.clone())?.with_tensors(self.derived)?;
        Ok((weights, self.names.into_iter().collect()))
    }
}

/// Refuses values that are no numbers; messages call the tensor and its file as given.
pub(crate) fn check_finite(tensor: &str, file: &str, values: &[f32]) -> Result<()> {
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(value) => {
            let (tensor, file) = (tensor.to_owned(), file.to_owned());
            Err(Cause::NotFinite { tensor, file, found: value.to_string() }.into())
        }
    }
}
