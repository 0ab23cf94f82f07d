//! `portable-matmul-panel`: plain loops over 16-bit integers.
//!
//! Two neighbouring products are added first, and in eight lanes: the compiler has an instruction for that on most machines.

use super::{Strip, Sums};

pub(super) fn words(strip: Strip<'_, i16, i16>, sums: &mut [Sums]) {
    strip.for_each_tile::<2>(sums, |rows, tokens| tokens.map(|token| rows.map(|row| dot(row, token))));
}

/// The sum of the products; the lengths are multiples of 16.
#[inline(always)]
pub(in crate::matmul) fn dot(row: &[i16], token: &[i16]) -> i32 {
    let mut sums = [0_i32; 8];
    for (row, token) in row.as_chunks::<16>().0.iter().zip(token.as_chunks::<16>().0) {
        for lane in 0..8 {
            let product = |index: usize| i32::from(row[index]) * i32::from(token[index]);
            sums[lane] += product(2 * lane) + product(2 * lane + 1);
        }
    }
    sums.iter().sum()
}
