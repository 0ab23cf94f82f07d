//! `avx_vnni-matmul-panel`: tiles of 4 rows and 3 tokens, 32 columns at a time.
//!
//! ```text
//! vpdpbusd(codes, activations):   8 i32, lane i += w[4 i] a[4 i] + ... + w[4 i + 3] a[4 i + 3]
//! 12 sums, more than the latency of vpdpbusd (5) times two a cycle; with 3 vectors of activations and 1 of codes 16 of 16 registers
//! ```
//!
//! With 128 added to codes of 8 bits, sums of very long rows wrap around; they do so again when 128 times the activations is taken off.

#![allow(clippy::needless_range_loop, reason = "a token indexes several arrays")]

use std::arch::x86_64::*;

use super::{Strip, Sums, TILE_ROWS};
use crate::matmul::x86::{chunks_of, load, sum_each};

/// Tokens of a tile.
const TILE_TOKENS: usize = 3;

#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) fn bytes(strip: Strip<'_, u8, i8>, sums: &mut [Sums]) {
    strip.for_each_tile(sums, |rows, tokens| tile(rows, tokens));
}

#[inline]
#[target_feature(enable = "avx2,fma,avxvnni")]
fn tile(rows: [&[u8]; TILE_ROWS], tokens: [&[i8]; TILE_TOKENS]) -> [[i32; TILE_ROWS]; TILE_TOKENS] {
    let num_chunks = rows[0].len() / 32;
    let rows = chunks_of::<u8, 32, TILE_ROWS>(rows, num_chunks);
    let tokens = chunks_of::<i8, 32, TILE_TOKENS>(tokens, num_chunks);
    let mut totals = [[_mm256_setzero_si256(); TILE_ROWS]; TILE_TOKENS];
    for chunk in 0..num_chunks {
        let mut activations = [_mm256_setzero_si256(); TILE_TOKENS];
        for t in 0..TILE_TOKENS {
            activations[t] = load(&tokens[t][chunk]);
        }
        for r in 0..TILE_ROWS {
            let codes = load(&rows[r][chunk]);
            for t in 0..TILE_TOKENS {
                totals[t][r] = _mm256_dpbusd_avx_epi32(totals[t][r], codes, activations[t]);
            }
        }
    }
    let mut sums = [[0; TILE_ROWS]; TILE_TOKENS];
    for t in 0..TILE_TOKENS {
        sums[t] = sum_each(totals[t]);
    }
    sums
}
