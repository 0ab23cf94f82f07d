//! Attention windows: the patches of a grid, cut into squares, each with its own copy of the registers.
//!
//! Two layouts of the same tokens:
//!
//! ```text
//! merged       [r ; x]                        registers, then all patches row by row
//! partitioned  [r_0 ; x_0 ; r_1 ; x_1 ; ...]  window by window: its registers, then its patches row by row
//! ```
//!
//! A grid that the window does not divide has smaller windows at its right and bottom edges.
//!
//! Source: ViTDet (arXiv 2203.16527) for the windows; the registers as in `docs/architecture.md`.

use ndarray::{Array2, ArrayView2, Axis, Slice};

/// One window: its top left patch and its size in patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Row of the top left patch.
    pub top: usize,
    /// Column of the top left patch.
    pub left: usize,
    /// Rows of patches.
    pub height: usize,
    /// Columns of patches.
    pub width: usize,
}

/// The windows of a patch grid, row by row.
#[derive(Clone, Debug)]
pub struct Windows {
    grid: (usize, usize),
    num_registers: usize,
    windows: Vec<Window>,
}

impl Windows {
    /// Cuts a grid of `(rows, columns)` patches into windows of `window_size` x `window_size`, which is not 0.
    pub fn new(grid: (usize, usize), window_size: usize, num_registers: usize) -> Self {
        let (grid_height, grid_width) = grid;
        let windows = (0..grid_height)
            .step_by(window_size)
            .flat_map(|top| (0..grid_width).step_by(window_size).map(move |left| (top, left)))
            .map(|(top, left)| Window {
                top,
                left,
                height: window_size.min(grid_height - top),
                width: window_size.min(grid_width - left),
            })
            .collect();
        Self { grid, num_registers, windows }
    }

    /// The windows, row by row.
    pub fn as_slice(&self) -> &[Window] {
        &self.windows
    }

    /// Tokens of each window: registers and patches.
    pub fn sequence_lengths(&self) -> Vec<usize> {
        self.windows.iter().map(|window| self.num_registers + window.height * window.width).collect()
    }

    /// Merged `[num_registers + rows * columns, hidden_size]` to partitioned
    /// `[num_windows * num_registers + rows * columns, hidden_size]`: every window gets a copy of the registers.
    pub fn partition(&self, merged: ArrayView2<f32>) -> Array2<f32> {
        let registers = merged.slice_axis(Axis(0), Slice::from(..self.num_registers));
        let num_tokens = self.sequence_lengths().iter().sum();
        let mut partitioned = Array2::zeros((num_tokens, merged.ncols()));
        self.for_each_run(|merged_start, partitioned_start, length| {
            let mut run =
                partitioned.slice_axis_mut(Axis(0), Slice::from(partitioned_start..partitioned_start + length));
            match merged_start {
                None => run.assign(&registers),
                Some(start) => run.assign(&merged.slice_axis(Axis(0), Slice::from(start..start + length))),
            }
        });
        partitioned
    }

    /// Partitioned to merged: the patches return to their places, the registers become the mean over the windows.
    pub fn merge(&self, partitioned: ArrayView2<f32>) -> Array2<f32> {
        let num_registers = self.num_registers;
        let mut merged = Array2::zeros((num_registers + self.grid.0 * self.grid.1, partitioned.ncols()));
        self.for_each_run(|merged_start, partitioned_start, length| {
            let run = partitioned.slice_axis(Axis(0), Slice::from(partitioned_start..partitioned_start + length));
            // The registers of all windows are summed in the first rows.
            let mut target = merged.slice_axis_mut(
                Axis(0),
                match merged_start {
                    None => Slice::from(..num_registers),
                    Some(start) => Slice::from(start..start + length),
                },
            );
            target += &run;
        });
        let mut registers = merged.slice_axis_mut(Axis(0), Slice::from(..num_registers));
        registers /= self.windows.len() as f32;
        merged
    }

    /// Calls `visit(merged_start, partitioned_start, length)` for each run of rows that lie together in both layouts,
    /// in partitioned order; `merged_start` is `None` for a window's registers.
    fn for_each_run(&self, mut visit: impl FnMut(Option<usize>, usize, usize)) {
        let mut partitioned_start = 0;
        for window in &self.windows {
            visit(None, partitioned_start, self.num_registers);
            partitioned_start += self.num_registers;
            for row in window.top..window.top + window.height {
                let merged_start = self.num_registers + row * self.grid.1 + window.left;
                visit(Some(merged_start), partitioned_start, window.width);
                partitioned_start += window.width;
            }
        }
    }
}

/// `[registers ; patches]`.
pub(crate) fn prepend(registers: ArrayView2<f32>, patches: ArrayView2<f32>) -> Array2<f32> {
    let mut tokens = Array2::zeros((registers.nrows() + patches.nrows(), patches.ncols()));
    let (mut head, mut tail) = tokens.view_mut().split_at(Axis(0), registers.nrows());
    head.assign(&registers);
    tail.assign(&patches);
    tokens
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_holds_its_registers_then_its_patches_row_by_row() {
        // A 2 x 3 grid in windows of 2: one whole window and a narrow one at the right edge.
        let windows = Windows::new((2, 3), 2, 1);
        let merged = array![[-1.0], [0.0], [1.0], [2.0], [10.0], [11.0], [12.0]];
        let expected = array![[-1.0], [0.0], [1.0], [10.0], [11.0], [-1.0], [2.0], [12.0]];
        assert_eq!(windows.partition(merged.view()), expected);
        assert_eq!(windows.sequence_lengths(), [5, 3]);
    }

    #[test]
    fn merging_takes_the_mean_of_the_registers_over_the_windows() {
        let windows = Windows::new((1, 2), 1, 1);
        let partitioned = array![[1.0], [5.0], [3.0], [6.0]];
        assert_eq!(windows.merge(partitioned.view()), array![[2.0], [5.0], [6.0]]);
    }

    #[test]
    fn a_window_larger_than_the_grid_is_the_grid() {
        let windows = Windows::new((3, 5), 16, 4);
        assert_eq!(windows.as_slice(), [Window { top: 0, left: 0, height: 3, width: 5 }]);
    }

    proptest! {
        #[test]
        fn merging_undoes_partitioning(
            rows in 1..20usize, columns in 1..20usize, window_size in 1..9usize, registers in 0..4usize,
        ) {
            let windows = Windows::new((rows, columns), window_size, registers);
            let merged = Array2::from_shape_fn((registers + rows * columns, 2), |(token, feature)| {
                (token * 2 + feature) as f32
            });
            let restored = windows.merge(windows.partition(merged.view()).view());
            for ((index, &expected), &found) in merged.indexed_iter().zip(&restored) {
                // The mean of equal copies is rounded once for the sum and once for the quotient.
                prop_assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{:?}: {} {}", index, found, expected);
            }
        }

        #[test]
        fn every_patch_is_in_exactly_one_window(rows in 1..30usize, columns in 1..30usize, window_size in 1..9usize) {
            let mut visits = Array2::<u32>::zeros((rows, columns));
            for window in Windows::new((rows, columns), window_size, 0).as_slice() {
                prop_assert!(window.height >= 1 && window.height <= window_size);
                prop_assert!(window.width >= 1 && window.width <= window_size);
                for (row, column) in (0..window.height).flat_map(|y| (0..window.width).map(move |x| (y, x))) {
                    visits[[window.top + row, window.left + column]] += 1;
                }
            }
            prop_assert!(visits.iter().all(|&count| count == 1));
        }
    }
}
