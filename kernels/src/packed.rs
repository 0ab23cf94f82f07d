//! Packed matrices: weights of 2, 4 or 8 bits with f16 scales, in the order of `docs/format.md`.
//!
//! A row is a sequence of 64-byte blocks. Byte `b` of a block holds `8 / bits` codes, lowest bits first, which are the weights
//! `b, b + 64, ...` of the block's run: one vector load, then shift and mask, gives vectors of consecutive weights.
//!
//! | bits | weights in a block | value of code q |
//! | --- | --- | --- |
//! | 2 | 256 | `s * (q - 1.5)` |
//! | 4 | 128 | `s * (q - 7.5)`, or with a zero point `s * (q - 8)`, where `s` may be negative |
//! | 8 | 64 | `s * q` (two's complement; packing gives -127..=127) |

use std::ops::Range;

use half::f16;

use crate::isa::for_each_isa;
use crate::{Error, Isa};

/// Bytes of a block; every row is a whole number of blocks.
pub const BLOCK_BYTES: usize = 64;

/// The most columns a packed matrix may have: `128 * 127 * 2^17 < 2^31`, so that the sum over a row fits an `i32`.
pub const MAX_COLUMNS: usize = 1 << 17;

/// Bits of a packed weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bits {
    /// 2 bits, the balanced set -1.5, -0.5, 0.5, 1.5 of the AFM 2025 report.
    Two,
    /// 4 bits, balanced or with a zero point ([`PackedShape::with_zero_point`]).
    Four,
    /// 8 bits, two's complement.
    Eight,
}

impl Bits {
    /// The kind with that many bits.
    ///
    /// # Errors
    /// [`Error::Bits`] for any number but 2, 4 and 8.
    pub fn new(bits: u32) -> Result<Bits, Error> {
        match bits {
            2 => Ok(Bits::Two),
            4 => Ok(Bits::Four),
            8 => Ok(Bits::Eight),
            found => Err(Error::Bits { found }),
        }
    }

    /// 2, 4 or 8.
    #[inline(always)]
    pub fn count(self) -> u32 {
        match self {
            Bits::Two => 2,
            Bits::Four => 4,
            Bits::Eight => 8,
        }
    }

    /// Weights in a block of 64 bytes: 256, 128 or 64.
    #[inline(always)]
    pub fn weights_per_block(self) -> usize {
        BLOCK_BYTES * 8 / self.count() as usize
    }

    /// The value of a code at scale 1, with the [`PackedShape::zero`] of the matrix; exact.
    #[inline(always)]
    pub(crate) fn level(self, code: u8, zero: f32) -> f32 {
        match self {
            Bits::Two | Bits::Four => f32::from(code) - zero,
            Bits::Eight => f32::from(code as i8),
        }
    }
}

/// The dimensions of a packed matrix, checked: every size that follows from them fits a `usize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedShape {
    bits: Bits,
    rows: usize,
    columns: usize,
    group_size: Option<usize>,
    zero_point: Option<u8>,
}

