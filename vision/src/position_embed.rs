//! Learned position embeddings on a grid, resampled to the grid of a view.
//!
//! Bicubic with a = -0.75, pixel centres at halves, borders repeated, not antialiased: PyTorch's
//! `F.interpolate(mode="bicubic", align_corners=False)`, which the models were trained with.
//!
//! ```text
//! source = (target + 0.5) * source_length / target_length - 0.5
//! value  = sum over the four neighbours k of floor(source) - 1 ..= floor(source) + 2 of w(source - k) * table[k]
//! w(t)   = (a + 2)|t|^3 - (a + 3)|t|^2 + 1          for |t| <= 1
//!          a|t|^3 - 5a|t|^2 + 8a|t| - 4a            for 1 < |t| < 2
//! ```
//!
//! Source: Keys, "Cubic convolution interpolation for digital image processing" (1981); a from PyTorch.

use std::collections::HashMap;

use ndarray::{Array2, Array3, ArrayView2, Axis};
use ocelli_nn::Weights;

use crate::error::Result;

/// PyTorch's coefficient; PIL's (see `resize.rs`) is -0.5.
const A: f32 = -0.75;

/// A table of position embeddings and its resampled copies.
#[derive(Debug)]
pub(crate) struct PositionEmbedding {
    /// `[rows, columns, hidden_size]`.
    table: Array3<f32>,
    /// By `(rows, columns)`: `[rows * columns, hidden_size]`.
    resampled: HashMap<(usize, usize), Array2<f32>>,
}

impl PositionEmbedding {
    /// Reads `position_embedding`, `[rows, columns, hidden_size]`, and resamples it for each of `grids`.
    pub(crate) fn load(
        weights: &Weights,
        size: [usize; 2],
        hidden_size: usize,
        grids: &[(usize, usize)],
    ) -> Result<Self> {
        let shape = [size[0], size[1], hidden_size];
        let values = weights.tensor("position_embedding", &shape)?;
        let table = Array3::from_shape_vec(shape, values).expect("the tensor has the shape that was asked for");
        let resampled = grids.iter().map(|&grid| (grid, resample(&table, grid))).collect();
        Ok(Self { table, resampled })
    }

    /// Adds the embedding of each position to `patches`, `[rows * columns, hidden_size]`.
    pub(crate) fn add_to(&self, patches: &mut Array2<f32>, grid: (usize, usize)) {
        match self.resampled.get(&grid) {
            Some(positions) => *patches += positions,
            None => *patches += &resample(&self.table, grid),
        }
    }
}

/// `table` `[rows, columns, hidden_size]` on another grid, as `[rows * columns, hidden_size]`.
fn resample(table: &Array3<f32>, (rows, columns): (usize, usize)) -> Array2<f32> {
    let (table_rows, table_columns, hidden_size) = table.dim();
    let row_taps = taps(table_rows, rows);
    let column_taps = taps(table_columns, columns);
    let mut resampled = Array2::zeros((rows * columns, hidden_size));
    for (index, mut output) in resampled.axis_iter_mut(Axis(0)).enumerate() {
        for &(row, row_weight) in &row_taps[index / columns] {
            let table_row: ArrayView2<f32> = table.index_axis(Axis(0), row);
            for &(column, column_weight) in &column_taps[index % columns] {
                output.scaled_add(row_weight * column_weight, &table_row.row(column));
            }
        }
    }
    resampled
}

/// For each target position the four source positions and their weights.
fn taps(source_length: usize, target_length: usize) -> Vec<[(usize, f32); 4]> {
    let scale = source_length as f32 / target_length as f32;
    let last = source_length as isize - 1;
    (0..target_length)
        .map(|target| {
            let source = (target as f32 + 0.5) * scale - 0.5;
            let floor = source.floor();
            std::array::from_fn(|tap| {
                let offset = tap as f32 - 1.0;
                let position = (floor as isize + tap as isize - 1).clamp(0, last);
                (position as usize, cubic(source - floor - offset))
            })
        })
        .collect()
}

/// The cubic convolution kernel.
fn cubic(t: f32) -> f32 {
    let t = t.abs();
    if t <= 1.0 {
        ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0
    } else if t < 2.0 {
        ((t - 5.0) * t + 8.0) * t * A - 4.0 * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_grid_gives_the_table_itself() {
        let table = Array3::from_shape_fn((3, 4, 2), |(y, x, c)| (y * 8 + x * 2 + c) as f32);
        let resampled = resample(&table, (3, 4));
        assert_eq!(resampled.as_slice(), table.as_slice());
    }

    #[test]
    fn the_weights_of_every_position_sum_to_one() {
        for (source, target) in [(32, 48), (32, 16), (8, 24), (3, 7), (1, 5)] {
            for (position, taps) in taps(source, target).iter().enumerate() {
                let sum: f32 = taps.iter().map(|&(_, weight)| weight).sum();
                assert!((sum - 1.0).abs() < 1e-6, "{source} to {target} at {position}: {sum}");
            }
        }
    }

    #[test]
    fn longer_and_shorter_rows_agree_with_pytorch() {
        // F.interpolate(torch.tensor(row).view(1, 1, 1, -1), (1, length), mode="bicubic", align_corners=False)
        let longer = [-0.1055, 0.1211, 0.4570, 1.6094, 2.8281, 5.4492, 7.9727, 9.5273];
        let shorter = [0.148149, 4.0, 4.481482];
        assert_row(&[0.0, 1.0, 4.0, 9.0], &longer);
        assert_row(&[0.0, 1.0, 4.0, 9.0, 2.0], &shorter);
    }

    fn assert_row(row: &[f32], expected: &[f32]) {
        let table = Array3::from_shape_vec((1, row.len(), 1), row.to_vec()).unwrap();
        let resampled = resample(&table, (1, expected.len()));
        for (index, (found, expected)) in resampled.iter().zip(expected).enumerate() {
            assert!((found - expected).abs() < 1e-4, "at {index}: {found}, expected {expected}");
        }
    }
}
