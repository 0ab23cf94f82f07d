//! Numbers that are used where they lie in the file if their alignment allows it, and are copied otherwise.

use std::ops::Deref;
use std::sync::Arc;

use bytemuck::Pod;

use crate::weight_file::Bytes;

/// A shared slice of `T`. Files are little-endian, and so is every machine that this runs on.
#[derive(Debug, Clone)]
pub(crate) enum Values<T> {
    /// Checked once: the bytes can be cast.
    InPlace(Bytes),
    Owned(Arc<[T]>),
}

#[cfg(target_endian = "big")]
compile_error!("weights are used in place, so that a big-endian machine would read them wrongly");

impl<T: Pod> Values<T> {
    /// The values of `bytes`, a whole number of them.
    pub fn new(bytes: Bytes) -> Values<T> {
        if bytemuck::try_cast_slice::<u8, T>(&bytes).is_ok() {
            Values::InPlace(bytes)
        } else {
            Values::Owned(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
        }
    }
}

impl<T: Pod> Deref for Values<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Values::InPlace(bytes) => bytemuck::cast_slice(bytes),
            Values::Owned(values) => values,
        }
    }
}