impl PackedShape {
    /// `rows` x `columns` weights; `group_size` consecutive weights of a row share a scale, all of a row if it is `None`. Levels are balanced: see
    /// [`PackedShape::with_zero_point`].
    ///
    /// # Errors
    /// [`Error::GroupSize`] unless it is 32, 64, 128 or `None`; [`Error::TooLarge`] above [`MAX_COLUMNS`] or the address space.
    pub fn new(bits: Bits, rows: usize, columns: usize, group_size: Option<usize>) -> Result<PackedShape, Error> {
        if let Some(found) = group_size
            && ![32, 64, 128].contains(&found)
        {
            return Err(Error::GroupSize { found });
        }
        let shape = PackedShape { bits, rows, columns, group_size, zero_point: None };
        let too_large = Error::TooLarge { rows, columns, max_columns: MAX_COLUMNS };
        if columns > MAX_COLUMNS {
            return Err(too_large);
        }
        // A row is at most 4 bytes a column when it is unpacked.
        let bytes = rows.checked_mul(columns.next_multiple_of(256) * 4);
        if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
            return Err(too_large);
        }
        Ok(shape)
    }

    /// The same dimensions with the levels `s * (q - zero_point)`, or those of [`PackedShape::new`] for `None`.
    ///
    /// The levels -8, .., 7 of 4 bits have one at 0 and reach one step further on one side; scales may be negative, so that this is the side of
    /// the largest weight. Heavy-tailed weights lose less with them than with balanced levels, as most are small beside the largest.
    ///
    /// # Errors
    /// [`Error::ZeroPoint`] for anything but 8 with 4 bits, or `None`.
    pub fn with_zero_point(self, zero_point: Option<u8>) -> Result<PackedShape, Error> {
        match (self.bits, zero_point) {
            (_, None) | (Bits::Four, Some(8)) => Ok(PackedShape { zero_point, ..self }),
            (bits, Some(found)) => Err(Error::ZeroPoint { bits: bits.count(), found }),
        }
    }

    /// The code of the value 0; `None` where levels are balanced or codes have a sign of their own.
    pub fn zero_point(&self) -> Option<u8> {
        self.zero_point
    }

    /// What is subtracted from a code of 2 or 4 bits; 0 for 8 bits.
    #[inline(always)]
    pub(crate) fn zero(&self) -> f32 {
        match self.bits {
            Bits::Two => 1.5,
            Bits::Four => self.zero_point.map_or(7.5, f32::from),
            Bits::Eight => 0.0,
        }
    }

    /// Bits of a weight.
    pub fn bits(&self) -> Bits {
        self.bits
    }

    /// Rows (out_features).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (in_features), without padding.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Weights that share a scale; `None` for one scale a row.
    pub fn group_size(&self) -> Option<usize> {
        self.group_size
    }

    /// Scales of a row.
    pub fn num_groups(&self) -> usize {
        self.group_size.map_or(1, |size| self.columns.div_ceil(size))
    }

    /// Blocks of a row.
    pub(crate) fn num_blocks(&self) -> usize {
        self.columns.div_ceil(self.bits.weights_per_block())
    }

    /// Bytes of a row, a multiple of [`BLOCK_BYTES`].
    pub fn row_bytes(&self) -> usize {
        self.num_blocks() * BLOCK_BYTES
    }

    /// Columns with the padding of the last block.
    pub(crate) fn padded_columns(&self) -> usize {
        self.num_blocks() * self.bits.weights_per_block()
    }

    /// Bytes of all codes.
    pub fn codes_len(&self) -> usize {
        self.rows * self.row_bytes()
    }

    /// Number of all scales.
    pub fn scales_len(&self) -> usize {
        self.rows * self.num_groups()
    }

    /// Sets the codes beyond the last column to 0 in `codes`, `[rows, row_bytes]`.
    pub fn clear_padding(&self, codes: &mut [u8]) {
        let used = self.columns % self.bits.weights_per_block();
        if used == 0 {
            return;
        }
        let last_block = self.row_bytes() - BLOCK_BYTES;
        for row in codes.chunks_exact_mut(self.row_bytes()) {
            for (byte, code) in row[last_block..].iter_mut().enumerate() {
                *code &= !(u32::MAX << (used_codes(used, byte) * self.bits.count())) as u8;
            }
        }
    }

    fn check_lengths(&self, codes: &[u8], scales: &[f16]) -> Result<(), Error> {
        let wrong =
            |what, expected, found| Error::Length { what, rows: self.rows, columns: self.columns, expected, found };
        if codes.len() != self.codes_len() {
            return Err(wrong("codes", self.codes_len(), codes.len()));
        }
        if scales.len() != self.scales_len() {
            return Err(wrong("scales", self.scales_len(), scales.len()));
        }
        Ok(())
    }
}

/// A packed matrix, borrowed from a file or a buffer.
#[derive(Debug, Clone, Copy)]
pub struct PackedMatrix<'a> {
    shape: PackedShape,
    codes: &'a [u8],
    scales: &'a [f16],
}

