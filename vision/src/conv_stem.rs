//! The convolutional stem: stages of convolutions with kernel = stride, then residual blocks of 3 x 3 convolutions.
//!
//! ```text
//! stage: x <- proj(x)                                     kernel = stride, no padding
//!        x <- x + conv2(act(conv1(layer_norm(x))))        3 x 3, zero padding 1, `num_blocks` times
//! ```
//!
//! Every convolution is a matrix product on unfolded rows `[kernel, kernel, channels]` (order y, x, channel). They are
//! unfolded a strip of grid rows at a time, which stays in the cache and bounds the memory.
//!
//! Source: `docs/format.md`; the idea of a stem is from "Early Convolutions Help Transformers See Better"
//! (arXiv 2106.14881).

use ndarray::{Array2, ArrayView2, Axis, Slice};
use ocelli_nn::{Activation, LayerNorm, Linear, Weights};

use crate::config::{ConvStageConfig, EncoderConfig};
use crate::error::Result;

/// About how many numbers are unfolded at once: 2 MB as f32.
const STRIP: usize = 1 << 19;

/// Pixels or features on a grid, `[height * width, channels]`.
pub(crate) struct Grid {
    pub(crate) values: Array2<f32>,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// The stages of the stem.
#[derive(Debug)]
pub(crate) struct ConvStem {
    stages: Vec<ConvStage>,
}

#[derive(Debug)]
struct ConvStage {
    proj: Linear,
    kernel_size: usize,
    blocks: Vec<ConvBlock>,
}

#[derive(Debug)]
struct ConvBlock {
    norm: LayerNorm,
    conv1: Linear,
    conv2: Linear,
    hidden_act: Activation,
}

impl ConvStem {
    /// Reads `stages.{i}` under the prefix of `weights`.
    pub(crate) fn load(weights: &Weights, config: &EncoderConfig) -> Result<Self> {
        let stages = config
            .conv_stages()
            .enumerate()
            .map(|(index, (channels_in, stage))| {
                ConvStage::load(&weights.pp(format!("stages.{index}")), channels_in, &stage, config)
            })
            .collect::<Result<_>>()?;
        Ok(Self { stages })
    }

