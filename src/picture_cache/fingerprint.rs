//! What decides the image tokens of a picture, as one number: the weights of encoder and adapter and how they are computed with.

use std::fmt;

use ocelli_nn::Weights;
use sha2::{Digest, Sha256};

use super::entry::f32_to_bytes;
use super::write_hex;
use crate::error::Result;

/// Rows of a packed matrix that are unpacked together.
const ROWS: usize = 64;

/// SHA-256 of everything but the picture that decides its image tokens. [`Display`](fmt::Display) gives the first 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(super) [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..8])
    }
}

impl Fingerprint {
    /// The fingerprint of the tensors under `vision` and `adapter`, read with `settings`. The tensors of a decoder are not read.
    ///
    /// # Errors
    /// Names the tensor, where there is a packed matrix that no encoder could read.
    pub(crate) fn new(weights: &Weights, settings: &str) -> Result<Self> {
        let mut hasher = Sha256::new();
        update(&mut hasher, settings.as_bytes());
        for part in ["vision", "adapter"] {
            let weights = weights.pp(part);
            for name in weights.names() {
                let (shape, dtype) = (weights.shape(name).unwrap_or_default(), weights.dtype(name).unwrap_or_default());
                update(&mut hasher, format!("{part}.{name} {shape:?} {dtype}").as_bytes());
                if let Some(matrix) = name.strip_suffix(".weight_codes") {
                    update_with_matrix(&mut hasher, &weights.pp(matrix))?;
                } else if ["F32", "F16", "BF16"].contains(&&*dtype) {
                    // Wider floats have the same values. Encoders read no other types.
                    update(&mut hasher, &f32_to_bytes(weights.tensor(name, shape)?.iter()));
                }
            }
        }
        Ok(Self(hasher.finalize().into()))
    }
}

/// `bytes` with their length, so that none move between neighbours unseen.
fn update(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// The values of the packed matrix `weight`, and how they meet activations. Beside the scales, which are a tensor of their own, they tell every code
/// that matters.
fn update_with_matrix(hasher: &mut Sha256, weights: &Weights) -> Result<()> {
    let part = weights.quantization().and_then(|config| config.part_for(&weights.full_name("weight")));
    let (Some(part), Some(&[rows, row_bytes]), Some(&[_, num_groups])) =
        (part, weights.shape("weight_codes"), weights.shape("weight_scales"))
    else {
        // No packed matrix, so that nothing reads it.
        return Ok(());
    };
    if weights.contains("weight") {
        // Layers prefer it, and it is among the floats.
        return Ok(());
    }
    update(hasher, format!("{part:?}").as_bytes());
    // The padding of the last block, whose codes are 0, is taken for columns.
    let columns = row_bytes * 8 / part.bits as usize;
    let columns = part.group_size.map_or(columns, |size| columns.min(num_groups * size));
    let matrix = weights.embedding("", rows, columns)?;
    for first in (0..rows).step_by(ROWS) {
        let ids: Vec<u32> = (first..rows.min(first + ROWS)).map(|row| row as u32).collect();
        update(hasher, &f32_to_bytes(matrix.forward(&ids)?.iter()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ocelli_nn::{Bits, FORMAT_VERSION, PackedShape, QuantizationConfig, QuantizedPart, WeightsWriter};
    use safetensors::SafeTensors;

    use super::*;

    const ROWS: usize = 3;
    /// A last group, and for most kinds a last block, that is not full.
    const COLUMNS: usize = 2 * 128 + 40;

    /// Bits, group size and zero point of every kind of packed matrix.
    fn kinds() -> Vec<(u32, Option<usize>, Option<u8>)> {
        let levels = [(2, None), (4, None), (4, Some(8)), (8, None)];
        let groups = [None, Some(32), Some(64), Some(128)];
        levels.iter().flat_map(|&(bits, zero)| groups.map(|group_size| (bits, group_size, zero))).collect()
    }

    fn part((bits, group_size, zero_point): (u32, Option<usize>, Option<u8>)) -> QuantizedPart {
        QuantizedPart { prefix: "vision".to_owned(), bits, group_size, zero_point, activation_bits: 8 }
    }

    /// The bytes of a file with a packed matrix under `vision`.
    fn file_of(kind: (u32, Option<usize>, Option<u8>)) -> Vec<u8> {
        let (bits, group_size, zero_point) = kind;
        let shape = PackedShape::new(Bits::new(bits).unwrap(), ROWS, COLUMNS, group_size).unwrap();
        let values: Vec<f32> = (0..ROWS * COLUMNS).map(|index| (index as f32).sin()).collect();
        let mut writer = WeightsWriter::new();
        writer.packed("vision.proj", shape.with_zero_point(zero_point).unwrap(), &values).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        writer.write(&path).unwrap();
        fs::read(path).unwrap()
    }

    fn fingerprint_of(bytes: &[u8], part: QuantizedPart) -> Fingerprint {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        fs::write(&path, bytes).unwrap();
        let (quant_method, format_version) = ("ocelli".to_owned(), FORMAT_VERSION);
        let quantization = QuantizationConfig { quant_method, format_version, parts: vec![part] };
        let weights = Weights::open(path).unwrap().with_quantization(quantization).unwrap();
        Fingerprint::new(&weights, "settings").unwrap()
    }

    #[test]
    fn every_code_of_every_kind_of_packed_matrix_counts() {
        for kind in kinds() {
            let bytes = file_of(kind);
            let whole = fingerprint_of(&bytes, part(kind));
            assert_eq!(fingerprint_of(&bytes, part(kind)), whole);
            let tensors = SafeTensors::deserialize(&bytes).unwrap();
            let codes = tensors.tensor("vision.proj.weight_codes").unwrap().data();
            let start = codes.as_ptr() as usize - bytes.as_ptr() as usize;
            let shape = PackedShape::new(Bits::new(kind.0).unwrap(), ROWS, COLUMNS, kind.1).unwrap();
            let mut changed = 0;
            for byte in (0..codes.len()).step_by(7) {
                let mut codes = codes.to_vec();
                codes[byte] ^= 1;
                shape.clear_padding(&mut codes);
                let mut file = bytes.clone();
                file[start..start + codes.len()].copy_from_slice(&codes);
                if file != bytes {
                    assert_ne!(fingerprint_of(&file, part(kind)), whole, "{kind:?}, byte {byte}");
                    changed += 1;
                }
            }
            assert!(changed > 10, "{kind:?}");
        }
    }

    #[test]
    fn how_weights_meet_activations_counts() {
        for kind in kinds() {
            let bytes = file_of(kind);
            let floats = QuantizedPart { activation_bits: 32, ..part(kind) };
            assert_ne!(fingerprint_of(&bytes, part(kind)), fingerprint_of(&bytes, floats));
        }
    }
}
