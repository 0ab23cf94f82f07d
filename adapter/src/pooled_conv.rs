//! A 3 x 3 convolution and average pooling as one matrix product.
//!
//! ```text
//! direct:        tokens = mean over a window of conv(x)         one product for every patch
//! pooled first:  tokens = conv weights * [ mean over the window of x shifted by (dy, dx), for the nine shifts ]
//! ```
//!
//! No non-linearity stands between the two, so that they commute, up to rounding: at 48 x 48 patches and 12 x 12 tokens
//! the product is 16 times smaller. What lies outside the grid is 0 in a shifted grid, as the zero padding of the
//! convolution has it; the mean still divides by the whole window.
//!
//! ```text
//! stride = in / out (rounded down);  kernel = in - (out - 1) * stride
//! ```
//!
//! Source: the AFM 2025 report (arXiv 2507.13575) for the parts; the order and the window are defined in
//! `docs/architecture.md`.

use ndarray::{Array2, ArrayView2};

/// Where the pooling windows of one axis lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolAxis {
    /// Patches.
    pub(crate) input: usize,
    /// Tokens, from 1 to `input`.
    pub(crate) output: usize,
    /// Patches from one window to the next.
    pub(crate) stride: usize,
    /// Patches in a window.
    pub(crate) kernel: usize,
}

impl PoolAxis {
    /// `None` when `output` is 0 or more than `input`.
    pub(crate) fn new(input: usize, output: usize) -> Option<Self> {
        if output == 0 || output > input {
            return None;
        }
        let stride = input / output;
        Some(Self { input, output, stride, kernel: input - (output - 1) * stride })
    }

    /// The patches of window `token` in the grid shifted by `shift` (0, 1, 2 for -1, 0, +1) that are inside the grid.
    fn window(&self, token: usize, shift: usize) -> std::ops::Range<usize> {
        let start = token * self.stride + shift;
        start.max(1) - 1..(start + self.kernel).min(self.input + 1) - 1
    }
}

/// The nine shifted grids, pooled: `[rows * columns of tokens, 9 * features]` in the order y, x, feature.
///
/// `x`: `[rows * columns of patches, features]`.
pub(crate) fn pool_shifted(x: ArrayView2<f32>, rows: PoolAxis, columns: PoolAxis) -> Array2<f32> {
    let features = x.ncols();
    let scale = 1.0 / (rows.kernel * columns.kernel) as f32;
    let mut pooled = Array2::zeros((rows.output * columns.output, 9 * features));
    // Sums over the columns of each window, for one row of patches: [columns.output, 3, features].
    let mut row_sums = Array2::zeros((columns.output, 3 * features));
    for y in 0..rows.input {
        sum_columns(x, y, columns, &mut row_sums);
        for token_row in 0..rows.output {
            for dy in (0..3).filter(|&dy| rows.window(token_row, dy).contains(&y)) {
                for token_column in 0..columns.output {
                    let mut token = pooled.row_mut(token_row * columns.output + token_column);
                    let target = token.as_slice_mut().expect("a fresh array is contiguous");
                    let sums = row_sums.row(token_column);
                    for (value, &sum) in target[dy * 3 * features..].iter_mut().zip(&sums) {
                        *value += sum * scale;
                    }
                }
            }
        }
    }
    pooled
}

/// `row_sums[token, dx]` = the sum of the patches of row `y` in the token's window, shifted by dx.
fn sum_columns(x: ArrayView2<f32>, y: usize, columns: PoolAxis, row_sums: &mut Array2<f32>) {
    let features = x.ncols();
    row_sums.fill(0.0);
    for (token, mut sums) in row_sums.outer_iter_mut().enumerate() {
        let sums = sums.as_slice_mut().expect("a fresh array is contiguous");
        for (dx, sum) in sums.chunks_exact_mut(features).enumerate() {
            for column in columns.window(token, dx) {
                for (value, &patch) in sum.iter_mut().zip(x.row(y * columns.input + column)) {
                    *value += patch;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
