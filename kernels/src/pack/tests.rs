use crate::testing::Random;
use crate::{Bits, Error, PackedMatrix, PackedShape, pack_matrix};

fn squared_error(bits: Bits, weights: &[f32]) -> f64 {
    let shape = PackedShape::new(bits, 1, weights.len(), None).unwrap();
    let (codes, scales) = pack_matrix(shape, weights).unwrap();
    let values = PackedMatrix::new(shape, &codes, &scales).unwrap().dequantize();
    values.iter().zip(weights).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// The error of the best of many scales, each with the nearest levels.
fn best_of_a_grid(bits: Bits, weights: &[f32]) -> f64 {
    let largest = weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
    let levels: Vec<f32> = (0..1_u8 << bits.count()).map(|code| bits.level(code)).collect();
    let error = |scale: f32| -> f64 {
        let nearest =
            |weight: f32| levels.iter().map(|level| (level * scale - weight).powi(2)).fold(f32::MAX, f32::min);
        weights.iter().map(|&weight| f64::from(nearest(weight))).sum()
    };
    (1..=2000).map(|step| error(largest * step as f32 / 2000.0)).fold(f64::MAX, f64::min)
}

#[test]
fn the_scale_is_close_to_the_best_of_two_thousand() {
    let mut random = Random::new(7);
    for bits in [Bits::Two, Bits::Four] {
        for outlier in [0.0, 5.0] {
            let mut weights = random.vec(64);
            weights[3] += outlier;
            let (found, best) = (squared_error(bits, &weights), best_of_a_grid(bits, &weights));
            assert!(found <= best * 1.02 + 1e-9, "{bits:?}, outlier {outlier}: {found}, best {best}");
        }
    }
}

#[test]
fn zeros_pack_to_scale_zero() {
    for bits in [Bits::Two, Bits::Four, Bits::Eight] {
        assert_eq!(squared_error(bits, &[0.0; 70]), 0.0, "{bits:?}");
    }
}

#[test]
fn weights_that_are_not_finite_or_too_large_are_refused_by_place() {
    let shape = PackedShape::new(Bits::Two, 2, 3, None).unwrap();
    for bad in [f32::NAN, f32::INFINITY, 1e30] {
        let error = pack_matrix(shape, &[0.0, 0.0, 0.0, 0.0, bad, 0.0]).unwrap_err();
        assert!(matches!(error, Error::Weight { row: 1, column: 1, .. }), "{error}");
    }
    let error = pack_matrix(shape, &[0.0; 5]).unwrap_err();
    assert!(matches!(error, Error::Length { what: "weights", expected: 6, found: 5, .. }), "{error}");
}
