//! Loads and horizontal sums that the x86-64 kernels share.
//!
//! In functions with `#[target_feature]`, arrays of vectors are filled by loops, not by `array::map` or `from_fn`: those are compiled without
//! the features, so that a closure with intrinsics stays a call (measured: a quarter of the time of w8a8).

use std::arch::x86_64::*;

/// Sums of one call of [`sum_each`].
const LANES: usize = 4;

/// 32 bytes.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn load<T: bytemuck::Pod>(bytes: &[T; 32]) -> __m256i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: the array has 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 16 words.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn load_words(words: &[i16; 16]) -> __m256i {
    // SAFETY: the array has 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// 64 bytes.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn load_512<T: bytemuck::Pod>(bytes: &[T; 64]) -> __m512i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: the array has 64 bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// How far ahead of its use a row of weights is asked for, in bytes: rows follow each other in memory, and the few lines of one row are too
/// short a stream for the hardware to notice.
const AHEAD: usize = 4096;

/// Asks for the weights that one token will need soon after `here`.
#[inline]
#[target_feature(enable = "sse")]
pub(super) fn prefetch<T>(here: &T) {
    // The address may be beyond the weights: a prefetch reads nothing that the program can see.
    _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(here).cast::<i8>().wrapping_add(AHEAD));
}

/// The sum of the eight i32 of each vector.
///
/// ```text
/// hadd(a, b)             | a01 a23 b01 b23 | a45 a67 b45 b67 |
/// hadd of two of those   | a0-3 b0-3 c0-3 d0-3 | a4-7 b4-7 c4-7 d4-7 |
/// ```
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn sum_each([a, b, c, d]: [__m256i; LANES]) -> [i32; LANES] {
    let quarters = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(quarters), _mm256_extracti128_si256::<1>(quarters));
    let mut result = [0; LANES];
    // SAFETY: the array has 16 bytes, and the store needs no alignment.
    unsafe { _mm_storeu_si128(result.as_mut_ptr().cast(), sums) };
    result
}

/// Lower half plus upper half, lane by lane.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn fold(vectors: [__m512i; LANES]) -> [__m256i; LANES] {
    let mut folded = [_mm256_setzero_si256(); LANES];
    for lane in 0..LANES {
        let (low, high) = (_mm512_castsi512_si256(vectors[lane]), _mm512_extracti64x4_epi64::<1>(vectors[lane]));
        folded[lane] = _mm256_add_epi32(low, high);
    }
    folded
}

/// The slices in chunks of `N` elements, `count` of them each.
#[inline(always)]
pub(super) fn chunks_of<'a, T, const N: usize, const K: usize>(
    slices: [&'a [T]; K],
    count: usize,
) -> [&'a [[T; N]]; K] {
    let mut chunks: [&'a [[T; N]]; K] = [&[]; K];
    for (chunks, slice) in chunks.iter_mut().zip(slices) {
        *chunks = &slice.as_chunks::<N>().0[..count];
    }
    chunks
}
