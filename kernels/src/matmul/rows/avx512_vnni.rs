//! `avx512_vnni-matmul-rows`: a block of 64 bytes at a time.
//!
//! ```text
//! byte b of a block, 2 bits:  | w[b + 192] | w[b + 128] | w[b + 64] | w[b] |      4 bits:  | w[b + 64] | w[b] |
//!                               bits 7 6      5 4          3 2        1 0                    bits 7..4   3..0
//!
//! vpdpbusd(codes, activations):      16 i32, lane i += w[4 i] a[4 i] + ... + w[4 i + 3] a[4 i + 3]
//! ```
//!
//! Nothing overflows: sums are i32, bounded by [`MAX_COLUMNS`](crate::MAX_COLUMNS). A row has more than one sum, so that more than one `vpdpbusd`
//! is under way.

use std::arch::x86_64::*;

use crate::matmul::x86::{fold, load_512, prefetch, sum_each};
use crate::packed::{BLOCK_BYTES, Bits};

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn sums_of_rows(bits: Bits, codes: &[u8], row_bytes: usize, token: &[i8], sums: &mut [i32]) {
    for (rows, sums) in codes.chunks(4 * row_bytes).zip(sums.chunks_mut(4)) {
        let mut totals = [_mm512_setzero_si512(); 4];
        for (row, total) in rows.chunks_exact(row_bytes).zip(&mut totals) {
            let blocks = row.as_chunks::<BLOCK_BYTES>().0;
            *total = match bits {
                Bits::Two => row_of_2_bits(blocks, token),
                Bits::Four => row_of_4_bits(blocks, token),
                Bits::Eight => row_of_8_bits(blocks, token),
            };
        }
        sums.copy_from_slice(&sum_each(fold(totals))[..sums.len()]);
    }
}

/// Planes 1 and 3 stay where they are, four times as large.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
fn row_of_2_bits(blocks: &[[u8; BLOCK_BYTES]], token: &[i8]) -> __m512i {
    let (mask, mask_above) = (_mm512_set1_epi8(3), _mm512_set1_epi8(12));
    let mut sums = [_mm512_setzero_si512(); 4];
    for (block, token) in blocks.iter().zip(token.as_chunks::<256>().0) {
        prefetch(block);
        let codes = load_512(block);
        let shifted = _mm512_srli_epi16::<4>(codes);
        let planes = token.as_chunks::<64>().0;
        sums[0] = _mm512_dpbusd_epi32(sums[0], _mm512_and_si512(codes, mask), load_512(&planes[0]));
        sums[1] = _mm512_dpbusd_epi32(sums[1], _mm512_and_si512(codes, mask_above), load_512(&planes[1]));
        sums[2] = _mm512_dpbusd_epi32(sums[2], _mm512_and_si512(shifted, mask), load_512(&planes[2]));
        sums[3] = _mm512_dpbusd_epi32(sums[3], _mm512_and_si512(shifted, mask_above), load_512(&planes[3]));
    }
    // Four times a sum of planes 1 and 3 is below 2^31 / 2, as a row is: see `MAX_COLUMNS`.
    let above = _mm512_srai_epi32::<2>(_mm512_add_epi32(sums[1], sums[3]));
    _mm512_add_epi32(_mm512_add_epi32(sums[0], sums[2]), above)
}

#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
fn row_of_4_bits(blocks: &[[u8; BLOCK_BYTES]], token: &[i8]) -> __m512i {
    let mask = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_si512(); 2];
    for (block, token) in blocks.iter().zip(token.as_chunks::<128>().0) {
        prefetch(block);
        let codes = load_512(block);
        let planes = token.as_chunks::<64>().0;
        sums[0] = _mm512_dpbusd_epi32(sums[0], _mm512_and_si512(codes, mask), load_512(&planes[0]));
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), mask);
        sums[1] = _mm512_dpbusd_epi32(sums[1], high, load_512(&planes[1]));
    }
    _mm512_add_epi32(sums[0], sums[1])
}

#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
fn row_of_8_bits(blocks: &[[u8; BLOCK_BYTES]], token: &[i8]) -> __m512i {
    let mut sums = [_mm512_setzero_si512(); 2];
    for (index, (block, token)) in blocks.iter().zip(token.as_chunks::<BLOCK_BYTES>().0).enumerate() {
        prefetch(block);
        let (weights, activations) = (load_512(block), load_512(token));
        let negative = _mm512_movepi8_mask(weights);
        let signed = _mm512_mask_sub_epi8(activations, negative, _mm512_setzero_si512(), activations);
        sums[index % 2] = _mm512_dpbusd_epi32(sums[index % 2], _mm512_abs_epi8(weights), signed);
    }
    _mm512_add_epi32(sums[0], sums[1])
}
