//! `portable-matmul-w2a8` and `portable-matmul-w4a8`: the definition, in plain loops.
//!
//! Byte b of block k holds, from its lowest bits, the codes of the weights `k * run + b + 64 * plane`, plane = 0, 1, ...

use crate::matmul::strip::{LANES, Strip};
use crate::packed::BLOCK_BYTES;

pub(super) fn dot<const BITS: i32, const CHUNKS: usize>(strip: Strip<'_>, sums: &mut [[i32; LANES]]) {
    let run = BLOCK_BYTES * 8 / BITS as usize;
    let mask = (1_u8 << BITS) - 1;
    sums.fill([0; LANES]);
    let num_groups = sums.len() / strip.num_tiles();
    strip.for_each_lane(|tile, lane, codes, activations| {
        let sums = &mut sums[tile * num_groups..(tile + 1) * num_groups];
        for (block, (codes, activations)) in
            codes.chunks_exact(BLOCK_BYTES).zip(activations.chunks_exact(run)).enumerate()
        {
            for (plane, activations) in activations.chunks_exact(BLOCK_BYTES).enumerate() {
                // Groups are whole chunks of 32.
                for (half, (codes, activations)) in codes.chunks_exact(32).zip(activations.chunks_exact(32)).enumerate()
                {
                    let products = codes.iter().zip(activations);
                    let sum: i32 =
                        products.map(|(&q, &a)| i32::from(q >> (plane as i32 * BITS) & mask) * i32::from(a)).sum();
                    let chunk = (block * run + plane * BLOCK_BYTES) / 32 + half;
                    // The padding may go on beyond the last group.
                    if let Some(sums) = sums.get_mut(chunk / CHUNKS) {
                        sums[lane] += sum;
                    }
                }
            }
        }
    });
}
