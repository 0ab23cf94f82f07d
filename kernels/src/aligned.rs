//! Buffers that begin at a cache line: a vector that is loaded from two lines takes twice the time.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A vector of fixed length whose first element is at a multiple of 64 bytes.
#[derive(Debug)]
pub(crate) struct AlignedVec<T> {
    lines: Vec<Line>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> AlignedVec<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> AlignedVec<T> {
        let lines = vec![Line([0; 64]); (len * size_of::<T>()).div_ceil(64)];
        AlignedVec { lines, len, element: PhantomData }
    }
}

impl<T: Pod> Deref for AlignedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Pod> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}
