//! Products of small matrices whose right side lies in strips of 16 columns, so that no sum goes across a vector.
//!
//! ```text
//! out[m][n] += sum over k of a[m][k] * b[k][n]        k ascending; a multiplication and an addition, not fused
//! ```
//!
//! A tile of 4 rows and 16 columns stays in registers over all k, a strip of `b` in the L1 cache over all rows. Not fusing gives the same bits
//! everywhere, and costs nothing where additions have units of their own (AMD since Zen).

/// Rows of a tile: the number of rows is a multiple of it.
pub(super) const ROWS: usize = 4;

/// Columns of a tile and of a strip: the number of columns of `out` is a multiple of it.
pub(super) const COLUMNS: usize = 16;

/// Adds the product of `a`, `[rows, depth]`, and the strips of `b`, `[depth][COLUMNS]` each, to `out`, `[rows, out_stride]`. Rows of `a` begin
/// `a_stride` elements apart.
#[inline(always)]
pub(super) fn add_product<'a>(
    a: &[f32],
    a_stride: usize,
    strips: impl Iterator<Item = &'a [[f32; COLUMNS]]>,
    out: &mut [f32],
    out_stride: usize,
) {
    for (first, b) in (0..out_stride).step_by(COLUMNS).zip(strips) {
        for (tile, out) in out.chunks_exact_mut(ROWS * out_stride).enumerate() {
            let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &a[(tile * ROWS + row) * a_stride..][..b.len()]);
            let mut sums = [[0.0; COLUMNS]; ROWS];
            for (row, sums) in sums.iter_mut().enumerate() {
                sums.copy_from_slice(&out[row * out_stride + first..][..COLUMNS]);
            }
            let factors = rows[0].iter().zip(rows[1]).zip(rows[2].iter().zip(rows[3]));
            for (((a0, a1), (a2, a3)), b) in factors.zip(b) {
                // With iterators in place of these two loops the compiler takes ten times as long at run time (rustc 1.95).
                let factors = [*a0, *a1, *a2, *a3];
                for row in 0..ROWS {
                    for column in 0..COLUMNS {
                        sums[row][column] += factors[row] * b[column];
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                out[row * out_stride + first..][..COLUMNS].copy_from_slice(sums);
            }
        }
    }
}
