//! `avx2-matmul-w8a8`: 32 weights at a time.
//!
//! ```text
//! |w| (u8) and a * sign(w) (i8):     32 bytes each, byte i for weight i
//! maddubs:                           16 i16, lane i = w[2 i] a[2 i] + w[2 i + 1] a[2 i + 1]
//! madd with ones:                     8 i32
//! ```
//!
//! Nothing overflows: activations are never -128, so that a lane of `maddubs` is at most `2 * 128 * 127 = 32512`, and i16 holds 32767. An i32
//! lane is bounded by [`MAX_COLUMNS`](crate::MAX_COLUMNS).

use std::arch::x86_64::*;

use crate::matmul::strip::{LANES, Strip};
use crate::matmul::x86::{chunks_of, load, sum_each};

#[target_feature(enable = "avx2,fma")]
pub(super) fn dot<const CHUNKS: usize>(strip: Strip<'_>, sums: &mut [[i32; LANES]]) {
    let num_groups = sums.len() / strip.num_tiles();
    for (tile, sums) in sums.chunks_exact_mut(num_groups).enumerate() {
        match strip {
            Strip::Tokens(row, tokens) => kernel::<1, 4, CHUNKS>([row], tokens.four(tile), sums),
            Strip::Rows(rows, token) => kernel::<4, 1, CHUNKS>(rows.four(tile), [token], sums),
        }
    }
}

/// Lane `r * T + t` is row r with token t; a group has `CHUNKS` chunks of 32 weights.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn kernel<const R: usize, const T: usize, const CHUNKS: usize>(
    rows: [&[u8]; R],
    tokens: [&[i8]; T],
    sums: &mut [[i32; LANES]],
) {
    let ones = _mm256_set1_epi16(1);
    let num_chunks = rows[0].len() / 32;
    let rows = chunks_of::<u8, 32, R>(rows, num_chunks);
    let tokens = chunks_of::<i8, 32, T>(tokens, num_chunks);
    let mut sums = sums.iter_mut();
    let mut totals = [_mm256_setzero_si256(); LANES];
    for chunk in 0..num_chunks {
        for r in 0..R {
            let weights = load(&rows[r][chunk]);
            let magnitudes = _mm256_abs_epi8(weights);
            for t in 0..T {
                let signed = _mm256_sign_epi8(load(&tokens[t][chunk]), weights);
                let products = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitudes, signed), ones);
                totals[r * T + t] = _mm256_add_epi32(totals[r * T + t], products);
            }
        }
        // The last group may be shorter.
        if chunk + 1 == num_chunks || (chunk + 1) % CHUNKS == 0 {
            if let Some(sums) = sums.next() {
                *sums = sum_each(totals);
            }
            totals = [_mm256_setzero_si256(); LANES];
        }
    }
}
