//! `avx512_vnni-matmul-w8a8`: 64 weights at a time, the last 32 of a group of 32 alone.
//!
//! ```text
//! |w| (u8) and a * sign(w) (i8):     64 bytes each, byte i for weight i
//! vpdpbusd:                          16 i32, lane i += w[4 i] a[4 i] + ... + w[4 i + 3] a[4 i + 3]
//!                                    lanes 0..8 belong to the first 32 weights, lanes 8..16 to the others: groups of 32 are halves
//! ```
//!
//! Nothing overflows: `vpdpbusd` sums in i32, bounded by [`MAX_COLUMNS`](crate::MAX_COLUMNS).

use std::arch::x86_64::*;

use crate::matmul::packed::Tile;
use crate::matmul::x86::{fold, halves, load_512, sum_each};
use crate::quantize::LANES;

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn dot(tile: Tile<'_>, group_size: Option<usize>, sums: &mut [[i32; LANES]]) {
    match tile {
        Tile::Tokens(row, tokens) => kernel([row], tokens, group_size, sums),
        Tile::Rows(rows, token) => kernel(rows, [token], group_size, sums),
    }
}

/// Lane `r * T + t` is row r with token t.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
fn kernel<const R: usize, const T: usize>(
    rows: [&[u8]; R],
    tokens: [&[i8]; T],
    group_size: Option<usize>,
    sums: &mut [[i32; LANES]],
) {
    let rows = rows.map(|row| row.as_chunks::<64>().0);
    let tokens = tokens.map(|token| token.as_chunks::<64>().0);
    let num_chunks = rows[0].len();
    let chunks_per_step = group_size.map_or(num_chunks, |size| size.div_ceil(64));
    let mut sums = sums.iter_mut();
    for step in 0..num_chunks.div_ceil(chunks_per_step) {
        let chunks = step * chunks_per_step..num_chunks.min((step + 1) * chunks_per_step);
        let rows = rows.map(|row| &row[chunks.clone()]);
        let tokens = tokens.map(|token| &token[chunks.clone()]);
        let mut totals = [_mm512_setzero_si512(); LANES];
        for chunk in 0..chunks.len() {
            for r in 0..R {
                let weights = load_512(&rows[r][chunk]);
                let magnitudes = _mm512_abs_epi8(weights);
                let negative = _mm512_movepi8_mask(weights);
                for t in 0..T {
                    let activations = load_512(&tokens[t][chunk]);
                    let signed = _mm512_mask_sub_epi8(activations, negative, _mm512_setzero_si512(), activations);
                    totals[r * T + t] = _mm512_dpbusd_epi32(totals[r * T + t], magnitudes, signed);
                }
            }
        }
        if group_size == Some(32) {
            for group in halves(totals) {
                if let Some(sums) = sums.next() {
                    *sums = sum_each(group);
                }
            }
        } else if let Some(sums) = sums.next() {
            *sums = sum_each(fold(totals));
        }
    }
}
