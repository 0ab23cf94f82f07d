//! `avx512-matmul-f32`: tiles of 3 tokens and 4 rows, 16 columns at a time; otherwise as `avx2-matmul-f32`.
//!
//! ```text
//! total[r][t], 16 f32:   lane i = sum over k of x[t][16 k + i] * w[r][16 k + i]    (fused, k ascending)
//! ```

#![allow(clippy::needless_range_loop, reason = "a token indexes several arrays")]

use std::arch::x86_64::*;

/// See [`super::tiles`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
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
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
fn tile<const T: usize, const R: usize>(x: &[f32], w: &[f32], columns: usize, out: &mut [f32], stride: usize) {
    let (x, w) = (super::rows_of::<T>(x, columns), super::rows_of::<R>(w, columns));
    let mut totals = [[_mm512_setzero_ps(); T]; R];
    for first in (0..columns).step_by(16) {
        let mask = if columns - first < 16 { (1 << (columns - first)) - 1 } else { 0xffff };
        // SAFETY: the mask reads 16 elements after `first`, or those that there are: each slice has `columns`.
        let load = |values: &[f32]| unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr().add(first)) };
        let mut tokens = [_mm512_setzero_ps(); T];
        for t in 0..T {
            tokens[t] = load(x[t]);
        }
        for r in 0..R {
            let w = load(w[r]);
            for t in 0..T {
                totals[r][t] = _mm512_fmadd_ps(tokens[t], w, totals[r][t]);
            }
        }
    }
    for (r, totals) in totals.into_iter().enumerate() {
        for (t, total) in totals.into_iter().enumerate() {
            out[t * stride + r] = _mm512_reduce_add_ps(total);
        }
    }
}
