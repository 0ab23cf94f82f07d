//! `portable-matmul-rows`: rows are unpacked to 16-bit integers.

use crate::Isa;
use crate::matmul::panel::{dot_of_words, unpack_words};
use crate::packed::Bits;

pub(super) fn sums_of_rows(bits: Bits, codes: &[u8], row_bytes: usize, token: &[i8], sums: &mut [i32]) {
    let token: Vec<i16> = token.iter().map(|&code| i16::from(code)).collect();
    let mut row = vec![0_i16; token.len()];
    for (codes, sum) in codes.chunks_exact(row_bytes).zip(sums) {
        unpack_words(Isa::PORTABLE, bits, codes, &mut row);
        *sum = dot_of_words(&row, &token);
    }
}
