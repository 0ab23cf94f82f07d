//! Learned position embeddings on a grid, resampled to the grid of a view.
//!
//! `bicubic`: a = -0.75, pixel centres at halves, borders repeated, not antialiased: PyTorch's
//! `F.interpolate(mode="bicubic", align_corners=False)`, which most models were trained with.
//!
//! ```text
//! source = (target + 0.5) * source_length / target_length - 0.5
//! value  = sum over the four neighbours k of floor(source) - 1 ..= floor(source) + 2 of w(source - k) * table[k]
//! w(t)   = (a + 2)|t|^3 - (a + 3)|t|^2 + 1          for |t| <= 1
//!          a|t|^3 - 5a|t|^2 + 8a|t| - 4a            for 1 < |t| < 2
//! ```
//!
//! `bicubic_antialiased`: the same with `antialias=True`. There a = -0.5, the kernel is widened by the scale where the grid shrinks, and the
//! weights of what lies inside the table are divided by their sum.
//!
//! `nearest`: the cell of the table that the top left corner of the patch lies in, as Idefics3 and SmolVLM look it up.
//!
//! ```text
//! source = number of boundaries n / source_length (n = 1 .. source_length - 1) that are <= target / target_length
//! ```
//!
//! Source: Keys, "Cubic convolution interpolation for digital image processing" (1981); a from PyTorch; `Idefics3VisionEmbeddings` of
//! Hugging Face transformers.

use std::collections::HashMap;

use ndarray::{Array2, Array3, ArrayView2, Axis};
use ocelli_nn::Weights;

use crate::config::PositionResampling;
use crate::error::Result;

/// A table of position embeddings and its resampled copies.
#[derive(Debug)]
pub(crate) struct PositionEmbedding {
    /// `[rows, columns, hidden_size]`.
    table: Array3<f32>,
    resampling: PositionResampling,
    /// By `(rows, columns)`: `[rows * columns, hidden_size]`.
    resampled: HashMap<(usize, usize), Array2<f32>>,
}

impl PositionEmbedding {
    /// Reads `position_embedding`, `[rows, columns, hidden_size]`, and resamples it for each of `grids`.
    pub(crate) fn load(
        weights: &Weights,
        size: [usize; 2],
        hidden_size: usize,
        resampling: PositionResampling,
        grids: &[(usize, usize)],
    ) -> Result<Self> {
        let shape = [size[0], size[1], hidden_size];
        let values = weights.tensor("position_embedding", &shape)?;
        let table = Array3::from_shape_vec(shape, values).expect("the tensor has the shape that was asked for");
        let resampled = grids.iter().map(|&grid| (grid, resample(&table, grid, resampling))).collect();
        Ok(Self { table, resampling, resampled })
    }

    /// Adds the embedding of each position to `patches`, `[rows * columns, hidden_size]`.
    pub(crate) fn add_to(&self, patches: &mut Array2<f32>, grid: (usize, usize)) {
        match self.resampled.get(&grid) {
            Some(positions) => *patches += positions,
            None => *patches += &resample(&self.table, grid, self.resampling),
        }
    }
}

