//! `portable-matmul-w8a8`: the definition, in plain loops.

use crate::matmul::strip::{LANES, Strip};

pub(super) fn dot<const CHUNKS: usize>(strip: Strip<'_>, sums: &mut [[i32; LANES]]) {
    sums.fill([0; LANES]);
    let num_groups = sums.len() / strip.num_tiles();
    strip.for_each_lane(|tile, lane, codes, activations| {
        let sums = &mut sums[tile * num_groups..(tile + 1) * num_groups];
        for (chunk, (codes, activations)) in codes.chunks_exact(32).zip(activations.chunks_exact(32)).enumerate() {
            let products = codes.iter().zip(activations);
            let sum: i32 = products.map(|(&q, &a)| i32::from(q as i8) * i32::from(a)).sum();
            // The padding may go on beyond the last group.
            if let Some(sums) = sums.get_mut(chunk / CHUNKS) {
                sums[lane] += sum;
            }
        }
    });
}
