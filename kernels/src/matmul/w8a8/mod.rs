//! w8a8: 8-bit weights times 8-bit activations, summed as integers.

mod portable;

use super::packed::Tile;
use crate::Isa;
use crate::isa::Kind;
use crate::quantize::LANES;

/// `sums[group][lane] = sum over the group of q_w * q_a`, with one group for the whole row if `group_size` is `None`.
pub(super) fn dot(isa: Isa, tile: Tile<'_>, group_size: Option<usize>, sums: &mut [[i32; LANES]]) {
    match isa.0 {
        _ => portable::dot(tile, group_size, sums),
    }
}
