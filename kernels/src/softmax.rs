//! `softmax(x)_i = e^(x_i - max x) / sum_j e^(x_j - max x)`, the same to the bit on every instruction set.

use crate::activation::exp;
use crate::isa::for_each_isa;
use crate::lanes;

for_each_isa! {
    /// Softmax of each row of `values`, `[rows, columns]`, in place. `-inf` gives 0 (a row of nothing else gives NaN).
    pub fn softmax(values: &mut [f32], columns: usize) {
        for row in values.chunks_exact_mut(columns.max(1)) {
            let sum = exponentials(row);
            let inverse = 1.0 / sum;
            row.iter_mut().for_each(|value| *value *= inverse);
        }
    }
}

/// Replaces each `x` by `e^(x - max)` and returns the sum.
#[inline(always)]
pub(crate) fn exponentials(row: &mut [f32]) -> f32 {
    let largest = lanes::largest(row);
    row.iter_mut().for_each(|value| *value = exp(*value - largest));
    lanes::sum(row)
}
