//! What a picture may cost, checked before anything is decoded.

/// Limits on a picture from a stranger.
///
/// A few hundred bytes of PNG can declare billions of pixels; these limits are compared with what the header declares
/// before memory is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most pixels, width x height. Default: 100 million.
    pub max_pixels: u64,
    /// Longest side in pixels. Default: 65535, the longest that JPEG has (resampling tables grow with the side).
    pub max_side: u32,
    /// Most bytes of the encoded file. Default: 400 MB (100 million pixels of uncompressed RGBA).
    pub max_bytes: u64,
    /// Most bytes of the decoded samples. Default: 600 MB (100 million pixels of 16-bit RGB).
    pub max_decoded_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pixels: 100_000_000, max_side: 65_535, max_bytes: 400_000_000, max_decoded_bytes: 600_000_000 }
    }
}

impl Limits {
    /// These limits with another number of pixels, and as many decoded bytes as 16-bit RGB of that size needs.
    pub fn with_max_pixels(self, max_pixels: u64) -> Self {
        Self { max_pixels, max_decoded_bytes: max_pixels.saturating_mul(6), ..self }
    }

    /// These limits with another length of the encoded file.
    pub fn with_max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }
}
