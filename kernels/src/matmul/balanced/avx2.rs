//! `avx2-matmul-w2a8` and `avx2-matmul-w4a8`: half a block (32 bytes) at a time.
//!
//! ```text
//! byte b of a block, 2 bits:  | w[b + 192] | w[b + 128] | w[b + 64] | w[b] |      4 bits:  | w[b + 64] | w[b] |
//!                               bits 7 6      5 4          3 2        1 0                    bits 7..4   3..0
//!
//! (vector >> BITS * plane) & mask:   32 bytes, byte i = w[64 * plane + 32 * half + i]    (the shift is of 16-bit lanes; the mask removes
//!                                                                                        what came over from the byte above)
//! maddubs with 32 activations:       16 i16, lane i = w[2 i] a[2 i] + w[2 i + 1] a[2 i + 1]
//! sum of the chunks of a group:      16 i16
//! madd with ones:                     8 i32
//! ```
//!
//! Nothing overflows: a lane of `maddubs` is at most `2 * 3 * 127 = 762` for 2 bits and `2 * 15 * 127 = 3810` for 4 bits, and a block has 8
//! chunks of 2 bits or 4 of 4 bits, so that the sum of a group is at most 15240.

#![allow(clippy::needless_range_loop, reason = "a chunk indexes several arrays")]

use std::arch::x86_64::*;

use crate::matmul::strip::{LANES, Strip};
use crate::matmul::x86::{chunks_of, load, part_of, prefetch, sum_each};
use crate::packed::BLOCK_BYTES;

#[target_feature(enable = "avx2,fma")]
pub(super) fn dot<const BITS: i32, const CHUNKS: usize>(strip: Strip<'_>, sums: &mut [[i32; LANES]]) {
    let num_groups = sums.len() / strip.num_tiles();
    for (tile, sums) in sums.chunks_exact_mut(num_groups).enumerate() {
        match strip {
            Strip::Tokens(row, tokens) => kernel::<BITS, 1, 4, CHUNKS>([row], tokens.four(tile), sums),
            Strip::Rows(rows, token) => kernel::<BITS, 4, 1, CHUNKS>(rows.four(tile), [token], sums),
        }
    }
}

/// Lane `r * T + t` is row r with token t; a group has `CHUNKS` chunks of 32 weights.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn kernel<const BITS: i32, const R: usize, const T: usize, const CHUNKS: usize>(
    rows: [&[u8]; R],
    tokens: [&[i8]; T],
    sums: &mut [[i32; LANES]],
) {
    let chunks_per_block = 16 / BITS as usize;
    let mask = _mm256_set1_epi8((1 << BITS) - 1);
    let ones = _mm256_set1_epi16(1);
    let num_blocks = rows[0].len() / BLOCK_BYTES;
    let rows = chunks_of::<u8, 32, R>(rows, 2 * num_blocks);
    let tokens = chunks_of::<i8, 32, T>(tokens, chunks_per_block * num_blocks);
    let mut sums = sums.iter_mut();
    for block in 0..num_blocks {
        let rows = part_of(rows, 2 * block, 2);
        let tokens = part_of(tokens, chunks_per_block * block, chunks_per_block);
        if T == 1 {
            for r in 0..R {
                prefetch(&rows[r][0]);
            }
        }
        let mut pairs = [_mm256_setzero_si256(); LANES];
        for chunk in 0..chunks_per_block {
            let (plane, half) = (chunk / 2, chunk % 2);
            let shift = _mm_cvtsi32_si128(plane as i32 * BITS);
            for r in 0..R {
                let weights = _mm256_and_si256(_mm256_srl_epi16(load(&rows[r][half]), shift), mask);
                for t in 0..T {
                    let products = _mm256_maddubs_epi16(weights, load(&tokens[t][chunk]));
                    pairs[r * T + t] = _mm256_add_epi16(pairs[r * T + t], products);
                }
            }
            if (chunk + 1) % CHUNKS == 0 {
                let mut totals = [_mm256_setzero_si256(); LANES];
                for lane in 0..LANES {
                    totals[lane] = _mm256_madd_epi16(pairs[lane], ones);
                }
                if let Some(sums) = sums.next() {
                    *sums = sum_each(totals);
                }
                pairs = [_mm256_setzero_si256(); LANES];
            }
        }
    }
}
