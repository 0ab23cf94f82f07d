//! `portable-matmul-w8a8`: the definition, in plain loops.

use crate::matmul::packed::{Tile, for_each_lane};
use crate::quantize::LANES;

pub(super) fn dot(tile: Tile<'_>, group_size: Option<usize>, sums: &mut [[i32; LANES]]) {
    sums.fill([0; LANES]);
    for_each_lane(tile, |lane, codes, activations| {
        for (run, (codes, activations)) in codes.chunks_exact(32).zip(activations.chunks_exact(32)).enumerate() {
            let products = codes.iter().zip(activations);
            let sum: i32 = products.map(|(&q, &a)| i32::from(q as i8) * i32::from(a)).sum();
            sums[group_size.map_or(0, |size| run * 32 / size)][lane] += sum;
        }
    });
}
