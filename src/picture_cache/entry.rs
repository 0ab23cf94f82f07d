//! An entry of the cache: a header and the image tokens in f32, little endian.
//!
//! ```text
//! 16 bytes   "ocelli tokens 1\n"
//!  8 bytes   rows and columns of tiles, u32
//! 32 bytes   SHA-256 of the key, the 24 bytes above and the values
//!            values, f32
//! ```
//!
//! The key is in the checksum alone, so that an entry under the name of another is refused. The other sizes follow from the model, and the length
//! of the file is compared with them before anything is reserved.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::Array2;
use ocelli_vision::Mode;
use sha2::{Digest, Sha256};

use super::{ContentHash, Fingerprint};
use crate::model::EncodedPicture;
use crate::response::Timings;

/// The last component of an entry's name.
const EXTENSION: &str = "tokens";
const MAGIC: &[u8; 16] = b"ocelli tokens 1\n";
const SIZES_BYTES: usize = MAGIC.len() + 8;
const HEADER_BYTES: usize = SIZES_BYTES + 32;
/// The most tiles in a row or column that preprocessor_config.json can ask for.
const MAX_GRID: usize = 8;

/// What an entry is found by.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) fingerprint: &'a Fingerprint,
    pub(super) hash: &'a ContentHash,
    pub(super) mode: Mode,
}

impl Key<'_> {
    /// The path of the entry in the folder of the cache.
    pub(super) fn path(&self) -> PathBuf {
        Path::new(&self.fingerprint.to_string()).join(format!("{}-{}.{EXTENSION}", self.mode, self.hash))
    }

    fn checksum(&self, sizes: &[u8], values: &[u8]) -> [u8; 32] {
        let Self { fingerprint, hash, mode } = self;
        let key = Sha256::new().chain_update(fingerprint.0).chain_update(hash.0).chain_update(mode.as_str());
        key.chain_update(sizes).chain_update(values).finalize().into()
    }
}

/// Whether a file name is one of [`Key::path`].
pub(super) fn is_name(name: &str) -> bool {
    let parts =
        name.strip_suffix(EXTENSION).and_then(|name| name.strip_suffix('.')).and_then(|name| name.split_once('-'));
    parts.is_some_and(|(mode, hash)| mode.parse::<Mode>().is_ok() && is_hex(hash, 64))
}

/// Whether `text` is `len` hexadecimal digits, as hashes are written.
pub(super) fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The bytes of an entry.
pub(super) fn to_bytes(key: Key<'_>, picture: &EncodedPicture) -> Vec<u8> {
    let values = f32_to_bytes(picture.tokens.iter());
    let mut bytes = Vec::with_capacity(HEADER_BYTES + values.len());
    bytes.extend_from_slice(MAGIC);
    for size in [picture.tiles.0, picture.tiles.1] {
        bytes.extend_from_slice(&(size as u32).to_le_bytes());
    }
    bytes.extend_from_slice(&key.checksum(&bytes, &values));
    bytes.extend_from_slice(&values);
    bytes
}

/// Values in the order of bytes of the file.
pub(super) fn f32_to_bytes<'a>(values: impl ExactSizeIterator<Item = &'a f32>) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * 4];
    for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *bytes = value.to_le_bytes();
    }
    bytes
}

