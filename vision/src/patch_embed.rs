//! Pixels to patches: one convolution with kernel = stride = `patch_size`, or a convolutional stem.

use ndarray::{Array2, ArrayView3, Axis, Slice};
use ocelli_nn::{Linear, Weights};

use crate::config::{EncoderConfig, PatchEmbedKind};
use crate::conv_stem::{ConvStem, Grid};
use crate::error::Result;

/// The patch embedding of an encoder.
#[derive(Debug)]
pub(crate) enum PatchEmbed {
    /// A product on unfolded patches, `[num_channels, patch_size, patch_size]` each.
    Linear {
        /// `[hidden_size, num_channels * patch_size * patch_size]`.
        proj: Linear,
        /// Side of a patch in pixels.
        patch_size: usize,
    },
    /// Stages of smaller convolutions.
    ConvStem(ConvStem),
}

impl PatchEmbed {
    /// Reads `patch_embed` under the prefix of `weights`.
    pub(crate) fn load(weights: &Weights, config: &EncoderConfig) -> Result<Self> {
        let weights = weights.pp("patch_embed");
        match config.patch_embed {
            PatchEmbedKind::Linear => {
                let patch_size = config.patch_size;
                let in_features = config.num_channels * patch_size * patch_size;
                // CLIP has no bias here.
                let bias = weights.contains("proj.bias");
                let proj = match weights.shape("proj.weight") {
                    Some([_, _, _, _]) => {
                        let shape = [config.hidden_size, config.num_channels, patch_size, patch_size];
                        let matrix = weights.tensor("proj.weight", &shape)?;
                        let bias = bias.then(|| weights.tensor("proj.bias", &[config.hidden_size])).transpose()?;
                        Linear::from_f32(matrix, config.hidden_size, in_features, bias)
                    }
                    _ => weights.linear("proj", in_features, config.hidden_size, bias)?,
                };
                Ok(Self::Linear { proj, patch_size })
            }
            PatchEmbedKind::ConvStem => Ok(Self::ConvStem(ConvStem::load(&weights, config)?)),
        }
    }

    /// `view` `[num_channels, height, width]` to patches `[rows * columns, hidden_size]`; what is less than a patch at the right and at the bottom is
    /// left out.
    pub(crate) fn forward(&self, view: ArrayView3<f32>) -> Array2<f32> {
        match self {
            Self::Linear { proj, patch_size } => proj.forward(unfold(view, *patch_size).view()),
            Self::ConvStem(stem) => stem.forward(channels_last(view)).values,
        }
    }
}

/// `[channels, height, width]` to `[rows * columns, channels * patch_size * patch_size]`, order channel, y, x.
fn unfold(view: ArrayView3<f32>, patch_size: usize) -> Array2<f32> {
    let (channels, height, width) = view.dim();
    let (rows, columns) = (height / patch_size, width / patch_size);
    let mut unfolded = Array2::zeros((rows * columns, channels * patch_size * patch_size));
    for (index, mut patch) in unfolded.axis_iter_mut(Axis(0)).enumerate() {
        let (top, left) = (index / columns * patch_size, index % columns * patch_size);
        let lines = view.slice_axis(Axis(1), Slice::from(top..top + patch_size));
        let pixels = lines.slice_axis(Axis(2), Slice::from(left..left + patch_size));
        for (value, &source) in patch.iter_mut().zip(pixels) {
            *value = source;
        }
    }
    unfolded
}

/// `[channels, height, width]` to `[height * width, channels]`.
fn channels_last(view: ArrayView3<f32>) -> Grid {
    let (channels, height, width) = view.dim();
    let mut values = Array2::zeros((height * width, channels));
    for (plane, mut column) in view.outer_iter().zip(values.columns_mut()) {
        for (value, &source) in column.iter_mut().zip(plane) {
            *value = source;
        }
    }
    Grid { values, height, width }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    #[test]
    fn a_patch_is_unfolded_channel_by_channel_and_row_by_row() {
        let view = Array3::from_shape_fn((3, 4, 6), |(c, y, x)| (c * 100 + y * 10 + x) as f32);
        let unfolded = unfold(view.view(), 2);
        // The patch at row 1, column 2.
        let expected = [24.0, 25.0, 34.0, 35.0, 124.0, 125.0, 134.0, 135.0, 224.0, 225.0, 234.0, 235.0];
        assert_eq!(unfolded.row(5).to_vec(), expected);
    }

    #[test]
    fn less_than_a_patch_is_left_out() {
        let view = Array3::from_shape_fn((1, 5, 3), |(_, y, x)| (y * 10 + x) as f32);
        assert_eq!(unfold(view.view(), 2), ndarray::array![[0.0, 1.0, 10.0, 11.0], [20.0, 21.0, 30.0, 31.0]]);
    }

    #[test]
    fn channels_come_last_in_a_grid() {
        let view = Array3::from_shape_fn((3, 2, 2), |(c, y, x)| (c * 100 + y * 10 + x) as f32);
        assert_eq!(channels_last(view.view()).values.row(3).to_vec(), [11.0, 111.0, 211.0]);
    }
}