impl<'a> PackedMatrix<'a> {
    /// A matrix over `codes` (`[rows, row_bytes]`) and `scales` (`[rows, num_groups]`); scales and padding are checked; any
    /// codes are weights.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Scale`] (not finite, or negative without a zero point), [`Error::Padding`] (codes beyond the last column
    /// are not 0).
    pub fn new(shape: PackedShape, codes: &'a [u8], scales: &'a [f16]) -> Result<PackedMatrix<'a>, Error> {
        let matrix = PackedMatrix::assume_valid(shape, codes, scales)?;
        let num_groups = shape.num_groups();
        let may_be_negative = shape.zero_point.is_some();
        let is_wrong = |scale: &f16| !scale.is_finite() || (scale.to_f32() < 0.0 && !may_be_negative);
        if let Some(index) = scales.iter().position(is_wrong) {
            let (row, group) = (index / num_groups, index % num_groups);
            return Err(Error::Scale { row, group, found: scales[index].to_f32() });
        }
        let row_bytes = shape.row_bytes();
        let used = shape.columns % shape.bits.weights_per_block();
        if used != 0 {
            let last_block = row_bytes - BLOCK_BYTES;
            for (row, codes) in codes.chunks_exact(row_bytes).enumerate() {
                for (byte, &code) in codes[last_block..].iter().enumerate() {
                    if u32::from(code) >> (used_codes(used, byte) * shape.bits.count()) != 0 {
                        return Err(Error::Padding { row, byte: last_block + byte });
                    }
                }
            }
        }
        Ok(matrix)
    }

    /// A matrix whose bytes were checked before by [`PackedMatrix::new`]; only the lengths are checked again. Other bytes give
    /// other numbers, and nothing worse.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn assume_valid(shape: PackedShape, codes: &'a [u8], scales: &'a [f16]) -> Result<PackedMatrix<'a>, Error> {
        shape.check_lengths(codes, scales)?;
        Ok(PackedMatrix { shape, codes, scales })
    }

    /// The dimensions.
    pub fn shape(&self) -> PackedShape {
        self.shape
    }

    /// The codes of some rows, `[rows, row_bytes]`.
    pub(crate) fn codes_of(&self, rows: Range<usize>) -> &'a [u8] {
        &self.codes[rows.start * self.shape.row_bytes()..rows.end * self.shape.row_bytes()]
    }

    /// The scales of some rows, `[rows, num_groups]`.
    pub(crate) fn scales_of(&self, rows: Range<usize>) -> &'a [f16] {
        &self.scales[rows.start * self.shape.num_groups()..rows.end * self.shape.num_groups()]
    }

    /// Writes the values of a row to `out`, `[columns]`.
    ///
    /// # Panics
    /// If `row` is not below `rows`, or `out` has another length than `columns`.
    pub fn unpack_row(&self, row: usize, out: &mut [f32]) {
        self.unpack_rows(Isa::PORTABLE, row..row + 1, out);
    }

    /// Writes the values of some rows to `out`, `[rows, columns]`; the same bits on every instruction set.
    ///
    /// # Panics
    /// If there are no such rows, or `out` has another length.
    pub fn unpack_rows(&self, isa: Isa, rows: Range<usize>, out: &mut [f32]) {
        let PackedShape { bits, columns, group_size, .. } = self.shape;
        let count = rows.len();
        let len = out.len();
        assert_eq!(len, count * columns, "the buffer for {count} rows of {columns} columns has {len} elements");
        let (codes, scales) = (self.codes_of(rows.clone()), self.scales_of(rows));
        if columns > 0 {
            unpack(isa, bits, self.shape.zero(), columns, group_size.unwrap_or(columns), codes, scales, out);
        }
    }

    /// The values of the whole matrix, `[rows, columns]`.
    pub fn dequantize(&self) -> Vec<f32> {
        let PackedShape { rows, columns, .. } = self.shape;
        let mut values = vec![0.0; rows * columns];
        self.unpack_rows(Isa::PORTABLE, 0..rows, &mut values);
        values
    }
}

/// Codes of a byte of the last block that belong to weights, when the block has `used` weights: the lowest bits, as the byte holds the weights
/// b, b + 64, ... of the run.
fn used_codes(used: usize, byte: usize) -> u32 {
    ((used + BLOCK_BYTES - 1 - byte) / BLOCK_BYTES) as u32
}

for_each_isa! {
    /// Codes `[rows, row_bytes]` and scales `[rows, num_groups]` to values `[rows, columns]`.
    fn unpack(bits: Bits, zero: f32, columns: usize, group_size: usize, codes: &[u8], scales: &[f16], out: &mut [f32]) {
        let row_bytes = columns.div_ceil(bits.weights_per_block()) * BLOCK_BYTES;
        let num_groups = columns.div_ceil(group_size);
        for (row, out) in out.chunks_exact_mut(columns).enumerate() {
            let codes = &codes[row * row_bytes..(row + 1) * row_bytes];
            // Three copies, so that shifts and masks are constants.
            match bits {
                Bits::Two => unpack_levels(Bits::Two, zero, codes, out),
                Bits::Four => unpack_levels(Bits::Four, zero, codes, out),
                Bits::Eight => unpack_levels(Bits::Eight, zero, codes, out),
            }
            let scales = &scales[row * num_groups..(row + 1) * num_groups];
            for (group, &scale) in out.chunks_mut(group_size).zip(scales) {
                let scale = scale.to_f32();
                group.iter_mut().for_each(|weight| *weight *= scale);
            }
        }
    }
}

/// The codes of a row as levels, `[columns]`.
#[inline(always)]
fn unpack_levels(bits: Bits, zero: f32, codes: &[u8], out: &mut [f32]) {
    let mask = ((1_u32 << bits.count()) - 1) as u8;
    for (block, run) in codes.chunks_exact(BLOCK_BYTES).zip(out.chunks_mut(bits.weights_per_block())) {
        for (plane, weights) in run.chunks_mut(BLOCK_BYTES).enumerate() {
            let shift = plane as u32 * bits.count();
            for (weight, &byte) in weights.iter_mut().zip(block) {
                *weight = bits.level((byte >> shift) & mask, zero);
            }
        }
    }
}

#[cfg(test)]
mod tests;
