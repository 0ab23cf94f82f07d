//! Every product on every instruction set: packed ones equal portable to the bit, f32 ones within a stated error; portable against
//! sums in f64; unpacked ones against f32 ones.

use half::f16;

use super::panel::{code_offset, for_each_panel};
use super::rows::sums_of_rows;
use super::{matmul_f32, matmul_packed, matmul_unpacked};
use crate::packed::BLOCK_BYTES;
use crate::quantize::QuantizedActivations;
use crate::testing::{ALL_KINDS, Random, assert_close, assert_same_bits, shape_of};
use crate::{Bits, Isa, PackedMatrix, PackedShape, pack_matrix};

const ALL_GROUPS: [Option<usize>; 4] = [None, Some(32), Some(64), Some(128)];

/// One below, at and above: a vector (32, 64), a block (64, 128, 256 weights), a group.
const COLUMNS: &[usize] =
    if cfg!(miri) { &[33, 257] } else { &[0, 1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 416, 600] };

/// Tokens and rows: below, at and above a tile of 4 rows and of 4 tokens, and a panel of 32 rows; few and many tokens.
const SIZES: &[(usize, usize)] = if cfg!(miri) {
    &[(1, 5), (5, 3)]
} else {
    &[(1, 1), (1, 4), (1, 7), (3, 5), (4, 3), (5, 9), (9, 4), (2, 0), (0, 3), (6, 33), (34, 6)]
};

/// The product as `docs/format.md` defines it, with activations quantized in f32 and sums in f64.
fn naive_packed(x: &[f32], w: &PackedMatrix<'_>, bias: &[f32]) -> Vec<f64> {
    let (rows, columns) = (w.shape().rows(), w.shape().columns());
    let group_size = w.shape().group_size().unwrap_or(columns);
    let weights = w.dequantize();
    let mut out = Vec::new();
    for x in x.chunks(columns) {
        let values: Vec<f64> = x
            .chunks(group_size)
            .flat_map(|group| {
                let scale = group.iter().fold(0.0_f32, |largest, a| largest.max(a.abs())) / 127.0;
                group
                    .iter()
                    .map(move |a| if scale == 0.0 { 0.0 } else { f64::from((a / scale).round_ties_even() * scale) })
            })
            .collect();
        for row in 0..rows {
            let weights = &weights[row * columns..(row + 1) * columns];
            let sum: f64 = weights.iter().zip(&values).map(|(&w, &a)| f64::from(w) * a).sum();
            out.push(sum + f64::from(bias[row]));
        }
    }
    out
}