/// `table` `[rows, columns, hidden_size]` on another grid, as `[rows * columns, hidden_size]`.
fn resample(table: &Array3<f32>, (rows, columns): (usize, usize), resampling: PositionResampling) -> Array2<f32> {
    let (table_rows, table_columns, hidden_size) = table.dim();
    let row_taps = taps(table_rows, rows, resampling);
    let column_taps = taps(table_columns, columns, resampling);
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

/// For each target position the source positions and their weights, which sum to 1.
fn taps(source_length: usize, target_length: usize, resampling: PositionResampling) -> Vec<Vec<(usize, f32)>> {
    match resampling {
        PositionResampling::Bicubic => bicubic(source_length, target_length),
        PositionResampling::BicubicAntialiased => antialiased(source_length, target_length),
        PositionResampling::Nearest => {
            nearest(source_length, target_length).into_iter().map(|position| vec![(position, 1.0)]).collect()
        }
    }
}

fn bicubic(source_length: usize, target_length: usize) -> Vec<Vec<(usize, f32)>> {
    let scale = source_length as f32 / target_length as f32;
    let last = source_length as isize - 1;
    (0..target_length)
        .map(|target| {
            let source = (target as f32 + 0.5) * scale - 0.5;
            let floor = source.floor();
            let tap = |offset: isize| {
                let position = (floor as isize + offset).clamp(0, last);
                (position as usize, cubic(source - floor - offset as f32, -0.75))
            };
            (-1..=2).map(tap).collect()
        })
        .collect()
}

fn antialiased(source_length: usize, target_length: usize) -> Vec<Vec<(usize, f32)>> {
    let scale = source_length as f32 / target_length as f32;
    let widening = scale.max(1.0);
    (0..target_length)
        .map(|target| {
            let center = (target as f32 + 0.5) * scale;
            let first = (center - 2.0 * widening + 0.5).max(0.0) as usize;
            let end = ((center + 2.0 * widening + 0.5) as usize).min(source_length);
            let weight = |position: usize| cubic((position as f32 + 0.5 - center) / widening, -0.5);
            let sum: f32 = (first..end).map(weight).sum();
            (first..end).map(|position| (position, weight(position) / sum)).collect()
        })
        .collect()
}

/// Bucket by bucket as `torch.bucketize(..., right=True)` does it, with boundaries that are multiples in f64 rounded to f32 and coordinates
/// that are multiples in f32: the rounding decides where a corner lies on a boundary.
fn nearest(source_length: usize, target_length: usize) -> Vec<usize> {
    let source_step = 1.0 / source_length as f64;
    let boundaries: Vec<f32> =
        (1..source_length).map(|n| (source_step + source_step * (n - 1) as f64) as f32).collect();
    let target_step = 1.0 / target_length as f32;
    (0..target_length)
        .map(|target| {
            let coordinate = (target as f32 * target_step).min(1.0 - 1e-6);
            boundaries.partition_point(|&boundary| boundary <= coordinate)
        })
        .collect()
}

/// The cubic convolution kernel.
fn cubic(t: f32, a: f32) -> f32 {
    let t = t.abs();
    if t <= 1.0 {
        ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
    } else if t < 2.0 {
        ((t - 5.0) * t + 8.0) * t * a - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [PositionResampling; 3] =
        [PositionResampling::Bicubic, PositionResampling::BicubicAntialiased, PositionResampling::Nearest];

    #[test]
    fn the_same_grid_gives_the_table_itself() {
        let table = Array3::from_shape_fn((3, 4, 2), |(y, x, c)| (y * 8 + x * 2 + c) as f32);
        for resampling in ALL {
            let resampled = resample(&table, (3, 4), resampling);
            assert_eq!(resampled.as_slice(), table.as_slice(), "{resampling:?}");
        }
    }

    #[test]
    fn the_weights_of_every_position_sum_to_one() {
        for (source, target) in [(32, 48), (32, 16), (8, 24), (3, 7), (1, 5), (37, 1), (1024, 3)] {
            for resampling in ALL {
                for (position, taps) in taps(source, target, resampling).iter().enumerate() {
                    let sum: f32 = taps.iter().map(|&(_, weight)| weight).sum();
                    assert!((sum - 1.0).abs() < 1e-5, "{resampling:?}, {source} to {target} at {position}: {sum}");
                    assert!(taps.iter().all(|&(position, _)| position < source), "{resampling:?}: {taps:?}");
                }
            }
        }
    }

    #[test]
    fn longer_and_shorter_rows_agree_with_pytorch() {
        // F.interpolate(torch.tensor(row).view(1, 1, 1, -1), (1, length), mode="bicubic", align_corners=False)
        let longer = [-0.1055, 0.1211, 0.4570, 1.6094, 2.8281, 5.4492, 7.9727, 9.5273];
        let shorter = [0.148149, 4.0, 4.481482];
        assert_row(PositionResampling::Bicubic, &[0.0, 1.0, 4.0, 9.0], &longer);
        assert_row(PositionResampling::Bicubic, &[0.0, 1.0, 4.0, 9.0, 2.0], &shorter);
        // The same with antialias=True.
        let longer = [-0.088235, 0.124088, 0.572519, 1.5625, 3.0625, 5.312977, 8.116789, 9.441176];
        let shorter = [1.201613, 5.755799, 3.754033];
        assert_row(PositionResampling::BicubicAntialiased, &[0.0, 1.0, 4.0, 9.0], &longer);
        assert_row(PositionResampling::BicubicAntialiased, &[0.0, 1.0, 4.0, 9.0, 2.0, 7.0, 1.0], &shorter);
    }

    fn assert_row(resampling: PositionResampling, row: &[f32], expected: &[f32]) {
        let table = Array3::from_shape_vec((1, row.len(), 1), row.to_vec()).unwrap();
        let resampled = resample(&table, (1, expected.len()), resampling);
        for (index, (found, expected)) in resampled.iter().zip(expected).enumerate() {
            assert!((found - expected).abs() < 1e-4, "{resampling:?} at {index}: {found}, expected {expected}");
        }
    }

    #[test]
    fn nearest_positions_are_those_of_transformers() {
        // Idefics3VisionEmbeddings with 32, 27, 26 and 4 positions a side, for a picture that fills its grid.
        assert_eq!(nearest(32, 13), [0, 2, 4, 7, 9, 12, 14, 17, 19, 22, 24, 27, 29]);
        assert_eq!(nearest(27, 5), [0, 5, 10, 16, 21]);
        assert_eq!(nearest(4, 7), [0, 0, 1, 1, 2, 2, 3]);
        for length in [1, 26, 27, 32] {
            assert_eq!(nearest(length, length), (0..length).collect::<Vec<_>>());
        }
        // The rounding of the coordinates is part of it: with 31 positions some corners fall just short of their own cell.
        assert_eq!(nearest(31, 31)[15..23], [15, 16, 16, 18, 19, 20, 20, 22]);
    }
}
