//! Linear layers of the decoder on one input.

use ndarray::{Array2, ArrayView2, Axis};
use ocelli_nn::Linear;

/// One linear layer, or several whose outputs stand side by side.
#[derive(Debug)]
pub(crate) struct Projection {
    pub(crate) first: Linear,
    pub(crate) others: Vec<Linear>,
}

impl Projection {
    /// `x`: `[tokens, in_features]`; the result `[tokens, out_features]`, of all layers.
    pub(crate) fn forward(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut y = self.first.forward(x);
        for linear in &self.others {
            y.append(Axis(1), linear.forward(x).view()).expect("outputs of one input have the same number of rows");
        }
        y
    }
}