#[test]
fn packed_products_are_those_of_the_format_and_equal_to_the_bit_on_every_instruction_set() {
    let mut random = Random::new(1);
    for kind in ALL_KINDS {
        for group_size in ALL_GROUPS {
            for &columns in COLUMNS {
                for &(tokens, rows) in SIZES {
                    let what = format!("{kind:?}, groups {group_size:?}, [{tokens}, {columns}] x [{rows}, {columns}]");
                    let shape = shape_of(kind, rows, columns, group_size);
                    let mut weights = random.vec(rows * columns);
                    weights[..if rows > 1 { columns } else { 0 }].fill(0.0);
                    let (codes, scales) = pack_matrix(shape, &weights).unwrap();
                    let w = PackedMatrix::new(shape, &codes, &scales).unwrap();
                    let mut x = random.vec(tokens * columns);
                    // A token of zeros, whose scale is 0.
                    x[..if tokens > 1 { columns } else { 0 }].fill(0.0);
                    let bias = random.vec(rows);
                    let mut expected = vec![f32::NAN; tokens * rows];
                    matmul_packed(Isa::PORTABLE, &x, &w, Some(&bias), &mut expected);
                    if columns > 0 {
                        assert_close(
                            &expected,
                            &naive_packed(&x, &w, &bias),
                            1e-5 * (1.0 + columns as f64 / 64.0),
                            &what,
                        );
                    }
                    for isa in Isa::available() {
                        let mut out = vec![f32::NAN; tokens * rows];
                        matmul_packed(isa, &x, &w, Some(&bias), &mut out);
                        assert_same_bits(&out, &expected, &format!("{}, {what}", isa.name()));
                    }
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "long rows")]
fn the_largest_codes_and_activations_do_not_overflow() {
    for kind in ALL_KINDS {
        for group_size in ALL_GROUPS {
            // 2^17 columns is the largest row there may be: the i32 sums of w8a8 reach 2.11e9 there.
            for columns in [256, crate::MAX_COLUMNS] {
                let shape = shape_of(kind, 1, columns, group_size);
                let (largest_code, level) = match shape.bits() {
                    Bits::Eight => (127, 127.0),
                    bits => (0xff, bits.level((1 << bits.count()) - 1, shape.zero())),
                };
                let (codes, scales) = (vec![largest_code; shape.codes_len()], vec![f16::ONE; shape.scales_len()]);
                let w = PackedMatrix::new(shape, &codes, &scales).unwrap();
                for (sign, activation) in [(1.0, 127.0), (-1.0, -127.0)] {
                    let expected = f64::from(sign * 127.0 * level) * columns as f64;
                    // One token, few and many: different kernels.
                    for (isa, tokens) in Isa::available().into_iter().flat_map(|isa| [1, 5, 33].map(|n| (isa, n))) {
                        let mut out = vec![0.0; tokens];
                        matmul_packed(isa, &vec![activation; tokens * columns], &w, None, &mut out);
                        let what = format!("{}, {kind:?}, groups {group_size:?}, {columns} columns", isa.name());
                        assert_close(&out, &vec![expected; tokens], 1e-4 * expected.abs(), &what);
                    }
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "long rows")]
fn the_smallest_codes_meet_activations_of_either_sign() {
    for kind in ALL_KINDS {
        // -128 for 8 bits, which packing does not give and a file may have.
        for (columns, group_size) in
            [64, crate::MAX_COLUMNS].into_iter().flat_map(|columns| ALL_GROUPS.map(|group_size| (columns, group_size)))
        {
            let shape = shape_of(kind, 1, columns, group_size);
            let code = if shape.bits() == Bits::Eight { 0x80 } else { 0 };
            let scale = if shape.zero_point().is_some() { f16::NEG_ONE } else { f16::ONE };
            let (codes, scales) = (vec![code; shape.codes_len()], vec![scale; shape.scales_len()]);
            let w = PackedMatrix::new(shape, &codes, &scales).unwrap();
            let level = f64::from(scale.to_f32() * shape.bits().level(code, shape.zero()));
            let x: Vec<f32> = (0..columns).map(|k| if k % 3 == 0 { 127.0 } else { -127.0 }).collect();
            let expected = level * x.iter().map(|&a| f64::from(a)).sum::<f64>();
            for (isa, tokens) in Isa::available().into_iter().flat_map(|isa| [1, 5, 33].map(|n| (isa, n))) {
                let mut out = vec![0.0; tokens];
                matmul_packed(isa, &x.repeat(tokens), &w, None, &mut out);
                let what = format!("{}, {kind:?}, groups {group_size:?}, {tokens} tokens of {columns}", isa.name());
                assert_close(&out, &vec![expected; tokens], 1e-6 * expected.abs(), &what);
            }
        }
    }
}

#[test]
fn f32_products_are_within_the_rounding_of_their_sums_on_every_instruction_set() {
    let mut random = Random::new(2);
    for columns in [0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 257] {
        for (tokens, rows) in [(1, 1), (1, 4), (2, 5), (3, 4), (4, 7), (7, 9), (0, 2)] {
            let (x, w) = (random.vec(tokens * columns), random.vec(rows * columns));
            let bias = random.vec(rows);
            let mut expected = Vec::new();
            for token in 0..tokens {
                for row in 0..rows {
                    let terms =
                        (0..columns).map(|k| f64::from(x[token * columns + k]) * f64::from(w[row * columns + k]));
                    expected.push(terms.sum::<f64>() + f64::from(bias[row]));
                }
            }
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; tokens * rows];
                matmul_f32(isa, &x, &w, columns, Some(&bias), &mut out);
                let tolerance = (columns as f64 + 2.0) * 2.0 * f64::from(f32::EPSILON);
                assert_close(&out, &expected, tolerance, &format!("{}, {tokens}, {columns}, {rows}", isa.name()));
            }
        }
    }
}

#[test]
fn packed_weights_with_f32_activations_give_the_bits_of_their_dequantized_selves() {
    let mut random = Random::new(4);
    for kind in ALL_KINDS {
        for group_size in ALL_GROUPS {
            for &columns in COLUMNS {
                // The last has more rows than are unpacked at a time.
                for (tokens, rows) in [
                    (1, 1),
                    (1, 7),
                    (4, 3),
                    (5, 9),
                    (2, 0),
                    (0, 3),
                    (2, if cfg!(miri) { 9 } else { 16_500 / columns.max(1) }),
                ] {
                    let shape = shape_of(kind, rows, columns, group_size);
                    let (codes, scales) = pack_matrix(shape, &random.vec(rows * columns)).unwrap();
                    let w = PackedMatrix::new(shape, &codes, &scales).unwrap();
                    let (x, bias) = (random.vec(tokens * columns), random.vec(rows));
                    for isa in Isa::available() {
                        let [mut found, mut expected] = [vec![f32::NAN; tokens * rows], vec![f32::NAN; tokens * rows]];
                        matmul_unpacked(isa, &x, &w, Some(&bias), &mut found);
                        matmul_f32(isa, &x, &w.dequantize(), columns, Some(&bias), &mut expected);
                        let name = isa.name();
                        let what =
                            format!("{name}, {kind:?}, {group_size:?}, [{tokens}, {columns}] x [{rows}, {columns}]");
                        assert_same_bits(&found, &expected, &what);
                    }
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "large")]
fn results_do_not_depend_on_the_threads_or_on_the_other_tokens() {
    let mut random = Random::new(3);
    // Above the work of one thread, with few and with many tokens.
    for ((tokens, rows, columns), (bits, group_size)) in [(1, 1200, 260), (5, 500, 260), (70, 64, 260)]
        .into_iter()
        .flat_map(|size| [(Bits::Four, Some(32)), (Bits::Eight, Some(64)), (Bits::Four, None)].map(|form| (size, form)))
    {
        let (x, weights, bias) = (random.vec(tokens * columns), random.vec(rows * columns), random.vec(rows));
        let shape = PackedShape::new(bits, rows, columns, group_size).unwrap();
        let (codes, scales) = pack_matrix(shape, &weights).unwrap();
        let w = PackedMatrix::new(shape, &codes, &scales).unwrap();
        let products = |isa: Isa, x: &[f32]| {
            let mut packed = vec![0.0; x.len() / columns * rows];
            matmul_packed(isa, x, &w, Some(&bias), &mut packed);
            let mut float = vec![0.0; packed.len()];
            matmul_f32(isa, x, &weights, columns, Some(&bias), &mut float);
            let mut unpacked = vec![0.0; packed.len()];
            matmul_unpacked(isa, x, &w, Some(&bias), &mut unpacked);
            [packed, float, unpacked]
        };
        for isa in Isa::available() {
            let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let expected = pool(1).install(|| products(isa, &x));
            for threads in [2, 3, 16] {
                let found = pool(threads).install(|| products(isa, &x));
                for (found, expected) in found.iter().zip(&expected) {
                    assert_same_bits(found, expected, &format!("{}, {tokens} tokens, {threads} threads", isa.name()));
                }
            }
            for token in 0..tokens {
                let alone = products(isa, &x[token * columns..(token + 1) * columns]);
                for (alone, expected) in alone.iter().zip(&expected) {
                    let expected = &expected[token * rows..(token + 1) * rows];
                    assert_same_bits(alone, expected, &format!("{}, token {token} alone", isa.name()));
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "x has 9 elements, expected [2, 5]")]
fn lengths_that_do_not_fit_are_refused() {
    matmul_f32(Isa::PORTABLE, &[0.0; 9], &[0.0; 15], 5, None, &mut [0.0; 6]);
}

/// Random codes of a matrix, and of tokens for it, `[tokens, padded_columns]`.
fn random_codes(random: &mut Random, shape: PackedShape, tokens: usize) -> (Vec<u8>, Vec<i8>) {
    let mut codes: Vec<u8> = random.vec(shape.codes_len()).iter().map(|x| (x * 128.0).floor() as i8 as u8).collect();
    shape.clear_padding(&mut codes);
    let activations = random.vec(tokens * shape.padded_columns()).iter().map(|x| (x * 127.9) as i8).collect();
    (codes, activations)
}

/// The sum of code times code of a row and a token over some columns.
fn sum_of_codes(w: &PackedMatrix<'_>, row: usize, token: &[i8], columns: std::ops::Range<usize>) -> i32 {
    let bits = w.shape().bits();
    let (run, codes) = (bits.weights_per_block(), w.codes_of(row..row + 1));
    let code = |column: usize| {
        let byte = codes[column / run * BLOCK_BYTES + column % run % BLOCK_BYTES];
        let shift = (column % run / BLOCK_BYTES) as u32 * bits.count();
        match bits {
            Bits::Eight => i32::from(byte as i8),
            _ => i32::from(byte >> shift & ((1 << bits.count()) - 1)),
        }
    };
    columns.map(|column| code(column) * i32::from(token[column])).sum()
}

#[test]
fn integer_sums_are_exact_on_every_instruction_set() {
    let mut random = Random::new(6);
    let (rows, tokens) = if cfg!(miri) { (6, 5) } else { (37, 20) };
    // Codes are summed whatever they stand for: with and without a zero point.
    for bits in [Bits::Two, Bits::Four, Bits::Eight] {
        for columns in if cfg!(miri) { [300, 600] } else { [300, 5000] } {
            let shape = PackedShape::new(bits, rows, columns, None).unwrap();
            let (codes, activations) = random_codes(&mut random, shape, tokens);
            let scales = vec![f16::ONE; shape.scales_len()];
            let w = PackedMatrix::new(shape, &codes, &scales).unwrap();
            let width = shape.padded_columns();
            let token = |token: usize| &activations[token * width..(token + 1) * width];
            let expected: Vec<Vec<i32>> =
                (0..tokens).map(|t| (0..rows).map(|row| sum_of_codes(&w, row, token(t), 0..width)).collect()).collect();
            for isa in all_isas() {
                let what = format!("{}, {bits:?}, {columns} columns", isa.name());
                // Every number of tokens and of rows that a tile has left over.
                for (count, rows) in (1..=tokens).flat_map(|count| [1, 2, 3, rows].map(|rows| (count, rows))) {
                    let (codes, activations) = (&codes[..rows * shape.row_bytes()], &activations[..count * width]);
                    let mut sums = vec![0; count * rows];
                    sums_of_rows(isa, bits, codes, shape.row_bytes(), activations, &mut sums);
                    for (t, sums) in sums.chunks_exact(rows).enumerate() {
                        assert_eq!(*sums, expected[t][..rows], "{what}, token {t} of {count}, {rows} rows");
                    }
                }
                let mut count = 0;
                for_each_panel(isa, &w, 2..rows, &activations, |t, first, sums| {
                    let excess = code_offset(isa, bits) * token(t).iter().map(|&code| i32::from(code)).sum::<i32>();
                    for (row, sum) in (2 + first..rows).zip(sums) {
                        assert_eq!(sum - excess, expected[t][row], "{what}, token {t}, row {row}, many tokens");
                        count += 1;
                    }
                });
                assert_eq!(count, (rows - 2) * tokens, "{what}");
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "large")]
fn every_number_of_tokens_gives_the_bits_of_each_token_alone() {
    let mut random = Random::new(9);
    // More rows than meet the tokens at once, and several blocks of columns with a part of one.
    let (most, rows, columns) = (35, 133, 2100);
    for kind in ALL_KINDS {
        let shape = shape_of(kind, rows, columns, None);
        let (codes, scales) = pack_matrix(shape, &random.vec(rows * columns)).unwrap();
        let w = PackedMatrix::new(shape, &codes, &scales).unwrap();
        let (x, bias) = (random.vec(most * columns), random.vec(rows));
        let mut expected = vec![f32::NAN; most * rows];
        for (x, out) in x.chunks_exact(columns).zip(expected.chunks_exact_mut(rows)) {
            matmul_packed(Isa::PORTABLE, x, &w, Some(&bias), out);
        }
        for (isa, tokens) in Isa::available().into_iter().flat_map(|isa| (1..=most).map(move |tokens| (isa, tokens))) {
            let mut out = vec![f32::NAN; tokens * rows];
            matmul_packed(isa, &x[..tokens * columns], &w, Some(&bias), &mut out);
            let what = format!("{}, {kind:?}, {tokens} tokens", isa.name());
            assert_same_bits(&out, &expected[..tokens * rows], &what);
        }
    }
}

/// The product in the order of `matmul/packed.rs` for rows with groups, from the codes of weights and activations.
fn packed_in_groups(x: &QuantizedActivations, w: &PackedMatrix<'_>, group_size: usize) -> Vec<f32> {
    let shape = w.shape();
    let (rows, columns, num_groups) = (shape.rows(), shape.columns(), shape.num_groups());
    let tokens = x.scales.len() / num_groups;
    let mut out = Vec::new();
    for (token, row) in (0..tokens).flat_map(|token| (0..rows).map(move |row| (token, row))) {
        let codes = &x.codes[token * shape.padded_columns()..(token + 1) * shape.padded_columns()];
        let mut lanes = [0.0_f32; 8];
        for group in 0..num_groups {
            let places = group * group_size..columns.min((group + 1) * group_size);
            let zero = f64::from(shape.zero()) * places.clone().map(|k| f64::from(codes[k])).sum::<f64>();
            let sum = f64::from(sum_of_codes(w, row, codes, places)) - zero;
            let scale = w.scales_of(row..row + 1)[group].to_f32() * x.scales[token * num_groups + group];
            lanes[group % 8] += scale * sum as f32;
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        out.push(((a + b) + (c + d)) + ((e + f) + (g + h)));
    }
    out
}

#[test]
#[cfg_attr(miri, ignore = "Miri does not know the instructions that convert f16")]
fn integer_sums_of_groups_are_exact_and_their_scales_meet_them_in_the_stated_order() {
    let mut random = Random::new(8);
    // Below, at and above 8 groups of each size, blocks and parts of them left over; several blocks of rows.
    let sizes: &[(usize, usize)] = &[(33, 3), (256, 5), (300, 9), (576, 70), (1100, 6), (2048, 133)];
    for kind in ALL_KINDS {
        for (&(columns, rows), group_size) in sizes.iter().flat_map(|size| [32, 64, 128].map(|group| (size, group))) {
            let shape = shape_of(kind, rows, columns, Some(group_size));
            let (codes, _) = random_codes(&mut random, shape, 0);
            let scales: Vec<f16> = random.vec(shape.scales_len()).iter().map(|x| f16::from_f32(x.abs())).collect();
            let w = PackedMatrix::new(shape, &codes, &scales).unwrap();
            // Whole tiles of tokens, and tokens that are left over.
            for tokens in [1, 2, 3, 4, 7] {
                let x = random.vec(tokens * columns);
                for isa in all_isas() {
                    let expected = packed_in_groups(&QuantizedActivations::new(isa, &x, shape), &w, group_size);
                    let mut out = vec![f32::NAN; tokens * rows];
                    matmul_packed(isa, &x, &w, None, &mut out);
                    let what = format!("{}, {kind:?}, groups of {group_size}, {tokens} tokens", isa.name());
                    assert_same_bits(&out, &expected, &format!("{what}, [{rows}, {columns}]"));
                }
            }
        }
    }
}

/// The instruction sets to test; under Miri, which is slow, the two that most machines have not.
fn all_isas() -> Vec<Isa> {
    let all = Isa::available();
    let skipped = if cfg!(miri) { all.len().saturating_sub(2) } else { 0 };
    all[skipped..].to_vec()
}

#[test]
#[cfg_attr(miri, ignore = "large")]
fn a_whole_vocabulary_of_rows_is_multiplied_by_few_and_by_many_tokens() {
    let mut random = Random::new(7);
    let (rows, columns) = (153_600, 130);
    let shape = PackedShape::new(Bits::Four, rows, columns, None).unwrap();
    let (codes, _) = random_codes(&mut random, shape, 0);
    let scales: Vec<f16> = (0..rows).map(|row| f16::from_f32((row % 7) as f32)).collect();
    let w = PackedMatrix::new(shape, &codes, &scales).unwrap();
    let x = random.vec(33 * columns);
    for isa in Isa::available() {
        let mut many = vec![f32::NAN; 33 * rows];
        matmul_packed(isa, &x, &w, None, &mut many);
        for tokens in [1, 3] {
            let mut few = vec![f32::NAN; tokens * rows];
            matmul_packed(isa, &x[..tokens * columns], &w, None, &mut few);
            assert_same_bits(&few, &many[..tokens * rows], &format!("{}, {tokens} tokens", isa.name()));
        }
        for row in [0, 1, 76_799, 76_800, rows - 1] {
            let token = QuantizedActivations::new(isa, &x[..columns], shape);
            let products = sum_of_codes(&w, row, &token.codes, 0..columns);
            // Codes stand for the levels q - 7.5.
            let sum = f64::from(products) - 7.5 * f64::from(token.sums[0]);
            let expected = sum * f64::from(token.scales[0]) * (row % 7) as f64;
            assert_close(&many[row..row + 1], &[expected], 1e-3, &format!("{}, row {row}", isa.name()));
        }
    }
}