    /// Pixels `[height * width, num_channels]` to patches; the strides of all stages divide the sides.
    pub(crate) fn forward(&self, pixels: Grid) -> Grid {
        self.stages.iter().fold(pixels, |grid, stage| stage.forward(&grid))
    }
}

impl ConvStage {
    fn load(weights: &Weights, channels_in: usize, stage: &ConvStageConfig, config: &EncoderConfig) -> Result<Self> {
        let ConvStageConfig { kernel_size, channels, num_blocks } = *stage;
        let proj = weights.linear("proj", kernel_size * kernel_size * channels_in, channels, true)?;
        let blocks = (0..num_blocks)
            .map(|block| {
                let weights = weights.pp(format!("blocks.{block}"));
                Ok(ConvBlock {
                    norm: LayerNorm::load(&weights.pp("norm"), channels, config.layer_norm_eps)?,
                    conv1: weights.linear("conv1", 9 * channels, channels, true)?,
                    conv2: weights.linear("conv2", 9 * channels, channels, true)?,
                    hidden_act: config.hidden_act,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { proj, kernel_size, blocks })
    }

    fn forward(&self, input: &Grid) -> Grid {
        let (height, width) = (input.height / self.kernel_size, input.width / self.kernel_size);
        let values = convolve(&self.proj, (height, width), |row, unfolded| {
            unfold_strided(input, self.kernel_size, row, unfolded);
        });
        let mut output = Grid { values, height, width };
        for block in &self.blocks {
            block.forward(&mut output);
        }
        output
    }
}

impl ConvBlock {
    fn forward(&self, grid: &mut Grid) {
        let size = (grid.height, grid.width);
        let on_grid = |values| Grid { values, height: size.0, width: size.1 };
        let normed = on_grid(self.norm.forward(grid.values.view()));
        let mut hidden = on_grid(convolve(&self.conv1, size, |row, unfolded| unfold_3x3(&normed, row, unfolded)));
        self.hidden_act.forward_in_place(&mut hidden.values);
        grid.values += &convolve(&self.conv2, size, |row, unfolded| unfold_3x3(&hidden, row, unfolded));
    }
}

/// A convolution as products of unfolded strips: `unfold(row, buffer)` fills one grid row of `[width, in_features]`.
fn convolve(linear: &Linear, (height, width): (usize, usize), unfold: impl Fn(usize, &mut [f32])) -> Array2<f32> {
    let row_length = width * linear.in_features();
    let strip_height = (STRIP / row_length).clamp(1, height);
    let mut output = Array2::zeros((height * width, linear.out_features()));
    let mut unfolded = vec![0.0; strip_height * row_length];
    for top in (0..height).step_by(strip_height) {
        let rows = strip_height.min(height - top);
        for (offset, buffer) in unfolded.chunks_exact_mut(row_length).take(rows).enumerate() {
            unfold(top + offset, buffer);
        }
        let strip = ArrayView2::from_shape((rows * width, linear.in_features()), &unfolded[..rows * row_length])
            .expect("the strip has one row for each position");
        let positions = Slice::from(top * width..(top + rows) * width);
        output.slice_axis_mut(Axis(0), positions).assign(&linear.forward(strip));
    }
    output
}

/// One output row of a convolution with kernel = stride: each run of `kernel_size` pixels of a line lies together.
fn unfold_strided(input: &Grid, kernel_size: usize, row: usize, unfolded: &mut [f32]) {
    let channels = input.values.ncols();
    let values = input.values.as_slice().expect("a grid is contiguous");
    let run = kernel_size * channels;
    for (column, patch) in unfolded.chunks_exact_mut(kernel_size * run).enumerate() {
        for (y, line) in patch.chunks_exact_mut(run).enumerate() {
            let start = ((row * kernel_size + y) * input.width + column * kernel_size) * channels;
            line.copy_from_slice(&values[start..start + run]);
        }
    }
}

/// One output row of a 3 x 3 convolution with zero padding 1.
fn unfold_3x3(input: &Grid, row: usize, unfolded: &mut [f32]) {
    let channels = input.values.ncols();
    let values = input.values.as_slice().expect("a grid is contiguous");
    let run = 3 * channels;
    for (column, neighbours) in unfolded.chunks_exact_mut(3 * run).enumerate() {
        // Columns `column - 1 ..= column + 1` of the input, cut off at the borders.
        let (left, right) = (column.saturating_sub(1), (column + 2).min(input.width));
        let start = (left + 1 - column) * channels;
        let length = (right - left) * channels;
        for (y, line) in neighbours.chunks_exact_mut(run).enumerate() {
            line.fill(0.0);
            let source_row = row + y;
            if (1..=input.height).contains(&source_row) {
                let source = ((source_row - 1) * input.width + left) * channels;
                line[start..start + length].copy_from_slice(&values[source..source + length]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    fn grid(height: usize, width: usize, channels: usize) -> Grid {
        let values = Array2::from_shape_fn((height * width, channels), |(i, c)| (10 * i + c + 1) as f32);
        Grid { values, height, width }
    }

    #[test]
    fn unfolding_3x3_is_zero_outside_and_the_neighbour_inside() {
        for (height, width) in [(1, 1), (1, 4), (4, 1), (2, 2), (3, 5)] {
            let input = grid(height, width, 2);
            for row in 0..height {
                let mut unfolded = vec![f32::NAN; width * 18];
                unfold_3x3(&input, row, &mut unfolded);
                for column in 0..width {
                    for (y, x, c) in (0..3).flat_map(|y| (0..3).flat_map(move |x| (0..2).map(move |c| (y, x, c)))) {
                        let (source_row, source_column) = (row + y, column + x);
                        let inside = (1..=height).contains(&source_row) && (1..=width).contains(&source_column);
                        let expected =
                            if inside { input.values[[(source_row - 1) * width + source_column - 1, c]] } else { 0.0 };
                        let found = unfolded[column * 18 + (y * 3 + x) * 2 + c];
                        assert_eq!(
                            found, expected,
                            "{height} x {width}, output ({row}, {column}), tap ({y}, {x}, {c})"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn unfolding_with_stride_reads_each_pixel_once() {
        let input = grid(4, 6, 3);
        let mut seen = Vec::new();
        for row in 0..2 {
            let mut unfolded = vec![f32::NAN; 3 * 2 * 2 * 3];
            unfold_strided(&input, 2, row, &mut unfolded);
            seen.extend(unfolded);
        }
        // Output (1, 2), tap (y 0, x 1), channel 2: the input at row 2, column 5.
        assert_eq!(seen[5 * 12 + 5], input.values[[2 * 6 + 5, 2]]);
        seen.sort_by(f32::total_cmp);
        let mut all = input.values.into_raw_vec_and_offset().0;
        all.sort_by(f32::total_cmp);
        assert_eq!(seen, all);
    }
}
