use half::f16;

use super::pack_rows;
use crate::testing::{ALL_KINDS, Random, shape_of};
use crate::{Bits, Error, Isa, PackedMatrix, PackedShape, pack_matrix};

/// Bits and zero point.
type LevelKind = (Bits, Option<u8>);

fn squared_error(kind: LevelKind, weights: &[f32]) -> f64 {
    let shape = shape_of(kind, 1, weights.len(), None);
    let (codes, scales) = pack_matrix(shape, weights).unwrap();
    let values = PackedMatrix::new(shape, &codes, &scales).unwrap().dequantize();
    values.iter().zip(weights).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// The error of the best of many scales of either sign, each with the nearest levels.
fn best_of_a_grid(kind: LevelKind, weights: &[f32]) -> f64 {
    let largest = weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
    let (bits, zero) = (kind.0, shape_of(kind, 1, 1, None).zero());
    let levels: Vec<f32> = (0..1_u8 << bits.count()).map(|code| bits.level(code, zero)).collect();
    let error = |scale: f32| -> f64 {
        let nearest =
            |weight: f32| levels.iter().map(|level| (level * scale - weight).powi(2)).fold(f32::MAX, f32::min);
        weights.iter().map(|&weight| f64::from(nearest(weight))).sum()
    };
    (-2000..=2000).map(|step| error(largest * step as f32 / 2000.0)).fold(f64::MAX, f64::min)
}

#[test]
fn the_scale_is_close_to_the_best_of_two_thousand() {
    let mut random = Random::new(7);
    for kind in ALL_KINDS.into_iter().filter(|kind| kind.0 != Bits::Eight) {
        for outlier in [0.0, 5.0] {
            let mut weights = random.vec(64);
            weights[3] += outlier;
            let (found, best) = (squared_error(kind, &weights), best_of_a_grid(kind, &weights));
            assert!(found <= best * 1.02 + 1e-9, "{kind:?}, outlier {outlier}: {found}, best {best}");
        }
    }
}

#[test]
fn zeros_pack_to_scale_zero() {
    for kind in ALL_KINDS {
        assert_eq!(squared_error(kind, &[0.0; 70]), 0.0, "{kind:?}");
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

/// Normal numbers (Box and Muller).
fn gaussian(random: &mut Random, len: usize) -> Vec<f32> {
    let mut uniform = || (random.bits() >> 11) as f64 / (1_u64 << 53) as f64;
    let mut normal = || ((-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32;
    (0..len).map(|_| normal()).collect()
}

/// Numbers of Student's t distribution: a normal number over the root mean square of `degrees` others.
fn student_t(random: &mut Random, degrees: usize, len: usize) -> Vec<f32> {
    let numbers = gaussian(random, (degrees + 1) * len);
    let mean_square = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>() / degrees as f32;
    numbers.chunks_exact(degrees + 1).map(|x| x[0] / mean_square(&x[1..]).sqrt()).collect()
}

fn mean_squared_error(values: &[f32], weights: &[f32]) -> f64 {
    let errors = values.iter().zip(weights).map(|(value, weight)| f64::from(value - weight).powi(2));
    errors.sum::<f64>() / weights.len() as f64
}

/// What is left of a block of 32 weights after `quantize_row_q4_0` and `dequantize_row_q4_0` of llama.cpp: `d` is the weight of the largest
/// magnitude over -8, in f16, and a weight becomes `d * (clamp(round(w / d) + 8, 0, 15) - 8)`.
fn q4_0(weights: &[f32]) -> Vec<f32> {
    let blocks = weights.chunks_exact(32).flat_map(|block| {
        let largest = block.iter().fold(0.0_f32, |largest, &x| if x.abs() > largest.abs() { x } else { largest });
        let exact = largest / -8.0;
        let inverse = if exact == 0.0 { 0.0 } else { 1.0 / exact };
        let scale = f16::from_f32(exact).to_f32();
        block.iter().map(move |x| scale * ((x * inverse + 8.5).floor().clamp(0.0, 15.0) - 8.0))
    });
    blocks.collect()
}

/// On heavy tails, balanced levels are left out: a group with one weight far outside has a large scale, and Q4_0 then has a level at 0 for the
/// others, where the balanced set has two levels at half a scale from it.
#[test]
fn four_bits_in_groups_of_32_lose_no_more_than_q4_0_of_llama_cpp() {
    let random = &mut Random::new(11);
    let len = 256 * 1024;
    for (what, zero_points, weights) in [
        ("normal", &[None, Some(8)][..], gaussian(random, len)),
        ("t5", &[Some(8)], student_t(random, 5, len)),
        ("t3", &[Some(8)], student_t(random, 3, len)),
    ] {
        let q4_0 = mean_squared_error(&q4_0(&weights), &weights);
        for &zero_point in zero_points {
            let shape = shape_of((Bits::Four, zero_point), 256, 1024, Some(32));
            let (codes, scales) = pack_matrix(shape, &weights).unwrap();
            let values = PackedMatrix::new(shape, &codes, &scales).unwrap().dequantize();
            let found = mean_squared_error(&values, &weights);
            assert!(found <= q4_0, "{what}, zero point {zero_point:?}: {found}, Q4_0 {q4_0}");
        }
    }
}

#[test]
fn on_heavy_tails_the_scales_are_within_a_hundredth_of_the_best_that_the_levels_allow() {
    let weights = student_t(&mut Random::new(11), 3, 128 * 32);
    for kind in [(Bits::Four, None), (Bits::Four, Some(8))] {
        let (found, best) = weights.chunks(32).fold((0.0, 0.0), |(found, best), group| {
            (found + squared_error(kind, group), best + best_of_a_grid(kind, group))
        });
        assert!(found <= 1.01 * best, "{kind:?}: {found}, best {best}");
    }
}

#[test]
fn rows_packed_in_pieces_have_the_bytes_of_the_whole() {
    for (kind, group_size) in ALL_KINDS.into_iter().flat_map(|kind| [(kind, Some(32)), (kind, None)]) {
        let shape = |rows| shape_of(kind, rows, 300, group_size);
        let weights = Random::new(5).vec(7 * 300);
        let (codes, scales) = pack_matrix(shape(7), &weights).unwrap();
        let pieces = weights.chunks(3 * 300).map(|piece| pack_matrix(shape(piece.len() / 300), piece).unwrap());
        let (piece_codes, piece_scales): (Vec<_>, Vec<_>) = pieces.unzip();
        assert_eq!((piece_codes.concat(), piece_scales.concat()), (codes, scales), "{kind:?}");
    }
}

#[test]
fn the_bytes_are_the_same_on_every_instruction_set() {
    let weights = student_t(&mut Random::new(3), 3, 4 * 333);
    for (kind, group_size) in ALL_KINDS.into_iter().flat_map(|kind| [(kind, Some(32)), (kind, None)]) {
        let shape = shape_of(kind, 4, 333, group_size);
        let packed = Isa::available().into_iter().map(|isa| {
            let (mut codes, mut scales) = (vec![0; shape.codes_len()], vec![f16::ZERO; shape.scales_len()]);
            pack_rows(isa, shape, &weights, &mut codes, &mut scales);
            (codes, scales)
        });
        let packed: Vec<_> = packed.collect();
        assert!(packed.iter().all(|other| *other == packed[0]), "{kind:?}");
    }
}

#[test]
fn weights_at_the_ends_of_f16_have_scales_that_it_holds() {
    // Many weights of two thirds of the largest: the best scale of 2 bits would be above the largest weight.
    let mut weights = vec![0.66 * 65504.0; 64];
    weights[0] = 65504.0;
    for kind in ALL_KINDS {
        assert!(squared_error(kind, &weights).is_finite(), "{kind:?}");
        assert!(squared_error(kind, &[1e-8, 0.0, -1e-9]) <= 1.1e-16, "{kind:?}");
        assert!(squared_error(kind, &[1e-45, 0.0]) <= 1e-45, "{kind:?}");
    }
}
