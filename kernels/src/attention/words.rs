//! The product of small matrices of 16-bit integers, whose right side lies in strips of 16 columns.
//!
//! ```text
//! out[m][n] = sum over k of a[m][k] * b[k][n]             exact
//! ```
//!
//! Both sides have pairs of k side by side: a pair of `a` meets, in one instruction, the pairs of `b` of eight columns. A tile of 4 rows and 16
//! columns stays in registers over all k.

use super::product::{COLUMNS, ROWS};
use crate::Isa;
use crate::isa::Kind;

/// Elements k and k + 1 of a row of `a`, or of a column of `b`.
pub(super) type Pair = [i16; 2];

/// Pairs of 16 columns.
pub(super) type Strip = [Pair; COLUMNS];

/// Sets `out`, `[rows, strips * 16]`, to the product of `a`, `[rows, depth]`, and `b`, `[strips][depth]`; `rows` is a multiple of 4 and `depth` counts
/// pairs.
pub(super) fn product_of_words(isa: Isa, a: &[Pair], b: &[Strip], depth: usize, out: &mut [i32]) {
    let width = b.len() / depth * COLUMNS;
    assert_eq!(a.len() * width, out.len() * depth, "the matrices do not fit");
    match isa.0 {
        Kind::Portable => for_each_tile(a, b, depth, out, portable),
        // SAFETY: these kinds of `Isa` are made by `Isa::available` alone, where the CPU has these features.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 | Kind::AvxVnni | Kind::Avx512Vnni => unsafe { avx2(a, b, depth, out) },
    }
}

/// Fills the tiles of `out`.
#[inline(always)]
fn for_each_tile(
    a: &[Pair],
    b: &[Strip],
    depth: usize,
    out: &mut [i32],
    tile: impl Fn([&[Pair]; ROWS], &[Strip]) -> [[i32; COLUMNS]; ROWS],
) {
    let width = b.len() / depth * COLUMNS;
    for (a, out) in a.chunks_exact(ROWS * depth).zip(out.chunks_exact_mut(ROWS * width)) {
        let rows = std::array::from_fn(|row| &a[row * depth..(row + 1) * depth]);
        for (strip, b) in b.chunks_exact(depth).enumerate() {
            for (sums, out) in tile(rows, b).iter().zip(out.chunks_exact_mut(width)) {
                out[strip * COLUMNS..(strip + 1) * COLUMNS].copy_from_slice(sums);
            }
        }
    }
}

fn portable(rows: [&[Pair]; ROWS], b: &[Strip]) -> [[i32; COLUMNS]; ROWS] {
    rows.map(|row| {
        // The two products of a pair have lanes of their own until the end: the compiler makes vectors of those.
        let mut sums = [[0_i32; 2]; COLUMNS];
        for (pair, b) in row.iter().zip(b) {
            let factors = [*pair; COLUMNS];
            let terms = factors.as_flattened().iter().zip(b.as_flattened());
            for (sum, (factor, element)) in sums.as_flattened_mut().iter_mut().zip(terms) {
                *sum += i32::from(*factor) * i32::from(*element);
            }
        }
        sums.map(|[even, odd]| even + odd)
    })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(a: &[Pair], b: &[Strip], depth: usize, out: &mut [i32]) {
    for_each_tile(a, b, depth, out, |rows, b| avx2_tile(rows, b));
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
fn avx2_tile(rows: [&[Pair]; ROWS], b: &[Strip]) -> [[i32; COLUMNS]; ROWS] {
    use std::arch::x86_64::*;
    let mut totals = [[_mm256_setzero_si256(); 2]; ROWS];
    for (k, strip) in b.iter().enumerate() {
        let halves: [__m256i; 2] = bytemuck::cast(*strip);
        for row in 0..ROWS {
            let pair = _mm256_set1_epi32(bytemuck::cast(rows[row][k]));
            for half in 0..2 {
                totals[row][half] = _mm256_add_epi32(totals[row][half], _mm256_madd_epi16(pair, halves[half]));
            }
        }
    }
    bytemuck::cast(totals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn products_are_exact_on_every_instruction_set() {
        let mut random = Random::new(5);
        for (rows, depth, strips) in [(4, 1, 1), (8, 16, 8), (12, 3, 2)] {
            let mut words = |count: usize| random.vec(count).iter().map(|x| (x * 32767.0) as i16).collect::<Vec<_>>();
            let (a, b) = (words(rows * depth * 2), words(strips * depth * COLUMNS * 2));
            let (a, b): (&[Pair], &[Strip]) = (bytemuck::cast_slice(&a), bytemuck::cast_slice(&b));
            for isa in Isa::available() {
                let mut out = vec![0; rows * strips * COLUMNS];
                // One quarter, so that sums stay inside 32 bits at any depth here.
                let a: Vec<Pair> = a.iter().map(|pair| pair.map(|word| word / 4)).collect();
                product_of_words(isa, &a, b, depth, &mut out);
                for (place, found) in out.iter().enumerate() {
                    let (row, column) = (place / (strips * COLUMNS), place % (strips * COLUMNS));
                    let expected: i64 = (0..2 * depth)
                        .map(|k| {
                            let strip = &b[column / COLUMNS * depth + k / 2];
                            i64::from(a[row * depth + k / 2][k % 2]) * i64::from(strip[column % COLUMNS][k % 2])
                        })
                        .sum();
                    assert_eq!(i64::from(*found), expected, "{}, row {row}, column {column}", isa.name());
                }
            }
        }
    }
}
