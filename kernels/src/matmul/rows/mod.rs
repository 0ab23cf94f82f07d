//! Few tokens with rows that have one scale each: the weights go by once, row after row as they lie in memory. Reading them is the work; four rows
//! side by side take a third longer.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
mod portable;

use crate::Isa;
use crate::isa::Kind;
use crate::packed::Bits;

/// `sums[row]` = sum of code times code over each row of `codes`, `[rows, row_bytes]`, with a token, `[padded_columns]`.
pub(super) fn sums_of_rows(isa: Isa, bits: Bits, codes: &[u8], row_bytes: usize, token: &[i8], sums: &mut [i32]) {
    match isa.0 {
        Kind::Portable => portable::sums_of_rows(bits, codes, row_bytes, token, sums),
        // SAFETY: this kind of `Isa` is made by `Isa::available` alone, where the CPU has these features.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 | Kind::AvxVnni => unsafe { avx2::sums_of_rows(bits, codes, row_bytes, token, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => unsafe { avx512_vnni::sums_of_rows(bits, codes, row_bytes, token, sums) },
    }
}
