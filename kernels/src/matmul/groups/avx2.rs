//! `avx2-matmul-groups`: one row with 1, 2 or 4 tokens, 8 groups at a time.
//!
//! ```text
//! byte b of a block, 2 bits:  | w[b + 192] | w[b + 128] | w[b + 64] | w[b] |      4 bits:  | w[b + 64] | w[b] |
//!                               bits 7 6      5 4          3 2        1 0                    bits 7..4   3..0
//!
//! maddubs(codes, activations):       16 i16, lane i = w[2 i] a[2 i] + w[2 i + 1] a[2 i + 1]; for each of 8 groups, its chunks of 32 added
//! a tree over 8 such vectors:         8 i32, lane g = the sum of group g
//! f32, less the offsets, times s_w s_a, added to 8 f32
//! ```
//!
//! The tree has 7 sums of two vectors, each of two shuffles and an addition: less than an addition in f32 for each group and token would cost.
//!
//! Nothing overflows: a lane of `maddubs` is at most 762 (2 bits) or 3810 (4 bits), four chunks of them at most 15240, and eight lanes of one
//! chunk at most 30480; for 8 bits `maddubs(|w|, a sign(w))` is at most `2 * 128 * 127 = 32512`, as activations are never -128, and goes to i32
//! at once.

#![allow(clippy::needless_range_loop, reason = "tokens, groups and chunks index several arrays")]

use std::arch::x86_64::*;
use std::ops::Range;

use half::f16;

use super::{LANES, Tokens};
use crate::matmul::x86::{load, prefetch};
use crate::packed::{Bits, PackedMatrix};

/// Rows whose results are made whole and written together.
const TILE_ROWS: usize = 4;

/// See [`super::multiply`]; `out` begins at the first of these rows, and has `stride` elements a token.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply(
    w: &PackedMatrix<'_>,
    rows: Range<usize>,
    x: &Tokens<'_>,
    tokens: Range<usize>,
    out: &mut [f32],
    stride: usize,
) {
    match (w.shape().bits(), w.shape().group_size()) {
        (Bits::Two, Some(32)) => tiles::<2, 1, 2>(w, rows, x, tokens, out, stride),
        (Bits::Two, Some(64)) => tiles::<2, 2, 2>(w, rows, x, tokens, out, stride),
        (Bits::Two, _) => tiles::<2, 4, 2>(w, rows, x, tokens, out, stride),
        (Bits::Four, Some(32)) => tiles::<4, 1, 2>(w, rows, x, tokens, out, stride),
        (Bits::Four, Some(64)) => tiles::<4, 2, 2>(w, rows, x, tokens, out, stride),
        (Bits::Four, _) => tiles::<4, 4, 2>(w, rows, x, tokens, out, stride),
        (Bits::Eight, Some(32)) => tiles::<8, 1, 4>(w, rows, x, tokens, out, stride),
        (Bits::Eight, Some(64)) => tiles::<8, 2, 4>(w, rows, x, tokens, out, stride),
        (Bits::Eight, _) => tiles::<8, 4, 4>(w, rows, x, tokens, out, stride),
    }
}

/// Tiles of `T` tokens, then of one. A group has `CHUNKS` chunks of 32 columns.
#[target_feature(enable = "avx2,fma,f16c")]
fn tiles<const BITS: usize, const CHUNKS: usize, const T: usize>(
    w: &PackedMatrix<'_>,
    rows: Range<usize>,
    x: &Tokens<'_>,
    tokens: Range<usize>,
    out: &mut [f32],
    stride: usize,
) {
    let mut token = tokens.start;
    while token < tokens.end {
        let out = &mut out[(token - tokens.start) * stride..];
        let is_whole = token + T <= tokens.end;
        for first in rows.clone().step_by(TILE_ROWS) {
            let out = &mut out[first - rows.start..];
            let tile_rows = first..rows.end.min(first + TILE_ROWS);
            match is_whole {
                true => tile::<BITS, CHUNKS, T>(w, tile_rows, x, token, out, stride),
                false => tile::<BITS, CHUNKS, 1>(w, tile_rows, x, token, out, stride),
            }
        }
        token += if is_whole { T } else { 1 };
    }
}

