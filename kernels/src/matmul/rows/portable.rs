//! `portable-matmul-rows`: rows are unpacked to 16-bit integers.

use crate::Isa;
use crate::matmul::panel::{dot_of_words, unpack_words};
use crate::packed::Bits;

pub(super) fn sums_of_rows(bits: Bits, codes: &[u8], row_bytes: usize, tokens: &[i8], sums: &mut [i32]) {
    let tokens: Vec<i16> = tokens.iter().map(|&code| i16::from(code)).collect();
    let mut words = vec![0_i16; row_bytes * 8 / bits.count() as usize];
    let num_rows = codes.len() / row_bytes;
    for (row, codes) in codes.chunks_exact(row_bytes).enumerate() {
        unpack_words(Isa::PORTABLE, bits, codes, &mut words);
        for (token, sums) in tokens.chunks_exact(words.len()).zip(sums.chunks_exact_mut(num_rows)) {
            sums[row] = dot_of_words(&words, token);
        }
    }
}
