use half::f16;
use proptest::prelude::*;

use crate::testing::{ALL_KINDS, Random, shape_of};
use crate::{Bits, Error, ErrorKind, PackedMatrix, PackedShape, pack_matrix};

const ALL_BITS: [Bits; 3] = [Bits::Two, Bits::Four, Bits::Eight];

/// The code of a weight, read as the table of `docs/format.md` says.
fn code(codes: &[u8], row_bytes: usize, bits: u32, row: usize, column: usize) -> u8 {
    let weights_per_block = 512 / bits as usize;
    let (block, place) = (column / weights_per_block, column % weights_per_block);
    let byte = codes[row * row_bytes + 64 * block + place % 64];
    let shift = bits * (place / 64) as u32;
    ((u32::from(byte) >> shift) & ((1 << bits) - 1)) as u8
}

#[test]
fn rows_are_whole_blocks_and_have_a_scale_for_each_group() {
    let lengths = |bits, columns, group_size| {
        let shape = PackedShape::new(bits, 3, columns, group_size).unwrap();
        (shape.row_bytes(), shape.num_groups(), shape.codes_len(), shape.scales_len())
    };
    assert_eq!(lengths(Bits::Two, 256, None), (64, 1, 192, 3));
    assert_eq!(lengths(Bits::Two, 257, Some(32)), (128, 9, 384, 27));
    assert_eq!(lengths(Bits::Four, 128, Some(128)), (64, 1, 192, 3));
    assert_eq!(lengths(Bits::Four, 129, Some(64)), (128, 3, 384, 9));
    assert_eq!(lengths(Bits::Eight, 65, None), (128, 1, 384, 3));
    assert_eq!(lengths(Bits::Eight, 0, None), (0, 1, 0, 3));
    assert_eq!(lengths(Bits::Eight, 0, Some(32)), (0, 0, 0, 0));
}

#[test]
fn the_bytes_mean_what_the_format_says() {
    let mut random = Random::new(5);
    for kind in ALL_KINDS {
        for (columns, group_size) in [(1, None), (64, Some(32)), (257, Some(64)), (300, None)] {
            let shape = shape_of(kind, 2, columns, group_size);
            let bits = shape.bits();
            let (codes, scales) = pack_matrix(shape, &random.vec(2 * columns)).unwrap();
            let values = PackedMatrix::new(shape, &codes, &scales).unwrap().dequantize();
            for row in 0..2 {
                for column in 0..columns {
                    let q = code(&codes, shape.row_bytes(), bits.count(), row, column);
                    let scale = scales[row * shape.num_groups() + group_size.map_or(0, |size| column / size)].to_f32();
                    let expected = match kind {
                        (Bits::Two, _) => scale * (f32::from(q) - 1.5),
                        (Bits::Four, None) => scale * (f32::from(q) - 7.5),
                        (Bits::Four, Some(_)) => scale * (f32::from(q) - 8.0),
                        (Bits::Eight, _) => scale * f32::from(q as i8),
                    };
                    assert_eq!(values[row * columns + column], expected, "{kind:?}, {row}, {column}");
                }
            }
        }
    }
}

#[test]
fn a_code_in_the_padding_is_refused_wherever_it_is() {
    for bits in ALL_BITS {
        let weights_per_block = bits.weights_per_block();
        for columns in [1, 63, 65, weights_per_block - 1, weights_per_block + 1] {
            let shape = PackedShape::new(bits, 2, columns, None).unwrap();
            let scales = [f16::ONE; 2];
            // Every place of the second row: an error exactly if it is beyond the last column.
            for column in 0..shape.row_bytes() * 8 / bits.count() as usize {
                let mut codes = vec![0; shape.codes_len()];
                let place = column % weights_per_block;
                let byte = shape.row_bytes() + column / weights_per_block * 64 + place % 64;
                codes[byte] = 1 << (bits.count() as usize * (place / 64));
                let result = PackedMatrix::new(shape, &codes, &scales);
                let expected = Error::Padding { row: 1, byte: byte - shape.row_bytes() };
                match result {
                    Ok(_) => assert!(column < columns, "{bits:?}, {columns} columns, code at {column}"),
                    Err(error) => {
                        assert!(column >= columns && error == expected, "{bits:?}, {columns}, {column}: {error}")
                    }
                }
            }
        }
    }
}

