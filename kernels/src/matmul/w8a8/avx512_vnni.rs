//! `avx512_vnni-matmul-w8a8`: 64 weights at a time.
//!
//! ```text
//! |w| (u8) and a * sign(w) (i8):     64 bytes each, byte i for weight i
//! vpdpbusd:                          16 i32, lane i += w[4 i] a[4 i] + ... + w[4 i + 3] a[4 i + 3]
//!                                    lanes 0..8 belong to the first 32 weights, lanes 8..16 to the others: groups of 32 are halves
//! ```
//!
//! Nothing overflows: `vpdpbusd` sums in i32, bounded by [`MAX_COLUMNS`](crate::MAX_COLUMNS).

use std::arch::x86_64::*;

use crate::matmul::strip::{LANES, Strip};
use crate::matmul::x86::{chunks_of, fold, halves, load_512, sum_each};

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn dot<const CHUNKS: usize>(strip: Strip<'_>, sums: &mut [[i32; LANES]]) {
    let num_groups = sums.len() / strip.num_tiles();
    for (tile, sums) in sums.chunks_exact_mut(num_groups).enumerate() {
        match strip {
            Strip::Tokens(row, tokens) => kernel::<1, 4, CHUNKS>([row], tokens.four(tile), sums),
            Strip::Rows(rows, token) => kernel::<4, 1, CHUNKS>(rows.four(tile), [token], sums),
        }
    }
}

/// Lane `r * T + t` is row r with token t; a group has `CHUNKS` times 32 weights.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
fn kernel<const R: usize, const T: usize, const CHUNKS: usize>(
    rows: [&[u8]; R],
    tokens: [&[i8]; T],
    sums: &mut [[i32; LANES]],
) {
    let num_chunks = rows[0].len() / 64;
    let rows = chunks_of::<u8, 64, R>(rows, num_chunks);
    let tokens = chunks_of::<i8, 64, T>(tokens, num_chunks);
    let mut sums = sums.iter_mut();
    let mut totals = [_mm512_setzero_si512(); LANES];
    for chunk in 0..num_chunks {
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
        if CHUNKS == 1 {
            for group in halves(totals) {
                if let Some(sums) = sums.next() {
                    *sums = sum_each(group);
                }
            }
            totals = [_mm512_setzero_si512(); LANES];
        } else if chunk + 1 == num_chunks || (2 * (chunk + 1)) % CHUNKS == 0 {
            // The last group may be shorter.
            if let Some(sums) = sums.next() {
                *sums = sum_each(fold(totals));
            }
            totals = [_mm512_setzero_si512(); LANES];
        }
    }
}