/// Up to [`TILE_ROWS`] rows with `T` tokens; writes `out[t * stride + r]`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<const BITS: usize, const CHUNKS: usize, const T: usize>(
    w: &PackedMatrix<'_>,
    rows: Range<usize>,
    x: &Tokens<'_>,
    first_token: usize,
    out: &mut [f32],
    stride: usize,
) {
    let num_rows = rows.len();
    let mut activations: [&[[i8; 32]]; T] = [&[]; T];
    let mut scales: [&[[f32; LANES]]; T] = [&[]; T];
    let mut offsets: [&[[f32; LANES]]; T] = [&[]; T];
    for t in 0..T {
        activations[t] = x.codes_of(first_token + t).as_chunks().0;
        scales[t] = x.scales.of(first_token + t);
        offsets[t] = x.offsets.of(first_token + t);
    }
    let mut totals = [[_mm256_setzero_ps(); TILE_ROWS]; T];
    for (r, row) in rows.enumerate() {
        let codes = w.codes_of(row..row + 1).as_chunks::<32>().0;
        let (row_scales, last_scales) = w.scales_of(row..row + 1).as_chunks::<LANES>();
        let mut last = [f16::ZERO; LANES];
        last[..last_scales.len()].copy_from_slice(last_scales);
        let mut row_totals = [_mm256_setzero_ps(); T];
        for segment in 0..x.scales.segments {
            // Of the row's chunks, and of the vectors of codes, of which each has 8 / BITS chunks.
            let (first, first_codes) = (segment * LANES * CHUNKS, segment * BITS * CHUNKS);
            let codes = &codes[first_codes..codes.len().min(first_codes + BITS * CHUNKS)];
            let mut parts: [&[[i8; 32]]; T] = [&[]; T];
            for t in 0..T {
                parts[t] = &activations[t][first..activations[t].len().min(first + LANES * CHUNKS)];
            }
            let sums = if codes.len() == BITS * CHUNKS {
                sums_of_groups::<BITS, CHUNKS, T, true>(codes, parts)
            } else {
                sums_of_groups::<BITS, CHUNKS, T, false>(codes, parts)
            };
            let row_scales = load_halves(row_scales.get(segment).unwrap_or(&last));
            for t in 0..T {
                let scale = _mm256_mul_ps(row_scales, load_floats(&scales[t][segment]));
                let sum = _mm256_sub_ps(_mm256_cvtepi32_ps(sums[t]), load_floats(&offsets[t][segment]));
                row_totals[t] = _mm256_add_ps(row_totals[t], _mm256_mul_ps(scale, sum));
            }
        }
        for t in 0..T {
            totals[t][r] = row_totals[t];
        }
    }
    for t in 0..T {
        out[t * stride..t * stride + num_rows].copy_from_slice(&sum_each(totals[t])[..num_rows]);
    }
}

