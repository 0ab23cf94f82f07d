//! One safetensors file: its bytes, in memory or mapped, and where each tensor lies in them.

#![allow(unsafe_code, reason = "the memory map, the one unsafe block outside the kernels")]

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use safetensors::{Dtype, SafeTensors};

use crate::Error;

/// A safetensors file whose header was checked: offsets lie inside the file, cover it without gaps, and fit the shapes.
pub(crate) struct WeightFile {
    /// How messages call the file.
    pub label: String,
    bytes: Storage,
    pub tensors: HashMap<String, TensorEntry>,
}

/// A tensor of a [`WeightFile`].
#[derive(Debug, Clone)]
pub(crate) struct TensorEntry {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    range: Range<usize>,
}

enum Storage {
    Static(&'static [u8]),
    Owned(Vec<u8>),
    Mapped(memmap2::Mmap, Mutex<File>),
}

impl fmt::Debug for WeightFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeightFile").field("label", &self.label).field("num_bytes", &self.bytes.len()).finish()
    }
}

impl Deref for Storage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Storage::Static(bytes) => bytes,
            Storage::Owned(bytes) => bytes,
            Storage::Mapped(map, _) => map,
        }
    }
}

impl WeightFile {
    /// The bytes of one of its tensors.
    pub(crate) fn bytes_of(&self, entry: &TensorEntry) -> &[u8] {
        &self.bytes[entry.range.clone()]
    }

    /// Maps a file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotAFile`], [`Error::Header`].
    pub fn open(path: &Path) -> Result<WeightFile, Error> {
        let io = |action| move |source| Error::Io { action, path: path.to_owned(), source };
        // Asked before opening: opening a pipe waits for its writer.
        if !std::fs::metadata(path).map_err(io("open"))?.is_file() {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(io("open"))?;
        // SAFETY: the map is only read. The file must not be truncated or written by others while it is mapped; that is a condition on
        // the user, stated in docs/limits.md, which no program that maps files can check.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io("map"))?;
        WeightFile::new(path.display().to_string(), Storage::Mapped(map, Mutex::new(file)))
    }

    /// Reads bytes that are part of the program.
    ///
    /// # Errors
    /// [`Error::Header`].
    pub fn from_static(label: &str, bytes: &'static [u8]) -> Result<WeightFile, Error> {
        WeightFile::new(label.to_owned(), Storage::Static(bytes))
    }

    /// Reads bytes that were made in memory.
    ///
    /// # Errors
    /// [`Error::Header`].
    pub fn from_vec(label: String, bytes: Vec<u8>) -> Result<WeightFile, Error> {
        WeightFile::new(label, Storage::Owned(bytes))
    }

    fn new(label: String, bytes: Storage) -> Result<WeightFile, Error> {
        // The reader limits the header to 100 MB, and checks every product and offset.
        let (header_len, metadata) = match SafeTensors::read_metadata(&bytes) {
            Ok(read) => read,
            Err(source) => return Err(Error::Header { file: label, source }),
        };
        let start = header_len + size_of::<u64>();
        let entries = metadata.tensors().into_iter().map(|(name, info)| {
            let range = start + info.data_offsets.0..start + info.data_offsets.1;
            (name, TensorEntry { dtype: info.dtype, shape: info.shape.clone(), range })
        });
        Ok(WeightFile { label, tensors: entries.collect(), bytes })
    }

    /// A copy of bytes of a tensor, `range` counted from its start. Of a mapped file they are read, so that the pages of the map do not become
    /// resident: whoever reads all of a large file once should not fill the memory with it.
    pub fn copy(&self, entry: &TensorEntry, range: Range<usize>) -> std::io::Result<Vec<u8>> {
        let range = entry.range.start + range.start..entry.range.start + range.end;
        let Storage::Mapped(_, file) = &self.bytes else { return Ok(self.bytes[range].to_vec()) };
        let mut bytes = vec![0; range.len()];
        // A thread that panicked while it read left nothing but another position behind.
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(range.start as u64))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// The bytes of a tensor, kept alive with their file.
#[derive(Debug, Clone)]
pub(crate) struct Bytes {
    file: Arc<WeightFile>,
    range: Range<usize>,
}

impl Bytes {
    pub fn new(file: &Arc<WeightFile>, entry: &TensorEntry) -> Bytes {
        Bytes { file: Arc::clone(file), range: entry.range.clone() }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.file.bytes[self.range.clone()]
    }
}
