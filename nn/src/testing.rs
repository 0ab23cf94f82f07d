//! Files and numbers for tests.

use crate::{QuantizationConfig, QuantizedPart, Weights, WeightsWriter};

/// Numbers in -1..1 without a pattern, the same on every run: fractions of multiples of the golden ratio, from a different place for
/// each `seed`.
pub(crate) fn numbers(seed: usize, len: usize) -> Vec<f32> {
    let number = |index: usize| {
        ((index * index + 31 * index + 1009 * seed) as f64 * 0.618_033_988_749_894_9).fract() * 2.0 - 1.0
    };
    (1..=len).map(|index| number(index) as f32).collect()
}

/// A configuration with these parts: prefix, bits, group size.
pub(crate) fn quantization(parts: &[(&str, u32, Option<usize>)]) -> QuantizationConfig {
    let part = |&(prefix, bits, group_size): &(&str, u32, Option<usize>)| QuantizedPart {
        prefix: prefix.to_owned(),
        bits,
        group_size,
        zero_point: None,
        activation_bits: 8,
    };
    QuantizationConfig { quant_method: "ocelli".into(), format_version: 1, parts: parts.iter().map(part).collect() }
}

/// The bytes of a safetensors file with that header, valid or not.
pub(crate) fn safetensors_bytes(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// What the writer writes, opened from memory, `offset` bytes after an aligned address.
pub(crate) fn reopen(writer: &WeightsWriter, offset: usize) -> Weights {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    writer.write(&path).unwrap();
    let file = std::fs::read(path).unwrap();
    let words = vec![0_u64; (offset + file.len()).div_ceil(8)].leak();
    let bytes: &'static mut [u8] = bytemuck::cast_slice_mut(words);
    bytes[offset..offset + file.len()].copy_from_slice(&file);
    Weights::from_static("memory", &bytes[offset..offset + file.len()]).unwrap()
}