/// The sums of code times code over 8 groups. Unless `WHOLE`, there may be fewer chunks: those that lack are 0.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sums_of_groups<const BITS: usize, const CHUNKS: usize, const T: usize, const WHOLE: bool>(
    codes: &[[u8; 32]],
    activations: [&[[i8; 32]]; T],
) -> [__m256i; T] {
    let chunks_per_block = 16 / BITS;
    let (mask, ones) = (_mm256_set1_epi8(((1_u32 << BITS) - 1) as i8), _mm256_set1_epi16(1));
    if T == 1 {
        for block in codes.iter().step_by(2) {
            prefetch(block);
        }
    }
    let mut weights = [[_mm256_setzero_si256(); CHUNKS]; LANES];
    for group in 0..LANES {
        for chunk in 0..CHUNKS {
            let index = group * CHUNKS + chunk;
            let (half, plane) = (index / chunks_per_block * 2 + index % 2, index % chunks_per_block / 2);
            if WHOLE || half < codes.len() {
                let shift = _mm_cvtsi32_si128((plane * BITS) as i32);
                weights[group][chunk] = match BITS {
                    8 => load(&codes[half]),
                    _ => _mm256_and_si256(_mm256_srl_epi16(load(&codes[half]), shift), mask),
                };
            }
        }
    }
    let mut sums = [_mm256_setzero_si256(); T];
    for t in 0..T {
        let mut parts = [_mm256_setzero_si256(); LANES];
        for group in 0..LANES {
            for chunk in 0..CHUNKS {
                let index = group * CHUNKS + chunk;
                if WHOLE || index < activations[t].len() {
                    let (weights, activations) = (weights[group][chunk], load(&activations[t][index]));
                    parts[group] = match BITS {
                        8 => {
                            let signed = _mm256_sign_epi8(activations, weights);
                            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), signed);
                            _mm256_add_epi32(parts[group], _mm256_madd_epi16(pairs, ones))
                        }
                        _ => _mm256_add_epi16(parts[group], _mm256_maddubs_epi16(weights, activations)),
                    };
                }
            }
        }
        sums[t] = match (BITS, CHUNKS) {
            (8, _) => sum_each_of_ints(parts),
            (_, 1) => sum_each_of_words(parts),
            _ => {
                for group in 0..LANES {
                    parts[group] = _mm256_madd_epi16(parts[group], ones);
                }
                sum_each_of_ints(parts)
            }
        };
    }
    sums
}

/// Lane g of the result is the sum of the 16 i16 of vector g, where the sum of 8 fits i16.
///
/// ```text
/// of a half of 8 words:   a + b    | a04 b04 a15 b15 a26 b26 a37 b37 |
///                         ab + cd  | a0246 b0246 c0246 d0246 a1357 b1357 c1357 d1357 |
///                         .. + ..  | a b c d e f g h |
/// ```
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_each_of_words([a, b, c, d, e, f, g, h]: [__m256i; LANES]) -> __m256i {
    let (ab, cd, ef, gh) = (add_words(a, b), add_words(c, d), add_words(e, f), add_words(g, h));
    let (abcd, efgh) = (add_pairs_of_words(ab, cd), add_pairs_of_words(ef, gh));
    let (low, high) = (_mm256_unpacklo_epi64(abcd, efgh), _mm256_unpackhi_epi64(abcd, efgh));
    let halves = _mm256_add_epi16(low, high);
    let low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(halves));
    _mm256_add_epi32(low, _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(halves)))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_words(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi16(_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_pairs_of_words(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi16(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b))
}

/// Lane g of the result is the sum of the 8 i32 of vector g.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_each_of_ints([a, b, c, d, e, f, g, h]: [__m256i; LANES]) -> __m256i {
    let (abcd, efgh) = (add_four(a, b, c, d), add_four(e, f, g, h));
    let crossed = _mm256_permute2x128_si256::<0x21>(abcd, efgh);
    _mm256_add_epi32(_mm256_blend_epi32::<0xf0>(abcd, efgh), crossed)
}

/// In each half, lane i is the sum of the four i32 of vector i.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_four(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_floats(values: &[f32; LANES]) -> __m256 {
    // SAFETY: the array has 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_halves(values: &[f16; LANES]) -> __m256 {
    // SAFETY: the array has 16 bytes, and the load needs no alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
}

/// The sum of the eight lanes of each vector, neighbours first.
///
/// ```text
/// hadd(a, b)             | a01 a23 b01 b23 | a45 a67 b45 b67 |
/// hadd of two of those   | a0-3 b0-3 c0-3 d0-3 | a4-7 b4-7 c4-7 d4-7 |
/// ```
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_each([a, b, c, d]: [__m256; TILE_ROWS]) -> [f32; TILE_ROWS] {
    let quarters = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    let sums = _mm_add_ps(_mm256_castps256_ps128(quarters), _mm256_extractf128_ps::<1>(quarters));
    let mut result = [0.0; TILE_ROWS];
    // SAFETY: the array has 16 bytes, and the store needs no alignment.
    unsafe { _mm_storeu_ps(result.as_mut_ptr(), sums) };
    result
}
