//! Activation functions, element by element, the same to the bit on every instruction set.
//!
//! | name | formula |
//! | --- | --- |
//! | gelu | `x * (1 + erf(x / sqrt(2))) / 2` |
//! | gelu_tanh | `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2` |
//! | quick_gelu | `x * sigmoid(1.702 x)` |
//! | silu | `x * sigmoid(x)` |
//! | relu | `max(x, 0)` |
//!
//! The first two are those of `torch.nn.functional.gelu` (`approximate` "none" and "tanh"), quick_gelu is that of OpenAI's CLIP.

use crate::isa::for_each_isa;

/// `e^x` within 2 units in the last place; 0 below -104, infinite above 88.8, NaN for NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln(2) / 2`, `e^r` by its Taylor polynomial of degree 7 (remainder below 6e-9), times `2^n`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // ln 2 in two parts (Cody and Waite): the first has 9 bits, so that its product with n is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to an integer, which is left in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let x = x.clamp(-104.0, 89.0);
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    let n_float = shifted - MAGIC;
    let r = (x - n_float * LN_2_HIGH) - n_float * LN_2_LOW;
    let mut sum = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * r + coefficient;
    }
    // 2^n in two factors, as n = -150 and n = 128 have no f32 of their own.
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    sum * power(half) * power(n.wrapping_sub(half))
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `erf(x)` within 2e-7.
///
/// Up to 1: `x P(x^2)`; above: `1 - e^(-x^2) t Q(t)` with `t = 1 / (1 + 0.6 x)`. P and Q are Chebyshev fits of degree 6, of 1.4e-7 and
/// 4.5e-8 when they are evaluated in f32.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const P: [f32; 7] = [
        7.882_497_5e-5,
        -8.018_855e-4,
        5.189_312e-3,
        -2.685_433e-2,
        0.112_835_97,
        -0.376_126_27,
        std::f32::consts::FRAC_2_SQRT_PI,
    ];
    const Q: [f32; 7] =
        [0.164_024_1, -0.369_879_6, 0.122_534_856, 0.127_314_85, 0.281_395_02, 0.338_258_9, 0.338_519_84];
    let z = x.abs();
    let square = z * z;
    let t = 1.0 / (1.0 + 0.6 * z);
    let (mut p, mut q) = (P[0], Q[0]);
    for index in 1..7 {
        p = p * square + P[index];
        q = q * t + Q[index];
    }
    let magnitude = if z < 1.0 { z * p } else { 1.0 - exp(-square) * t * q };
    magnitude.copysign(x)
}

for_each_isa! {
    /// GELU with the exact error function (within 2e-7 of it), in place.
    pub fn gelu(values: &mut [f32]) {
        for x in values {
            *x = 0.5 * *x * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2));
        }
    }
}

for_each_isa! {
    /// GELU by its tanh approximation, in place.
    pub fn gelu_tanh(values: &mut [f32]) {
        // (1 + tanh(u)) / 2 = sigmoid(2 u)
        const FACTOR: f32 = 2.0 * 0.797_884_6;
        for x in values {
            *x *= sigmoid(FACTOR * (*x + 0.044_715 * *x * *x * *x));
        }
    }
}

for_each_isa! {
    /// `x * sigmoid(1.702 x)`, in place.
    pub fn quick_gelu(values: &mut [f32]) {
        for x in values {
            *x *= sigmoid(1.702 * *x);
        }
    }
}

for_each_isa! {
    /// `x * sigmoid(x)`, in place.
    pub fn silu(values: &mut [f32]) {
        for x in values {
            *x *= sigmoid(*x);
        }
    }
}

for_each_isa! {
    /// `gate = silu(gate) * up`: the middle of a gated MLP (SwiGLU). Both have the same length.
    pub fn silu_mul(gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "gate has {} elements, up {}", gate.len(), up.len());
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = *gate * sigmoid(*gate) * up;
        }
    }
}

for_each_isa! {
    /// `max(x, 0)`, in place.
    pub fn relu(values: &mut [f32]) {
        for x in values {
            *x = x.max(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::testing::{assert_close, assert_same_bits};

    /// The error function in f64: its Taylor series up to 3, above that the continued fraction of erfc (Abramowitz and Stegun 7.1.5, 7.1.14).
    fn erf_f64(x: f64) -> f64 {
        if x.abs() < 3.0 {
            let (mut term, mut sum) = (x, x);
            for n in 1..100 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return sum * std::f64::consts::FRAC_2_SQRT_PI;
        }
        let z = x.abs();
        let fraction = (1..100).rev().fold(z, |fraction, n| z + f64::from(n) / 2.0 / fraction);
        (1.0 - (-z * z).exp() / fraction / std::f64::consts::PI.sqrt()).copysign(x)
    }

    fn inputs() -> Vec<f32> {
        (-4000..=4000)
            .map(|step| step as f32 * 0.0027)
            .chain([0.0, -0.0, 88.0, -88.0, 200.0, -200.0, 1e30, -1e30])
            .collect()
    }

    #[test]
    fn every_function_is_that_of_f64_on_every_instruction_set() {
        type InPlace = fn(Isa, &mut [f32]);
        type Reference<'a> = &'a dyn Fn(f64) -> f64;
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let tanh_argument = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        let cases: [(&str, InPlace, Reference<'_>); 5] = [
            ("gelu", gelu, &|x| x * 0.5 * (1.0 + erf_f64(x / 2.0_f64.sqrt()))),
            ("gelu_tanh", gelu_tanh, &|x| x * 0.5 * (1.0 + tanh_argument(x).tanh())),
            ("quick_gelu", quick_gelu, &|x| x * sigmoid(1.702 * x)),
            ("silu", silu, &|x| x * sigmoid(x)),
            ("relu", relu, &|x| x.max(0.0)),
        ];
        for (name, function, reference) in cases {
            let mut portable = inputs();
            function(Isa::PORTABLE, &mut portable);
            for (found, x) in portable.iter().zip(inputs()) {
                let expected = reference(f64::from(x));
                let tolerance = 4e-7 * f64::from(x.abs()).max(1.0);
                assert!(
                    (f64::from(*found) - expected).abs() <= tolerance,
                    "{name}({x}) is {found}, expected {expected}"
                );
            }
            for isa in Isa::available() {
                let mut found = inputs();
                function(isa, &mut found);
                assert_same_bits(&found, &portable, &format!("{} {name}", isa.name()));
            }
        }
    }

    #[test]
    fn erf_and_exp_are_accurate_over_their_whole_range() {
        for x in inputs() {
            assert!(
                (f64::from(erf(x)) - erf_f64(f64::from(x).clamp(-9.0, 9.0))).abs() < 2e-7,
                "erf({x}) is {}",
                erf(x)
            );
        }
        for step in -8700..=8800 {
            let x = step as f32 * 0.01;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < 3e-7, "exp({x}) is {}, expected {expected}", exp(x));
        }
        assert_eq!([exp(-105.0), exp(f32::NEG_INFINITY), exp(0.0)], [0.0, 0.0, 1.0]);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn silu_mul_is_silu_times_up() {
        for isa in Isa::available() {
            let up: Vec<f32> = inputs().into_iter().filter(|x| x.abs() < 1e10).collect();
            let (mut gate, mut silu_alone) = (up.clone(), up.clone());
            silu_mul(isa, &mut gate, &up);
            silu(isa, &mut silu_alone);
            let expected: Vec<f64> = silu_alone.iter().zip(&up).map(|(a, b)| f64::from(a * b)).collect();
            assert_close(&gate, &expected, 0.0, isa.name());
        }
    }
}