/// Reads and checks the entry `key`; `(tokens, width)` is the shape of the image tokens of one view.
///
/// # Errors
/// What is wrong with the file, for a log.
pub(super) fn read(path: &Path, key: Key<'_>, (tokens, width): (usize, usize)) -> io::Result<EncodedPicture> {
    let refused = |found: &str| Err(io::Error::new(io::ErrorKind::InvalidData, found));
    // Asked before opening: opening a pipe waits for its writer.
    if !fs::metadata(path)?.is_file() {
        return refused("not an ordinary file");
    }
    let mut file = File::open(path)?;
    let num_bytes = file.metadata()?.len();
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;
    let (sizes, checksum) = header.split_at(SIZES_BYTES);
    let (magic, tiles) = sizes.split_at(MAGIC.len());
    if magic != MAGIC {
        return refused("not image tokens, or of another version");
    }
    let [rows, columns] = [0, 1].map(|index| u32::from_le_bytes(tiles.as_chunks().0[index]) as usize);
    if ![rows, columns].iter().all(|tiles| (1..=MAX_GRID).contains(tiles)) {
        return refused("tiles out of range");
    }
    let num_views = if (rows, columns) == (1, 1) { 1 } else { 1 + rows * columns };
    let value_bytes =
        [tokens, width, 4].iter().fold(num_views as u64, |product, &size| product.saturating_mul(size as u64));
    if num_bytes != value_bytes.saturating_add(HEADER_BYTES as u64) {
        return refused("of another length than its sizes say");
    }
    let mut values = vec![0; num_views * tokens * width * 4];
    file.read_exact(&mut values)?;
    if checksum != key.checksum(sizes, &values) {
        return refused("of another key, or damaged");
    }
    let values: Vec<f32> = values.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    if !values.iter().all(|value| value.is_finite()) {
        return refused("not finite");
    }
    let tokens = Array2::from_shape_vec((num_views * tokens, width), values).map_err(io::Error::other)?;
    let (tiles, tokens, timings) = ((rows, columns), Arc::new(tokens), Timings::default());
    Ok(EncodedPicture { mode: key.mode, num_views, tiles, tokens, timings })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINGERPRINT: Fingerprint = Fingerprint([7; 32]);
    const HASH: ContentHash = ContentHash([9; 32]);
    const KEY: Key<'static> = Key { fingerprint: &FINGERPRINT, hash: &HASH, mode: Mode::High };
    /// Two image tokens of three values a view.
    const SHAPE: (usize, usize) = (2, 3);

    /// A picture of 1 x 2 tiles.
    fn picture(last: f32) -> EncodedPicture {
        let tokens = Array2::from_shape_fn((6, 3), |(row, column)| if (row, column) == (5, 2) { last } else { 0.1 });
        let (mode, tokens, timings) = (Mode::High, Arc::new(tokens), Timings::default());
        EncodedPicture { mode, num_views: 3, tiles: (1, 2), tokens, timings }
    }

    fn read_bytes(bytes: &[u8], key: Key<'_>, shape: (usize, usize)) -> Result<EncodedPicture, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("entry");
        fs::write(&path, bytes).unwrap();
        read(&path, key, shape).map_err(|error| error.to_string())
    }

    #[test]
    fn a_picture_comes_back_bit_for_bit() {
        for last in [-0.0, f32::MIN_POSITIVE / 8.0, f32::MAX, 1.0 / 3.0] {
            let read = read_bytes(&to_bytes(KEY, &picture(last)), KEY, SHAPE).unwrap();
            assert_eq!((read.mode, read.num_views, read.tiles), (Mode::High, 3, (1, 2)));
            assert_eq!(read.tokens[(5, 2)].to_bits(), last.to_bits());
            assert_eq!(read.tokens, picture(last).tokens);
        }
    }

    #[test]
    fn values_that_are_not_finite_are_refused_even_with_a_right_checksum() {
        for last in [f32::NAN, f32::INFINITY] {
            assert_eq!(read_bytes(&to_bytes(KEY, &picture(last)), KEY, SHAPE).unwrap_err(), "not finite");
        }
    }

    #[test]
    fn an_entry_of_another_key_or_shape_is_refused() {
        let bytes = to_bytes(KEY, &picture(0.5));
        let (fingerprint, hash) = (Fingerprint([8; 32]), ContentHash([8; 32]));
        for key in
            [Key { fingerprint: &fingerprint, ..KEY }, Key { hash: &hash, ..KEY }, Key { mode: Mode::Balanced, ..KEY }]
        {
            assert_eq!(read_bytes(&bytes, key, SHAPE).unwrap_err(), "of another key, or damaged");
        }
        for shape in [(2, 4), (3, 3), (usize::MAX, usize::MAX)] {
            assert_eq!(read_bytes(&bytes, KEY, shape).unwrap_err(), "of another length than its sizes say");
        }
    }

    #[test]
    fn tiles_that_no_model_has_are_refused_before_memory_is_reserved() {
        for tiles in [[0u32, 1], [1, 9], [u32::MAX, u32::MAX]] {
            let mut bytes = to_bytes(KEY, &picture(0.5));
            bytes[16..20].copy_from_slice(&tiles[0].to_le_bytes());
            bytes[20..24].copy_from_slice(&tiles[1].to_le_bytes());
            assert_eq!(read_bytes(&bytes, KEY, SHAPE).unwrap_err(), "tiles out of range");
        }
    }

    #[test]
    fn names_of_entries_are_told_from_others() {
        let path = KEY.path();
        assert_eq!(path.parent(), Some(Path::new("0707070707070707")));
        let name = path.file_name().and_then(|name| name.to_str()).unwrap();
        assert!(is_name(name), "{name}");
        let upper = name.to_uppercase();
        for other in ["", ".tokens", "high-.tokens", "notes.txt", &name[1..], &format!("{name}~"), &upper] {
            assert!(!is_name(other), "{other}");
        }
    }
}
