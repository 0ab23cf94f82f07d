//! `avx2-matmul-panel`: tiles of 4 rows and 2 tokens.
//!
//! ```text
//! 2 and 4 bits, 32 columns at a time:
//!   maddubs(codes, activations):   16 i16, lane i = w[2 i] a[2 i] + w[2 i + 1] a[2 i + 1], at most 762 (2 bits) or 3810 (4 bits)
//!   16 i16 of up to 32 or 8 chunks are added, at most 24384 or 30480; then madd with ones adds them to 8 i32
//! 8 bits, 16 columns at a time, unpacked to words:
//!   madd(codes, activations):       8 i32, lane i = w[2 i] a[2 i] + w[2 i + 1] a[2 i + 1]
//! 8 sums, 2 vectors of activations, 1 of codes and 1 product are 12 of 16 registers; 6 loads for 8 products
//! ```
//!
//! `maddubs` of 8-bit codes would overflow 16 bits after one product, so that bytes need as many multiplications as words.

#![allow(clippy::needless_range_loop, reason = "a token indexes several arrays")]

use std::arch::x86_64::*;

use super::{Strip, Sums, TILE_ROWS};
use crate::Bits;
use crate::matmul::x86::{chunks_of, load, load_words, sum_each};

/// Tokens of a tile.
const TILE_TOKENS: usize = 2;

type Totals = [[__m256i; TILE_ROWS]; TILE_TOKENS];

type TileSums = [[i32; TILE_ROWS]; TILE_TOKENS];

/// 2 and 4 bits.
#[target_feature(enable = "avx2,fma")]
pub(super) fn bytes(bits: Bits, strip: Strip<'_, u8, i8>, sums: &mut [Sums]) {
    strip.for_each_tile(sums, |rows, tokens| tile_of_bytes(bits, rows, tokens));
}

/// Words, whatever their bits were.
#[target_feature(enable = "avx2,fma")]
pub(super) fn words(strip: Strip<'_, i16, i16>, sums: &mut [Sums]) {
    strip.for_each_tile(sums, |rows, tokens| tile_of_words(rows, tokens));
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn tile_of_bytes(bits: Bits, rows: [&[u8]; TILE_ROWS], tokens: [&[i8]; TILE_TOKENS]) -> TileSums {
    let chunks_between_sums = if bits == Bits::Two { 32 } else { 8 };
    let ones = _mm256_set1_epi16(1);
    let num_chunks = rows[0].len() / 32;
    let (rows, tokens) =
        (chunks_of::<u8, 32, TILE_ROWS>(rows, num_chunks), chunks_of::<i8, 32, TILE_TOKENS>(tokens, num_chunks));
    let mut totals: Totals = [[_mm256_setzero_si256(); TILE_ROWS]; TILE_TOKENS];
    for first in (0..num_chunks).step_by(chunks_between_sums) {
        let mut pairs: Totals = [[_mm256_setzero_si256(); TILE_ROWS]; TILE_TOKENS];
        for chunk in first..num_chunks.min(first + chunks_between_sums) {
            let mut activations = [_mm256_setzero_si256(); TILE_TOKENS];
            for t in 0..TILE_TOKENS {
                activations[t] = load(&tokens[t][chunk]);
            }
            for r in 0..TILE_ROWS {
                let codes = load(&rows[r][chunk]);
                for t in 0..TILE_TOKENS {
                    pairs[t][r] = _mm256_add_epi16(pairs[t][r], _mm256_maddubs_epi16(codes, activations[t]));
                }
            }
        }
        for t in 0..TILE_TOKENS {
            for r in 0..TILE_ROWS {
                totals[t][r] = _mm256_add_epi32(totals[t][r], _mm256_madd_epi16(pairs[t][r], ones));
            }
        }
    }
    sums(totals)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn tile_of_words(rows: [&[i16]; TILE_ROWS], tokens: [&[i16]; TILE_TOKENS]) -> TileSums {
    let num_chunks = rows[0].len() / 16;
    let rows = chunks_of::<i16, 16, TILE_ROWS>(rows, num_chunks);
    let tokens = chunks_of::<i16, 16, TILE_TOKENS>(tokens, num_chunks);
    let mut totals: Totals = [[_mm256_setzero_si256(); TILE_ROWS]; TILE_TOKENS];
    for chunk in 0..num_chunks {
        let mut activations = [_mm256_setzero_si256(); TILE_TOKENS];
        for t in 0..TILE_TOKENS {
            activations[t] = load_words(&tokens[t][chunk]);
        }
        for r in 0..TILE_ROWS {
            let codes = load_words(&rows[r][chunk]);
            for t in 0..TILE_TOKENS {
                totals[t][r] = _mm256_add_epi32(totals[t][r], _mm256_madd_epi16(codes, activations[t]));
            }
        }
    }
    sums(totals)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn sums(totals: Totals) -> TileSums {
    let mut sums = [[0; TILE_ROWS]; TILE_TOKENS];
    for t in 0..TILE_TOKENS {
        sums[t] = sum_each(totals[t]);
    }
    sums
}
