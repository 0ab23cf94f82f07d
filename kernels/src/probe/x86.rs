//! Loops that do nothing but the multiplications of the x86-64 kernels, with enough sums to hide their latency.

use std::arch::x86_64::*;
use std::hint::black_box;

/// Sums in registers: enough for two instructions a cycle of four cycles' latency.
const SUMS: usize = 10;

/// `maddubs`, `madd` with ones, add: three instructions for 32 products.
#[target_feature(enable = "avx2,fma")]
pub(super) fn int8_avx2(iterations: usize) -> f64 {
    let (a, ones) = (black_box(_mm256_set1_epi8(3)), _mm256_set1_epi16(1));
    let factors = [_mm256_set1_epi8(-5); SUMS];
    let mut totals = [_mm256_setzero_si256(); SUMS];
    for _ in 0..iterations {
        // Read anew each time, as far as the compiler knows: products of constants would be taken out of the loop.
        for (total, factor) in totals.iter_mut().zip(black_box(&factors)) {
            *total = _mm256_add_epi32(*total, _mm256_madd_epi16(_mm256_maddubs_epi16(a, *factor), ones));
        }
    }
    black_box(totals);
    (iterations * SUMS * 32 * 2) as f64
}

#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) fn int8_avx_vnni(iterations: usize) -> f64 {
    let (a, b) = (black_box(_mm256_set1_epi8(3)), black_box(_mm256_set1_epi8(-5)));
    let mut totals = [_mm256_setzero_si256(); SUMS];
    for _ in 0..iterations {
        for total in &mut totals {
            *total = _mm256_dpbusd_avx_epi32(*total, a, b);
        }
    }
    black_box(totals);
    (iterations * SUMS * 32 * 2) as f64
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn int8_avx512_vnni(iterations: usize) -> f64 {
    let (a, b) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(-5)));
    let mut totals = [_mm512_setzero_si512(); SUMS];
    for _ in 0..iterations {
        for total in &mut totals {
            *total = _mm512_dpbusd_epi32(*total, a, b);
        }
    }
    black_box(totals);
    (iterations * SUMS * 64 * 2) as f64
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn f32_avx2(iterations: usize) -> f64 {
    let (a, b) = (black_box(_mm256_set1_ps(0.999)), black_box(_mm256_set1_ps(0.001)));
    let mut totals = [_mm256_setzero_ps(); SUMS];
    for _ in 0..iterations {
        for total in &mut totals {
            *total = _mm256_fmadd_ps(*total, a, b);
        }
    }
    black_box(totals);
    (iterations * SUMS * 8 * 2) as f64
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn f32_avx512(iterations: usize) -> f64 {
    let (a, b) = (black_box(_mm512_set1_ps(0.999)), black_box(_mm512_set1_ps(0.001)));
    let mut totals = [_mm512_setzero_ps(); SUMS];
    for _ in 0..iterations {
        for total in &mut totals {
            *total = _mm512_fmadd_ps(*total, a, b);
        }
    }
    black_box(totals);
    (iterations * SUMS * 16 * 2) as f64
}
