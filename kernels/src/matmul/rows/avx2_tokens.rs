//! `avx2-matmul-rows` for several tokens, up to 4 at a time: the codes of a row are taken out of their bytes once for all of them.
//!
//! ```text
//! 2 and 4 bits, 32 bytes and one plane at a time:
//!   codes, shifted and masked:      the weights of 32 columns
//!   maddubs(weights, activations):  16 i16, at most 762 (2 bits) or 3810 (4 bits)
//!   16 i16 of 32 or 8 products are added, at most 24384 or 30480; then madd with ones adds them to 8 i32
//! 8 bits, 32 columns at a time:
//!   maddubs(|w|, a sign(w)), and madd with ones, as for one token
//! ```
//!
//! A plane costs two operations, and two and a load for each token. That two rows would share the loads of activations gains nothing, and
//! 6 tokens of 6656 columns are more than an L1 cache holds.

#![allow(clippy::needless_range_loop, reason = "a token indexes several arrays")]

use std::arch::x86_64::*;

use crate::matmul::x86::{chunks_of, load, prefetch, sum_each};
use crate::packed::{BLOCK_BYTES, Bits};

/// `T` tokens, from 2 to 4.
#[target_feature(enable = "avx2,fma")]
pub(super) fn sums_of_rows<const T: usize>(
    bits: Bits,
    codes: &[u8],
    row_bytes: usize,
    tokens: &[i8],
    sums: &mut [i32],
) {
    let (width, num_rows) = (tokens.len() / T, codes.len() / row_bytes);
    let mut each: [&[i8]; T] = [&[]; T];
    for t in 0..T {
        each[t] = &tokens[t * width..(t + 1) * width];
    }
    for (index, rows) in codes.chunks(4 * row_bytes).enumerate() {
        let mut totals = [[_mm256_setzero_si256(); 4]; T];
        for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
            let blocks = row.as_chunks::<BLOCK_BYTES>().0;
            let totals_of_row = match bits {
                Bits::Two => row_of_planes::<4, 256, T>(blocks, each),
                Bits::Four => row_of_planes::<2, 128, T>(blocks, each),
                Bits::Eight => row_of_8_bits(blocks, each),
            };
            for t in 0..T {
                totals[t][r] = totals_of_row[t];
            }
        }
        for (totals, sums) in totals.into_iter().zip(sums.chunks_exact_mut(num_rows)) {
            let sums = &mut sums[4 * index..num_rows.min(4 * index + 4)];
            sums.copy_from_slice(&sum_each(totals)[..sums.len()]);
        }
    }
}

/// 2 or 4 bits: `PLANES` weights in a byte, `RUN` in a block. As many blocks as there are planes are added before madd.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn row_of_planes<const PLANES: usize, const RUN: usize, const T: usize>(
    blocks: &[[u8; BLOCK_BYTES]],
    tokens: [&[i8]; T],
) -> [__m256i; T] {
    let (mask, ones) = (_mm256_set1_epi8(if PLANES == 4 { 3 } else { 15 }), _mm256_set1_epi16(1));
    let tokens = chunks_of::<i8, RUN, T>(tokens, blocks.len());
    let mut totals = [_mm256_setzero_si256(); T];
    for first in (0..blocks.len()).step_by(PLANES) {
        let mut pairs = [_mm256_setzero_si256(); T];
        for block in first..blocks.len().min(first + PLANES) {
            prefetch(&blocks[block]);
            for half in 0..2 {
                let mut codes = load(&blocks[block].as_chunks::<32>().0[half]);
                for plane in 0..PLANES {
                    let weights = _mm256_and_si256(codes, mask);
                    for t in 0..T {
                        let activations = load(&tokens[t][block].as_chunks::<32>().0[2 * plane + half]);
                        pairs[t] = _mm256_add_epi16(pairs[t], _mm256_maddubs_epi16(weights, activations));
                    }
                    codes = if PLANES == 4 { _mm256_srli_epi16::<2>(codes) } else { _mm256_srli_epi16::<4>(codes) };
                }
            }
        }
        for t in 0..T {
            totals[t] = _mm256_add_epi32(totals[t], _mm256_madd_epi16(pairs[t], ones));
        }
    }
    totals
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn row_of_8_bits<const T: usize>(blocks: &[[u8; BLOCK_BYTES]], tokens: [&[i8]; T]) -> [__m256i; T] {
    let ones = _mm256_set1_epi16(1);
    let tokens = chunks_of::<i8, BLOCK_BYTES, T>(tokens, blocks.len());
    let mut totals = [_mm256_setzero_si256(); T];
    for (index, block) in blocks.iter().enumerate() {
        prefetch(block);
        for half in 0..2 {
            let weights = load(&block.as_chunks::<32>().0[half]);
            let magnitudes = _mm256_abs_epi8(weights);
            for t in 0..T {
                let signed = _mm256_sign_epi8(load(&tokens[t][index].as_chunks::<32>().0[half]), weights);
                let products = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitudes, signed), ones);
                totals[t] = _mm256_add_epi32(totals[t], products);
            }
        }
    }
    totals
}
