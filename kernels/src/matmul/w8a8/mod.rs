//! w8a8: 8-bit weights times 8-bit activations, summed as integers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
mod portable;

use super::strip::{LANES, Strip};
use crate::Isa;
use crate::isa::Kind;

/// `sums[tile * num_groups + group][lane] = sum over the group of q_w * q_a`. A group has `CHUNKS` times 32 weights.
pub(super) fn dot<const CHUNKS: usize>(isa: Isa, strip: Strip<'_>, sums: &mut [[i32; LANES]]) {
    match isa.0 {
        Kind::Portable => portable::dot::<CHUNKS>(strip, sums),
        // SAFETY: this kind of `Isa` is made by `Isa::available` alone, where the CPU has these features.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 | Kind::AvxVnni => unsafe { avx2::dot::<CHUNKS>(strip, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => unsafe { avx512_vnni::dot::<CHUNKS>(strip, sums) },
    }
}
