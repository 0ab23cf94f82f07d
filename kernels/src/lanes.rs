//! Reductions in a stated order that the compiler can turn into vectors: element k goes to lane k % 16, in ascending order; then lanes
//! i + 8, i + 4, i + 2, i + 1 are added to lane i.

use std::hint::black_box;

const LANES: usize = 16;

/// Folds the lanes as the head of this file says.
#[inline(always)]
fn tree(mut lanes: [f32; LANES], fold: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = fold(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The larger one; the first if the second is NaN.
#[inline(always)]
fn larger(x: f32, y: f32) -> f32 {
    if y > x { y } else { x }
}

/// The sum of `value(x, y)` over two slices of one length.
#[inline(always)]
fn reduce(x: &[f32], y: &[f32], value: impl Fn(f32, f32) -> f32) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (x, y) in x.iter().zip(y) {
        for lane in 0..LANES {
            lanes[lane] += value(x[lane], y[lane]);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *lane += value(x, y);
    }
    // Seen together with the tree, the loop is compiled for vectors of two lanes (rustc 1.95, measured in attention: a third of the speed).
    tree(black_box(lanes), |x, y| x + y)
}

/// The sum of `x`.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    reduce(x, x, |x, _| x)
}

/// The sum of the squares of `x - shift`.
#[inline(always)]
pub(crate) fn sum_squares(x: &[f32], shift: f32) -> f32 {
    reduce(x, x, |x, _| (x - shift) * (x - shift))
}

/// The sum of `x * y`; both have the same length.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    reduce(x, y, |x, y| x * y)
}

/// The largest element; `-inf` of none. NaN counts as small.
#[inline(always)]
pub(crate) fn largest(x: &[f32]) -> f32 {
    largest_of(x, f32::NEG_INFINITY, |x| x)
}

/// `max|x|`; 0 of none. NaN counts as small.
#[inline(always)]
pub(crate) fn largest_magnitude(x: &[f32]) -> f32 {
    largest_of(x, 0.0, f32::abs)
}

#[inline(always)]
fn largest_of(x: &[f32], least: f32, value: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [least; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], value(chunk[lane]));
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, value(*x));
    }
    tree(black_box(lanes), larger)
}
