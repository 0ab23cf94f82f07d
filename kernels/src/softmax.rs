//! `softmax(x)_i = e^(x_i - max x) / sum_j e^(x_j - max x)`, the same to the bit on every instruction set.

use crate::activation::exp;
use crate::isa::for_each_isa;
use crate::lanes;

for_each_isa! {
    /// Softmax of each row of `values`, `[rows, columns]`, in place. `-inf` gives 0 (a row of nothing else gives NaN).
    pub fn softmax(values: &mut [f32], columns: usize) {
        for row in values.chunks_exact_mut(columns.max(1)) {
            let (_, sum) = exponentials(row, f32::NEG_INFINITY);
            let inverse = 1.0 / sum;
            row.iter_mut().for_each(|value| *value *= inverse);
        }
    }
}

/// Replaces each `x` by `e^(x - m)`, where m is the largest of them and of `at_least`; m and the sum.
#[inline(always)]
pub(crate) fn exponentials(row: &mut [f32], at_least: f32) -> (f32, f32) {
    let largest = lanes::largest(row).max(at_least);
    row.iter_mut().for_each(|value| *value = exp(*value - largest));
    (largest, lanes::sum(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::testing::{Random, assert_close, assert_same_bits};

    #[test]
    fn softmax_is_that_of_f64_on_every_instruction_set() {
        // One below, at and above the sixteen lanes of the sums.
        for columns in [1, 15, 16, 17, 100, 1025] {
            let values: Vec<f32> = Random::new(1).vec(3 * columns).iter().map(|x| x * 30.0).collect();
            let mut portable = values.clone();
            softmax(Isa::PORTABLE, &mut portable, columns);
            let expected: Vec<f64> = values
                .chunks(columns)
                .flat_map(|row| {
                    let largest = row.iter().fold(f32::MIN, |a, &b| a.max(b));
                    let powers: Vec<f64> = row.iter().map(|&x| f64::from(x - largest).exp()).collect();
                    let sum: f64 = powers.iter().sum();
                    powers.into_iter().map(move |power| power / sum)
                })
                .collect();
            assert_close(&portable, &expected, 1e-6, &format!("{columns} columns"));
            for isa in Isa::available() {
                let mut found = values.clone();
                softmax(isa, &mut found, columns);
                assert_same_bits(&found, &portable, isa.name());
            }
        }
    }

    #[test]
    fn large_values_do_not_overflow_and_minus_infinity_has_no_share() {
        for isa in Isa::available() {
            let mut values = [1e30, f32::NEG_INFINITY, 1e30, -1e30];
            softmax(isa, &mut values, 4);
            assert_eq!(values, [0.5, 0.0, 0.5, 0.0]);
            softmax(isa, &mut [], 0);
        }
    }
}
