//! The learned position embedding of image tokens.

use ndarray::{Array2, Array3, Axis};

/// Rows and columns of the position embedding: those of the largest pooled grid.
pub(crate) const POSITIONS: usize = 12;

/// `table` `[12, 12, hidden_size]` for a pooled grid whose sides divide 12: the mean of each block,
/// `[rows * columns, hidden_size]`. `None` when they do not.
pub(crate) fn block_means(table: &Array3<f32>, (rows, columns): (usize, usize)) -> Option<Array2<f32>> {
    let (table_rows, table_columns, hidden_size) = table.dim();
    if !table_rows.is_multiple_of(rows) || !table_columns.is_multiple_of(columns) {
        return None;
    }
    let (block_height, block_width) = (table_rows / rows, table_columns / columns);
    let mut means = Array2::zeros((rows * columns, hidden_size));
    for (y, line) in table.axis_iter(Axis(0)).enumerate() {
        for (x, embedding) in line.axis_iter(Axis(0)).enumerate() {
            let mut mean = means.row_mut(y / block_height * columns + x / block_width);
            mean += &embedding;
        }
    }
    means /= (block_height * block_width) as f32;
    Some(means)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_grid_takes_the_table_itself() {
        let table = Array3::from_shape_fn((12, 12, 2), |(y, x, c)| (y * 24 + x * 2 + c) as f32);
        assert_eq!(block_means(&table, (12, 12)).unwrap().as_slice(), table.as_slice());
    }

    #[test]
    fn a_smaller_grid_takes_the_mean_of_each_block() {
        let table = Array3::from_shape_fn((12, 12, 1), |(y, x, _)| (y * 100 + x) as f32);
        let means = block_means(&table, (3, 6)).unwrap();
        // Row 1, column 4: table rows 4..8, columns 8..10.
        assert_eq!(means[[6 + 4, 0]], 5.5 * 100.0 + 8.5);
    }

    #[test]
    fn a_grid_that_does_not_divide_the_table_has_no_positions() {
        let table = Array3::zeros((12, 12, 1));
        assert!(block_means(&table, (5, 12)).is_none());
        assert!(block_means(&table, (24, 12)).is_none());
        assert!(block_means(&table, (0, 12)).is_none());
    }
}
