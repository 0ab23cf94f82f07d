//! `"model_type": "pixel_shuffle"`: the connector of Idefics3 and SmolVLM.
//!
//! ```text
//! features -> scale_factor x scale_factor patches side by side in one token -> proj
//! ```
//!
//! Source: `pixel_shuffle` of `modeling_idefics3.py` and `modeling_smolvlm.py` (transformers 5.23). There it is written in views and
//! permutations of a square grid; what comes out is the order of a token's features here: y, x, feature of the patch.

use ndarray::{Array2, ArrayView2};
use ocelli_nn::{Linear, Weights, on_pool};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// `"model_type": "pixel_shuffle"`: a square of patches side by side, and a linear layer without bias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PixelShuffleConfig {
    /// Side of the square of patches that become one image token.
    pub scale_factor: usize,
}

/// The largest `scale_factor`; models have 2 to 4.
const MAX_SCALE_FACTOR: usize = 16;

impl PixelShuffleConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        if !(1..=MAX_SCALE_FACTOR).contains(&self.scale_factor) {
            return Err(Error::Config {
                field: "scale_factor",
                found: self.scale_factor.to_string(),
                expected: format!("1 to {MAX_SCALE_FACTOR}"),
            });
        }
        Ok(())
    }

    pub(crate) fn num_parameters(&self, vision_hidden_size: usize, text_hidden_size: usize) -> usize {
        self.in_features(vision_hidden_size) * text_hidden_size
    }

    pub(crate) fn num_operations(&self, vision_hidden_size: usize, text_hidden_size: usize, num_tokens: usize) -> u64 {
        2 * (num_tokens * self.num_parameters(vision_hidden_size, text_hidden_size)) as u64
    }

    /// Features of a token before `proj`.
    fn in_features(&self, vision_hidden_size: usize) -> usize {
        self.scale_factor * self.scale_factor * vision_hidden_size
    }
}

#[derive(Debug)]
pub(crate) struct PixelShuffle {
    scale_factor: usize,
    proj: Linear,
}

impl PixelShuffle {
    pub(crate) fn load(
        weights: &Weights,
        config: &PixelShuffleConfig,
        vision_hidden_size: usize,
        text_hidden_size: usize,
    ) -> Result<Self> {
        let proj = weights.linear("proj", config.in_features(vision_hidden_size), text_hidden_size, false)?;
        Ok(Self { scale_factor: config.scale_factor, proj })
    }

    /// `features`: `[rows * columns of the grid, vision hidden_size]`.
    pub(crate) fn adapt(
        &self,
        features: ArrayView2<f32>,
        grid: (usize, usize),
        pooled: (usize, usize),
    ) -> Result<Array2<f32>> {
        let scale_factor = self.scale_factor;
        if [pooled.0, pooled.1].map(|side| side.checked_mul(scale_factor)) != [Some(grid.0), Some(grid.1)] {
            return Err(Error::Grid { grid, pooled, scale_factor });
        }
        Ok(on_pool(|| self.proj.forward(pixel_shuffle(features, grid, scale_factor).view())))
    }
}

/// Patches, `[rows * columns, features]`, to tokens, `[rows * columns / scale_factor^2, scale_factor^2 * features]`; both sides of the grid are
/// multiples of `scale_factor`.
fn pixel_shuffle(x: ArrayView2<f32>, (rows, columns): (usize, usize), scale_factor: usize) -> Array2<f32> {
    let features = x.ncols();
    let area = scale_factor * scale_factor;
    let mut tokens = Array2::zeros((rows * columns / area, area * features));
    for (index, patch) in x.rows().into_iter().enumerate() {
        let (row, column) = (index / columns, index % columns);
        let token = row / scale_factor * (columns / scale_factor) + column / scale_factor;
        let place = row % scale_factor * scale_factor + column % scale_factor;
        let mut token = tokens.row_mut(token);
        let target = token.as_slice_mut().expect("a fresh array is contiguous");
        for (value, &feature) in target[place * features..].iter_mut().zip(&patch) {
            *value = feature;
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patches_of_a_token_stand_in_reading_order() {
        // 4 x 6 patches of two features: the number of the patch and its negative.
        let x = Array2::from_shape_fn((24, 2), |(patch, feature)| patch as f32 * [1.0, -1.0][feature]);
        let tokens = pixel_shuffle(x.view(), (4, 6), 2);
        assert_eq!(tokens.dim(), (6, 8));
        assert_eq!(tokens.row(0).to_vec(), [0.0, 0.0, 1.0, -1.0, 6.0, -6.0, 7.0, -7.0]);
        assert_eq!(tokens.row(5).to_vec(), [16.0, -16.0, 17.0, -17.0, 22.0, -22.0, 23.0, -23.0]);
    }
}
