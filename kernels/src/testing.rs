//! Random numbers for tests, the same on every run, and the kinds of packed matrices.

use crate::{Bits, PackedShape};

/// Every kind of levels: bits and zero point.
pub(crate) const ALL_KINDS: [(Bits, Option<u8>); 4] =
    [(Bits::Two, None), (Bits::Four, None), (Bits::Four, Some(8)), (Bits::Eight, None)];

/// A shape of one of [`ALL_KINDS`].
pub(crate) fn shape_of(
    (bits, zero_point): (Bits, Option<u8>),
    rows: usize,
    columns: usize,
    group_size: Option<usize>,
) -> PackedShape {
    PackedShape::new(bits, rows, columns, group_size).unwrap().with_zero_point(zero_point).unwrap()
}

/// xorshift64* (Marsaglia; Vigna, arXiv 1402.6246).
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in -1..1.
    pub fn f32(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.f32()).collect()
    }
}

/// Panics, with the place, unless each element is within `tolerance` of the expected one.
#[track_caller]
pub(crate) fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(found) - expected).abs();
        assert!(
            difference <= tolerance,
            "{what}, element {index}: {found}, expected {expected}, {difference:e} > {tolerance:e}"
        );
    }
}

/// Panics, with the place, unless all bits are equal.
#[track_caller]
pub(crate) fn assert_same_bits(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(found.to_bits() == expected.to_bits(), "{what}, element {index}: {found:e}, expected {expected:e}");
    }
}
