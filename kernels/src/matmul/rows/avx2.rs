//! `avx2-matmul-rows` for one token: a block of 64 bytes at a time.
//!
//! ```text
//! byte b of a block, 2 bits:  | w[b + 192] | w[b + 128] | w[b + 64] | w[b] |      4 bits:  | w[b + 64] | w[b] |
//!                               bits 7 6      5 4          3 2        1 0                    bits 7..4   3..0
//!
//! maddubs(codes, activations):       16 i16, lane i = w[2 i] a[2 i] + w[2 i + 1] a[2 i + 1]; sums of a block
//! madd with ones:                     8 i32
//! ```
//!
//! Nothing overflows: a lane of `maddubs` is at most 762 (2 bits) or 3810 (4 bits), a sum of a block `4 * 3810 = 15240`; for 8 bits
//! `maddubs(|w|, a sign(w))` is at most `2 * 128 * 127 = 32512`, as activations are never -128, and goes to i32 at once.

#![allow(clippy::needless_range_loop, reason = "a half indexes several arrays")]

use std::arch::x86_64::*;

use crate::matmul::x86::{load, prefetch, sum_each};
use crate::packed::{BLOCK_BYTES, Bits};

#[target_feature(enable = "avx2,fma")]
pub(super) fn sums_of_rows(bits: Bits, codes: &[u8], row_bytes: usize, token: &[i8], sums: &mut [i32]) {
    for (rows, sums) in codes.chunks(4 * row_bytes).zip(sums.chunks_mut(4)) {
        let mut totals = [_mm256_setzero_si256(); 4];
        for (row, total) in rows.chunks_exact(row_bytes).zip(&mut totals) {
            let blocks = row.as_chunks::<BLOCK_BYTES>().0;
            *total = match bits {
                Bits::Two => row_of_2_bits(blocks, token),
                Bits::Four => row_of_4_bits(blocks, token),
                Bits::Eight => row_of_8_bits(blocks, token),
            };
        }
        sums.copy_from_slice(&sum_each(totals)[..sums.len()]);
    }
}

/// Planes 1 and 3 stay where they are, four times as large: their sums of a block are at most `4 * 762 * 4 = 12192`, and those of planes 0 and 2
/// a quarter of that.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn row_of_2_bits(blocks: &[[u8; BLOCK_BYTES]], token: &[i8]) -> __m256i {
    let (mask, mask_above, ones) = (_mm256_set1_epi8(3), _mm256_set1_epi8(12), _mm256_set1_epi16(1));
    let mut total = _mm256_setzero_si256();
    for (block, token) in blocks.iter().zip(token.as_chunks::<256>().0) {
        prefetch(block);
        let (halves, planes) = (block.as_chunks::<32>().0, token.as_chunks::<64>().0);
        let (mut pairs, mut pairs_above) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for half in 0..2 {
            let codes = load(&halves[half]);
            let shifted = _mm256_srli_epi16::<4>(codes);
            for (first, codes) in [(0, codes), (2, shifted)] {
                let [low, above] = [first, first + 1].map(|plane| &planes[plane].as_chunks::<32>().0[half]);
                let products = _mm256_maddubs_epi16(_mm256_and_si256(codes, mask), load(low));
                pairs = _mm256_add_epi16(pairs, products);
                let products = _mm256_maddubs_epi16(_mm256_and_si256(codes, mask_above), load(above));
                pairs_above = _mm256_add_epi16(pairs_above, products);
            }
        }
        let pairs = _mm256_add_epi16(pairs, _mm256_srai_epi16::<2>(pairs_above));
        total = _mm256_add_epi32(total, _mm256_madd_epi16(pairs, ones));
    }
    total
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn row_of_4_bits(blocks: &[[u8; BLOCK_BYTES]], token: &[i8]) -> __m256i {
    let (mask, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    let mut total = _mm256_setzero_si256();
    for (block, token) in blocks.iter().zip(token.as_chunks::<128>().0) {
        prefetch(block);
        let (halves, chunks) = (block.as_chunks::<32>().0, token.as_chunks::<32>().0);
        let mut pairs = _mm256_setzero_si256();
        for half in 0..2 {
            let codes = load(&halves[half]);
            let (low, high) = (_mm256_and_si256(codes, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask));
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(low, load(&chunks[half])));
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(high, load(&chunks[2 + half])));
        }
        total = _mm256_add_epi32(total, _mm256_madd_epi16(pairs, ones));
    }
    total
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn row_of_8_bits(blocks: &[[u8; BLOCK_BYTES]], token: &[i8]) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    let mut total = _mm256_setzero_si256();
    for (block, token) in blocks.iter().zip(token.as_chunks::<BLOCK_BYTES>().0) {
        prefetch(block);
        for (codes, activations) in block.as_chunks::<32>().0.iter().zip(token.as_chunks::<32>().0) {
            let weights = load(codes);
            let signed = _mm256_sign_epi8(load(activations), weights);
            let products = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(weights), signed), ones);
            total = _mm256_add_epi32(total, products);
        }
    }
    total
}
