//! Linear layers and embeddings of every kind of weights.

use ndarray::Array2;
use ocelli_kernels::{Bits, PackedShape};

use super::Linear;
use crate::testing::{numbers, quantization, reopen};
use crate::{Error, WeightsWriter};

fn naive(x: &Array2<f32>, weights: &[f32], bias: &[f32]) -> Array2<f64> {
    let columns = x.ncols();
    Array2::from_shape_fn((x.nrows(), bias.len()), |(token, row)| {
        let terms = (0..columns).map(|k| f64::from(x[[token, k]]) * f64::from(weights[row * columns + k]));
        terms.sum::<f64>() + f64::from(bias[row])
    })
}

/// The largest difference, relative to the largest expected value.
fn error_of(found: &Array2<f32>, expected: &Array2<f64>) -> f64 {
    let largest = expected.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    found.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - b).abs()).fold(0.0, f64::max) / largest
}

fn tokens(count: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_vec((count, columns), numbers(9, count * columns)).unwrap()
}

#[test]
fn packed_layers_are_their_dequantized_selves_up_to_8_bit_activations() {
    for (bits, group_size, zero_point) in
        [(2, Some(32), None), (4, None, None), (4, Some(32), Some(8)), (4, None, Some(8)), (8, Some(128), None)]
    {
        let shape = PackedShape::new(Bits::new(bits).unwrap(), 5, 300, group_size).unwrap();
        let shape = shape.with_zero_point(zero_point).unwrap();
        let mut quantization = quantization(&[("l", bits, group_size)]);
        quantization.parts[0].zero_point = zero_point;
        let mut writer = WeightsWriter::new();
        let bias = numbers(2, 5);
        writer.packed("l", shape, &numbers(1, 1500)).unwrap().f32("l.bias", &[5], &bias).unwrap();
        let mut results = Vec::new();
        // An odd address: the scales are copied, and nothing else changes.
        for offset in [0, 1] {
            let weights = reopen(&writer, offset).with_quantization(quantization.clone()).unwrap();
            let linear = weights.linear("l", 300, 5, true).unwrap();
            assert_eq!((linear.bits(), linear.in_features(), linear.out_features()), (bits, 300, 5));
            assert_eq!(linear.num_bytes(), shape.codes_len() + 2 * shape.scales_len() + 20);
            assert_eq!(linear.num_parameters(), 1505);
            let embedding = weights.embedding("l", 5, 300).unwrap();
            let dequantized = embedding.forward(&[0, 1, 2, 3, 4]).unwrap();
            let x = tokens(7, 300);
            let found = linear.forward(x.view());
            let expected = naive(&x, dequantized.as_slice().unwrap(), &bias);
            // Each activation is within half of a 127th of the largest; their errors add up like random numbers.
            assert!(error_of(&found, &expected) < 0.01, "{bits}: {}", error_of(&found, &expected));
            let head = embedding.as_linear().forward(x.view());
            let expected = naive(&x, dequantized.as_slice().unwrap(), &[0.0; 5]);
            assert!(error_of(&head, &expected) < 0.01, "{bits}: {}", error_of(&head, &expected));
            results.push(found);
        }
        assert_eq!(results[0], results[1]);
    }
}

#[test]
fn packed_layers_with_f32_activations_are_their_dequantized_selves_to_the_bit() {
    for (bits, zero_point) in [(2, None), (4, None), (4, Some(8)), (8, None)] {
        let shape = PackedShape::new(Bits::new(bits).unwrap(), 5, 300, None).unwrap();
        let shape = shape.with_zero_point(zero_point).unwrap();
        let mut writer = WeightsWriter::new();
        writer.packed("l", shape, &numbers(1, 1500)).unwrap();
        let mut quantization = quantization(&[("l", bits, None)]);
        quantization.parts[0].activation_bits = 32;
        quantization.parts[0].zero_point = zero_point;
        let weights = reopen(&writer, 0).with_quantization(quantization).unwrap();
        let dequantized = weights.embedding("l", 5, 300).unwrap().forward(&[0, 1, 2, 3, 4]).unwrap();
        let dequantized = Linear::from_f32(dequantized.into_raw_vec_and_offset().0, 5, 300, None);
        let x = tokens(7, 300);
        let found = weights.linear("l", 300, 5, false).unwrap().forward(x.view());
        assert_eq!(found, dequantized.forward(x.view()), "{bits} bits, zero point {zero_point:?}");
    }
}

#[test]
fn f32_layers_are_exact_up_to_rounding_wherever_they_lie() {
    let (weights, bias) = (numbers(1, 3 * 33), numbers(2, 3));
    let x = tokens(4, 33);
    let expected = naive(&x, &weights, &bias);
    let mut writer = WeightsWriter::new();
    writer.f32("l.weight", &[3, 33], &weights).unwrap().f32("l.bias", &[3], &bias).unwrap();
    let layers = [
        reopen(&writer, 0).linear("l", 33, 3, true).unwrap(),
        reopen(&writer, 3).linear("l", 33, 3, true).unwrap(),
        Linear::from_f32(weights, 3, 33, Some(bias)),
    ];
    for linear in layers {
        assert!(error_of(&linear.forward(x.view()), &expected) < 1e-6);
        // A view that is not contiguous gives the same.
        let transposed = x.t().as_standard_layout().into_owned();
        assert_eq!(linear.forward(transposed.t()), linear.forward(x.view()));
        assert_eq!(linear.forward(x.slice(ndarray::s![..0, ..])).dim(), (0, 3));
    }
}

#[test]
fn a_low_rank_addition_is_the_merged_layer() {
    let (inputs, outputs, rank, first, part) = (12, 10, 3, 4, 5);
    let (weights, a, b) = (numbers(1, inputs * outputs), numbers(2, inputs * rank), numbers(3, rank * part));
    let scale = 0.5;
    let mut merged = weights.clone();
    for output in 0..part {
        for input in 0..inputs {
            let product: f32 = (0..rank).map(|r| a[input * rank + r] * b[r * part + output]).sum();
            merged[(first + output) * inputs + input] += scale * product;
        }
    }
    let x = tokens(3, inputs);
    let apart = Linear::from_f32(weights, outputs, inputs, None).with_low_rank(&a, &b, rank, first, scale);
    let expected = naive(&x, &merged, &vec![0.0; outputs]);
    assert!(error_of(&apart.forward(x.view()), &expected) < 1e-6);
}

#[test]
fn embeddings_give_rows_and_refuse_ids_beyond_the_last() {
    let values = numbers(1, 4 * 6);
    let mut writer = WeightsWriter::new();
    writer.f32("e.weight", &[4, 6], &values).unwrap();
    let embedding = reopen(&writer, 0).embedding("e", 4, 6).unwrap();
    let rows = embedding.forward(&[3, 0, 3]).unwrap();
    assert_eq!(rows.as_slice().unwrap(), [&values[18..], &values[..6], &values[18..]].concat());
    let error = embedding.forward(&[0, 4]).unwrap_err();
    assert!(matches!(error, Error::Row { id: 4, num_embeddings: 4, .. }), "{error}");
    assert_eq!(error.to_string(), "id 4 is not in the embedding `e.weight`, which has 4 rows");
}
