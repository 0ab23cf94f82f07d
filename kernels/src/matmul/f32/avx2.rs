//! `avx2-matmul-f32`: tiles of 3 tokens and 4 rows, 8 columns at a time.
//!
//! ```text
//! total[r][t], 8 f32:    lane i = sum over k of x[t][8 k + i] * w[r][8 k + i]      (fused, k ascending)
//! 12 totals, 3 vectors of x and 1 of w are the 16 registers; 7 loads for 12 products
//! ```
//!
//! The sum of an element does not depend on its place in a tile, and neither on the tokens around it. The last columns are loaded under a
//! mask, the rest of their vector being 0.

#![allow(clippy::needless_range_loop, reason = "a token indexes several arrays")]

use std::arch::x86_64::*;

/// See [`super::tiles`].
#[target_feature(enable = "avx2,fma")]
pub(super) fn matmul(x: &[f32], w: &[f32], columns: usize, out: &mut [f32], stride: usize) {
    super::for_each_tile(x, w, columns, out, stride, |x, w, out| match (x.len() / columns, w.len() / columns) {
        (3, 4) => tile::<3, 4>(x, w, columns, out, stride),
        (2, 4) => tile::<2, 4>(x, w, columns, out, stride),
        (1, 4) => tile::<1, 4>(x, w, columns, out, stride),
        (3, 1) => tile::<3, 1>(x, w, columns, out, stride),
        (2, 1) => tile::<2, 1>(x, w, columns, out, stride),
        _ => tile::<1, 1>(x, w, columns, out, stride),
    });
}

/// `x` is `[T, columns]`, `w` `[R, columns]`; writes `out[t * stride + r]`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn tile<const T: usize, const R: usize>(x: &[f32], w: &[f32], columns: usize, out: &mut [f32], stride: usize) {
    let (x, w) = (super::rows_of::<T>(x, columns), super::rows_of::<R>(w, columns));
    let mut totals = [[_mm256_setzero_ps(); T]; R];
    for first in (0..columns / 8 * 8).step_by(8) {
        // SAFETY: `first + 8 <= columns`, the length of each slice.
        step(&mut totals, x, w, |values| unsafe { _mm256_loadu_ps(values.as_ptr().add(first)) });
    }
    let rest = columns % 8;
    if rest > 0 {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(rest as i32), lanes);
        // SAFETY: the mask reads the `rest` elements after `columns - rest`, the last of each slice.
        step(&mut totals, x, w, |values| unsafe { _mm256_maskload_ps(values.as_ptr().add(columns - rest), mask) });
    }
    for (r, totals) in totals.into_iter().enumerate() {
        for (t, total) in totals.into_iter().enumerate() {
            out[t * stride + r] = sum(total);
        }
    }
}

/// Adds the products of eight columns, which `load` reads from each row.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn step<const T: usize, const R: usize>(
    totals: &mut [[__m256; T]; R],
    x: [&[f32]; T],
    w: [&[f32]; R],
    load: impl Fn(&[f32]) -> __m256,
) {
    let mut tokens = [_mm256_setzero_ps(); T];
    for t in 0..T {
        tokens[t] = load(x[t]);
    }
    for r in 0..R {
        let row = load(w[r]);
        for t in 0..T {
            totals[r][t] = _mm256_fmadd_ps(tokens[t], row, totals[r][t]);
        }
    }
}

/// Lanes i + 4, i + 2, i + 1 are added to lane i.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sum(total: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(total), _mm256_extractf128_ps::<1>(total));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
