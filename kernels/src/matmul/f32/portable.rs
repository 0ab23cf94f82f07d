//! `portable-matmul-f32`: plain loops with eight lanes.

/// See [`super::tiles`].
pub(super) fn matmul(x: &[f32], w: &[f32], columns: usize, out: &mut [f32], stride: usize) {
    for (x, out) in x.chunks_exact(columns).zip(out.chunks_mut(stride)) {
        for (w, out) in w.chunks_exact(columns).zip(out) {
            *out = dot(x, w);
        }
    }
}

/// Column k is added to lane k % 8; then lanes i + 4, i + 2, i + 1 to lane i.
fn dot(x: &[f32], w: &[f32]) -> f32 {
    let mut lanes = [0.0; 8];
    for (x, w) in x.chunks(8).zip(w.chunks(8)) {
        for (lane, (x, w)) in lanes.iter_mut().zip(x.iter().zip(w)) {
            *lane += x * w;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}