#[test]
fn scales_and_lengths_that_the_format_forbids_are_refused_by_place() {
    let shape = PackedShape::new(Bits::Eight, 2, 96, Some(32)).unwrap();
    let (codes, scales) = (vec![0_u8; 256], vec![f16::ONE; 6]);
    for bad in [f16::NAN, f16::INFINITY, f16::from_f32(-1.0)] {
        let mut scales = scales.clone();
        scales[4] = bad;
        let error = PackedMatrix::new(shape, &codes, &scales).unwrap_err();
        assert!(matches!(error, Error::Scale { row: 1, group: 1, .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Value);
    }
    let error = PackedMatrix::new(shape, &codes[1..], &scales).unwrap_err();
    assert_eq!(error.to_string(), "the codes of a packed matrix of shape [2, 96] have 255 elements, expected 256");
    let error = PackedMatrix::new(shape, &codes, &scales[1..]).unwrap_err();
    assert_eq!(error.to_string(), "the scales of a packed matrix of shape [2, 96] have 5 elements, expected 6");
    assert_eq!(error.kind(), ErrorKind::Shape);
}

#[test]
fn scales_may_be_negative_with_a_zero_point_only() {
    let scales = [f16::NEG_ONE, f16::NEG_ZERO];
    let new = |zero_point| {
        PackedMatrix::new(
            shape_of((Bits::Four, zero_point), 2, 1, None),
            &[&[3; 1][..], &[0; 63], &[3; 1], &[0; 63]].concat(),
            &scales,
        )
        .map(|matrix| matrix.dequantize())
    };
    assert_eq!(new(Some(8)), Ok(vec![5.0, 0.0]));
    assert_eq!(new(None), Err(Error::Scale { row: 0, group: 0, found: -1.0 }));
}

#[test]
fn a_zero_point_other_than_8_with_4_bits_is_refused() {
    let shape = |bits| PackedShape::new(bits, 2, 70, Some(32)).unwrap();
    for (bits, found) in [(Bits::Two, 1), (Bits::Two, 8), (Bits::Four, 0), (Bits::Four, 7), (Bits::Eight, 8)] {
        let error = shape(bits).with_zero_point(Some(found)).unwrap_err();
        assert_eq!(error, Error::ZeroPoint { bits: bits.count(), found });
        assert_eq!(error.kind(), ErrorKind::Shape);
    }
    for bits in ALL_BITS {
        assert_eq!(shape(bits).with_zero_point(None), Ok(shape(bits)));
    }
    let with_zero = shape(Bits::Four).with_zero_point(Some(8)).unwrap();
    assert_eq!((shape(Bits::Four).zero_point(), with_zero.zero_point()), (None, Some(8)));
    assert_eq!(with_zero.with_zero_point(None), Ok(shape(Bits::Four)));
}

#[test]
fn shapes_that_do_not_fit_the_memory_or_the_format_are_refused() {
    assert_eq!(Bits::new(3), Err(Error::Bits { found: 3 }));
    let new = |rows, columns, group_size| PackedShape::new(Bits::Two, rows, columns, group_size);
    assert_eq!(new(1, 1, Some(48)), Err(Error::GroupSize { found: 48 }));
    for (rows, columns) in [(1, usize::MAX), (usize::MAX, 1), (1 << 60, 1 << 16), (1, (1 << 17) + 1)] {
        assert!(matches!(new(rows, columns, None), Err(Error::TooLarge { .. })), "{rows}, {columns}");
    }
    assert!(new(153_600, 1 << 17, None).is_ok());
}

proptest! {
    #[test]
    fn values_of_the_levels_survive_packing(
        kind in prop::sample::select(&ALL_KINDS),
        group_size in prop::sample::select(&[None, Some(32), Some(64), Some(128)]),
        rows in 1_usize..4,
        columns in 1_usize..300,
        seed in any::<u64>(),
    ) {
        let shape = shape_of(kind, rows, columns, group_size);
        let bits = shape.bits();
        let mut random = Random::new(seed);
        // Weights that are exactly a power of two times a level, the level of the largest magnitude among them, so that the scale is known.
        let top: u8 = match kind {
            (Bits::Eight, _) => 127,
            (_, Some(_)) => 0,
            _ => (1 << bits.count()) - 1,
        };
        let mut weights = Vec::new();
        for _ in 0..rows {
            for column in 0..columns {
                let scale = 0.25;
                let code = match bits {
                    Bits::Eight => ((random.bits() % 255) as i16 - 127) as i8 as u8,
                    _ => (random.bits() % (1 << bits.count())) as u8,
                };
                let first_of_group = column % group_size.unwrap_or(columns) == 0;
                weights.push(scale * bits.level(if first_of_group { top } else { code }, shape.zero()));
            }
        }
        let (codes, scales) = pack_matrix(shape, &weights).unwrap();
        let packed = PackedMatrix::new(shape, &codes, &scales).unwrap();
        let found = packed.dequantize();
        if bits == Bits::Eight {
            prop_assert_eq!(&found, &weights);
        } else {
            // A group of one or two levels can be represented by several scales, all within the rounding of f16.
            for (found, weight) in found.iter().zip(&weights) {
                prop_assert!((found - weight).abs() <= weight.abs() * 1e-3, "{} {}", found, weight);
            }
        }
    }

    #[test]
    fn any_finite_weights_pack_into_a_valid_matrix_with_an_error_below_the_largest_weight(
        kind in prop::sample::select(&ALL_KINDS),
        columns in 1_usize..200,
        magnitude in prop::sample::select(&[1e-30_f32, 1e-6, 1.0, 6e4]),
        seed in any::<u64>(),
    ) {
        let shape = shape_of(kind, 1, columns, None);
        let weights: Vec<f32> = Random::new(seed).vec(columns).iter().map(|weight| weight * magnitude).collect();
        let (codes, scales) = pack_matrix(shape, &weights).unwrap();
        let found = PackedMatrix::new(shape, &codes, &scales).unwrap().dequantize();
        let error: f64 = found.iter().zip(&weights).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let power: f64 = weights.iter().map(|&a| f64::from(a).powi(2)).sum();
        prop_assert!(error <= power * 1.001, "{} {}", error, power);
    }
}
