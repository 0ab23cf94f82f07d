//! `avx2-matmul-w8a8`: 32 weights at a time.
//!
//! ```text
//! |w| (u8) and a * sign(w) (i8):     32 bytes each, byte i for weight i
//! maddubs:                           16 i16, lane i = w[2 i] a[2 i] + w[2 i + 1] a[2 i + 1]
//! madd with ones:                     8 i32
//! ```
//!
//! Nothing overflows: as neither is -128, a lane of `maddubs` is at most `2 * 127 * 127 = 32258`, and i16 holds 32767. (With the code
//! -128, which a checked matrix does not have, `maddubs` saturates.) An i32 lane is bounded by
//! [`MAX_COLUMNS`](crate::MAX_COLUMNS).

use std::arch::x86_64::*;

use crate::matmul::packed::Tile;
use crate::matmul::x86::{load, sum_each};
use crate::quantize::LANES;

#[target_feature(enable = "avx2,fma")]
pub(super) fn dot(tile: Tile<'_>, group_size: Option<usize>, sums: &mut [[i32; LANES]]) {
    match tile {
        Tile::Tokens(row, tokens) => kernel([row], tokens, group_size, sums),
        Tile::Rows(rows, token) => kernel(rows, [token], group_size, sums),
    }
}

/// Lane `r * T + t` is row r with token t.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn kernel<const R: usize, const T: usize>(
    rows: [&[u8]; R],
    tokens: [&[i8]; T],
    group_size: Option<usize>,
    sums: &mut [[i32; LANES]],
) {
    let ones = _mm256_set1_epi16(1);
    let rows = rows.map(|row| row.as_chunks::<32>().0);
    let tokens = tokens.map(|token| token.as_chunks::<32>().0);
    let num_chunks = rows[0].len();
    let chunks_per_group = group_size.map_or(num_chunks, |size| size / 32);
    for (group, sums) in (0..num_chunks.div_ceil(chunks_per_group)).zip(sums) {
        let chunks = group * chunks_per_group..num_chunks.min((group + 1) * chunks_per_group);
        let rows = rows.map(|row| &row[chunks.clone()]);
        let tokens = tokens.map(|token| &token[chunks.clone()]);
        let mut totals = [_mm256_setzero_si256(); LANES];
        for chunk in 0..chunks.len() {
            for r in 0..R {
                let weights = load(&rows[r][chunk]);
                let magnitudes = _mm256_abs_epi8(weights);
                for t in 0..T {
                    let signed = _mm256_sign_epi8(load(&tokens[t][chunk]), weights);
                    let products = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitudes, signed), ones);
                    totals[r * T + t] = _mm256_add_epi32(totals[r * T + t], products);
                }
            }
        }
        *sums = sum_each(totals);
    }
}
