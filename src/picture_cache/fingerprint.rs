//! What decides the image tokens of a picture, as one number: the weights of encoder and adapter and how they are computed with.

use std::fmt;

use ocelli_nn::Weights;
use sha2::{Digest, Sha256};

use super::write_hex;

/// SHA-256 of everything but the picture that decides its image tokens. [`Display`](fmt::Display) gives the first 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(super) [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..8])
    }
}

impl Fingerprint {
    /// The fingerprint of the tensors under `vision` and `adapter`, used with `settings`. The tensors of a decoder are not read.
    pub(crate) fn new(weights: &Weights, settings: &str) -> Self {
        let mut hasher = Sha256::new();
        // Each with its length, so that no bytes move between neighbours unseen.
        let mut update = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        update(settings.as_bytes());
        update(format!("{:?}", weights.quantization()).as_bytes());
        for part in ["vision", "adapter"] {
            let weights = weights.pp(part);
            for name in weights.names() {
                update(format!("{part}.{name} {:?} {:?}", weights.shape(name), weights.dtype(name)).as_bytes());
                update(weights.raw_bytes(name).unwrap_or_default());
            }
        }
        Self(hasher.finalize().into())
    }
}
