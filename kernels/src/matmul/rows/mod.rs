//! Few tokens with rows that have one scale each: rows as they lie in memory, one after the other. With one token, reading them is the work; four
//! rows side by side take a third longer. With several, arithmetic is: on AVX2 four tokens share what it takes to unpack a row.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_tokens;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
mod portable;

use crate::Isa;
use crate::isa::Kind;
use crate::packed::Bits;

/// `sums`, `[tokens, rows]`, are those of code times code over each row of `codes`, `[rows, row_bytes]`, with each of some tokens,
/// `[tokens, padded_columns]`. There is a row at least.
pub(super) fn sums_of_rows(isa: Isa, bits: Bits, codes: &[u8], row_bytes: usize, tokens: &[i8], sums: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    let (width, num_rows) = (row_bytes * 8 / bits.count() as usize, codes.len() / row_bytes);
    match isa.0 {
        Kind::Portable => portable::sums_of_rows(bits, codes, row_bytes, tokens, sums),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 | Kind::AvxVnni => {
            for (tokens, sums) in tokens.chunks(4 * width).zip(sums.chunks_mut(4 * num_rows)) {
                // SAFETY: these kinds of `Isa` are made by `Isa::available` alone, where the CPU has these features.
                unsafe {
                    match tokens.len() / width {
                        1 => avx2::sums_of_rows(bits, codes, row_bytes, tokens, sums),
                        2 => avx2_tokens::sums_of_rows::<2>(bits, codes, row_bytes, tokens, sums),
                        3 => avx2_tokens::sums_of_rows::<3>(bits, codes, row_bytes, tokens, sums),
                        _ => avx2_tokens::sums_of_rows::<4>(bits, codes, row_bytes, tokens, sums),
                    }
                }
            }
        }
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => {
            for (token, sums) in tokens.chunks_exact(width).zip(sums.chunks_exact_mut(num_rows)) {
                // SAFETY: as above.
                unsafe { avx512_vnni::sums_of_rows(bits, codes, row_bytes, token, sums) };
            }
        }
    }
}
