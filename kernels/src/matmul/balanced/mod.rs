//! w2a8 and w4a8: balanced codes of 2 or 4 bits times 8-bit activations, summed as integers.
//!
//! The two kinds differ in shift, mask and block length alone, so `BITS` is a parameter of one kernel for each instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
mod portable;

use super::strip::{LANES, Strip};
use crate::Isa;
use crate::isa::Kind;

/// `sums[tile * num_groups + group][lane] = sum over the group of q_w * q_a`, with one group for the whole row if `group_size` is
/// `None`.
pub(super) fn dot<const BITS: i32>(isa: Isa, strip: Strip<'_>, group_size: Option<usize>, sums: &mut [[i32; LANES]]) {
    match isa.0 {
        Kind::Portable => portable::dot::<BITS>(strip, group_size, sums),
        // SAFETY: this kind of `Isa` is made by `Isa::available` alone, where the CPU has these features.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { avx2::dot::<BITS>(strip, group_size, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => unsafe { avx512_vnni::dot::<BITS>(strip, group_size, sums) },
    }
}
