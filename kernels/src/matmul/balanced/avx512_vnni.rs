//! `avx512_vnni-matmul-w2a8` and `avx512_vnni-matmul-w4a8`: a block (64 bytes) at a time.
//!
//! ```text
//! byte b of a block, 2 bits:  | w[b + 192] | w[b + 128] | w[b + 64] | w[b] |      4 bits:  | w[b + 64] | w[b] |
//!
//! (vector >> BITS * plane) & mask:   64 bytes, byte i = w[64 * plane + i]
//! vpdpbusd with 64 activations:      16 i32, lane i += w[4 i] a[4 i] + ... + w[4 i + 3] a[4 i + 3]
//!                                    lanes 0..8 belong to the first 32 weights, lanes 8..16 to the others: groups of 32 are halves
//! ```
//!
//! Nothing overflows: `vpdpbusd` sums in i32, bounded by [`MAX_COLUMNS`](crate::MAX_COLUMNS).

#![allow(clippy::needless_range_loop, reason = "a chunk indexes several arrays")]

use std::arch::x86_64::*;

use crate::matmul::strip::{LANES, Strip};
use crate::matmul::x86::{chunks_of, fold, halves, load_512, part_of, prefetch, sum_each};
use crate::packed::BLOCK_BYTES;

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn dot<const BITS: i32, const CHUNKS: usize>(strip: Strip<'_>, sums: &mut [[i32; LANES]]) {
    let num_groups = sums.len() / strip.num_tiles();
    for (tile, sums) in sums.chunks_exact_mut(num_groups).enumerate() {
        match strip {
            Strip::Tokens(row, tokens) => kernel::<BITS, 1, 4, CHUNKS>([row], tokens.four(tile), sums),
            Strip::Rows(rows, token) => kernel::<BITS, 4, 1, CHUNKS>(rows.four(tile), [token], sums),
        }
    }
}

/// Lane `r * T + t` is row r with token t; a group has `CHUNKS` times 32 weights.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
fn kernel<const BITS: i32, const R: usize, const T: usize, const CHUNKS: usize>(
    rows: [&[u8]; R],
    tokens: [&[i8]; T],
    sums: &mut [[i32; LANES]],
) {
    let planes = 8 / BITS as usize;
    let mask = _mm512_set1_epi8((1 << BITS) - 1);
    let num_blocks = rows[0].len() / BLOCK_BYTES;
    let rows = chunks_of::<u8, BLOCK_BYTES, R>(rows, num_blocks);
    let tokens = chunks_of::<i8, 64, T>(tokens, planes * num_blocks);
    let mut sums = sums.iter_mut();
    let mut totals = [_mm512_setzero_si512(); LANES];
    for block in 0..num_blocks {
        let mut codes = [_mm512_setzero_si512(); R];
        for r in 0..R {
            codes[r] = load_512(&rows[r][block]);
            if T == 1 {
                prefetch(&rows[r][block]);
            }
        }
        let tokens = part_of(tokens, planes * block, planes);
        for plane in 0..planes {
            for r in 0..R {
                let weights = _mm512_and_si512(codes[r], mask);
                codes[r] = if BITS == 2 { _mm512_srli_epi16::<2>(codes[r]) } else { _mm512_srli_epi16::<4>(codes[r]) };
                for t in 0..T {
                    totals[r * T + t] = _mm512_dpbusd_epi32(totals[r * T + t], weights, load_512(&tokens[t][plane]));
                }
            }
            if CHUNKS == 1 {
                for group in halves(totals) {
                    if let Some(sums) = sums.next() {
                        *sums = sum_each(group);
                    }
                }
                totals = [_mm512_setzero_si512(); LANES];
            } else if (2 * (plane + 1)) % CHUNKS == 0 {
                if let Some(sums) = sums.next() {
                    *sums = sum_each(fold(totals));
                }
                totals = [_mm512_setzero_si512(); LANES];
            }
        }
    }
}
