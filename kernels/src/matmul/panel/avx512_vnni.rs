//! `avx512_vnni-matmul-panel`: tiles of 4 rows and 4 tokens, 64 columns at a time.
//!
//! ```text
//! vpdpbusd(codes, activations):   16 i32, lane i += w[4 i] a[4 i] + ... + w[4 i + 3] a[4 i + 3]
//! 16 sums, more than the latency of vpdpbusd times its throughput; 8 loads for 16 products
//! ```
//!
//! With 128 added to codes of 8 bits, sums of very long rows wrap around; they do so again when 128 times the activations is taken off.

#![allow(clippy::needless_range_loop, reason = "a token indexes several arrays")]

use std::arch::x86_64::*;

use super::{Strip, Sums, TILE_ROWS};
use crate::matmul::x86::{chunks_of, fold, load_512, sum_each};

/// Tokens of a tile.
const TILE_TOKENS: usize = 4;

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn bytes(strip: Strip<'_, u8, i8>, sums: &mut [Sums]) {
    strip.for_each_tile(sums, |rows, tokens| tile(rows, tokens));
}

#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
fn tile(rows: [&[u8]; TILE_ROWS], tokens: [&[i8]; TILE_TOKENS]) -> [[i32; TILE_ROWS]; TILE_TOKENS] {
    let num_chunks = rows[0].len() / 64;
    let rows = chunks_of::<u8, 64, TILE_ROWS>(rows, num_chunks);
    let tokens = chunks_of::<i8, 64, TILE_TOKENS>(tokens, num_chunks);
    let mut totals = [[_mm512_setzero_si512(); TILE_ROWS]; TILE_TOKENS];
    for chunk in 0..num_chunks {
        let mut activations = [_mm512_setzero_si512(); TILE_TOKENS];
        for t in 0..TILE_TOKENS {
            activations[t] = load_512(&tokens[t][chunk]);
        }
        for r in 0..TILE_ROWS {
            let codes = load_512(&rows[r][chunk]);
            for t in 0..TILE_TOKENS {
                totals[t][r] = _mm512_dpbusd_epi32(totals[t][r], codes, activations[t]);
            }
        }
    }
    let mut sums = [[0; TILE_ROWS]; TILE_TOKENS];
    for t in 0..TILE_TOKENS {
        sums[t] = sum_each(fold(totals[t]));
    }
    sums
}
