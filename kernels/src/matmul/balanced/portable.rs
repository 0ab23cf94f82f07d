//! `portable-matmul-w2a8` and `portable-matmul-w4a8`: the definition, in plain loops.
//!
//! Byte b of block k holds, from its lowest bits, the codes of the weights `k * run + b + 64 * plane`, plane = 0, 1, ...

use crate::matmul::packed::{Tile, for_each_lane};
use crate::packed::BLOCK_BYTES;
use crate::quantize::LANES;

pub(super) fn dot<const BITS: i32>(tile: Tile<'_>, group_size: Option<usize>, sums: &mut [[i32; LANES]]) {
    let run = BLOCK_BYTES * 8 / BITS as usize;
    let mask = (1_u8 << BITS) - 1;
    sums.fill([0; LANES]);
    for_each_lane(tile, |lane, codes, activations| {
        for (block, (codes, activations)) in
            codes.chunks_exact(BLOCK_BYTES).zip(activations.chunks_exact(run)).enumerate()
        {
            for (plane, activations) in activations.chunks_exact(BLOCK_BYTES).enumerate() {
                // Groups have 32, 64 or 128 weights: a run of 32 lies inside one.
                for (half, (codes, activations)) in codes.chunks_exact(32).zip(activations.chunks_exact(32)).enumerate()
                {
                    let products = codes.iter().zip(activations);
                    let sum: i32 =
                        products.map(|(&q, &a)| i32::from(q >> (plane as i32 * BITS) & mask) * i32::from(a)).sum();
                    let column = block * run + plane * BLOCK_BYTES + half * 32;
                    sums[group_size.map_or(0, |size| column / size)][lane] += sum;
                }
            }
        }
    });
}
