//! Many tokens with rows that have one scale each: codes of some rows are unpacked once, into a panel that stays in the cache, and meet
//! many tokens there in register tiles.
//!
//! ```text
//! for each block of tokens:                          the tokens of a block stay in the L3 cache, a part of their columns in L2
//!     for each panel of rows:                        L2
//!         for each block of columns:                 unpack the panel
//!             for a few tokens, each tile of rows:   L1;  sums of the tile += rows x tokens, in registers
//!         the sums of the panel are whole
//! ```
//!
//! Sums are of integers and exact, so that the result is that of `matmul/rows` to the bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
mod portable;

pub(super) use portable::dot as dot_of_words;

use std::ops::Range;

use crate::Isa;
use crate::aligned::AlignedVec;
use crate::isa::{Kind, for_each_isa};
use crate::packed::{BLOCK_BYTES, Bits, PackedMatrix};

/// Rows of a tile; a panel has a whole number of tiles, the last of which may have rows of zeros.
pub(super) const TILE_ROWS: usize = 4;

/// Rows of a panel.
pub(crate) const PANEL_ROWS: usize = 32;

/// Tokens of a block at most.
const BLOCK_TOKENS: usize = 160;

/// Bytes of the tokens that meet the rows of a tile one after the other: half of an L1 cache, beside those rows.
const L1_TOKEN_BYTES: usize = 1 << 14;

/// Sums over codes of the rows of a panel and one token.
pub(crate) type Sums = [i32; PANEL_ROWS];

/// Calls `body(token, row, sums)` for each token of `tokens`, `[tokens, padded_columns]` codes, with each panel of these rows of `w`; `row`
/// counts from the first of them. Sums beyond the last row have no meaning. They may have wrapped around, and have [`code_offset`] times
/// the sum of the token's codes more.
pub(super) fn for_each_panel(
    isa: Isa,
    w: &PackedMatrix<'_>,
    rows: Range<usize>,
    tokens: &[i8],
    body: impl FnMut(usize, usize, &Sums),
) {
    let bits = w.shape().bits();
    match isa.0 {
        Kind::Portable => {
            Panel { unpack: unpack_words, multiply: portable::words, columns: 1024 }.run(isa, w, rows, tokens, body);
        }
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 if bits == Bits::Eight => {
            // SAFETY: this kind of `Isa` is made by `Isa::available` alone, where the CPU has these features.
            let multiply = |strip: Strip<'_, i16, i16>, sums: &mut [Sums]| unsafe { avx2::words(strip, sums) };
            Panel { unpack: unpack_words, multiply, columns: 1024 }.run(isa, w, rows, tokens, body);
        }
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => {
            // SAFETY: as above.
            let multiply = |strip: Strip<'_, u8, i8>, sums: &mut [Sums]| unsafe { avx2::bytes(bits, strip, sums) };
            Panel { unpack: unpack_bytes, multiply, columns: 2048 }.run(isa, w, rows, tokens, body);
        }
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni => {
            // SAFETY: as above.
            let multiply = |strip: Strip<'_, u8, i8>, sums: &mut [Sums]| unsafe { avx_vnni::bytes(strip, sums) };
            Panel { unpack: unpack_bytes, multiply, columns: 2048 }.run(isa, w, rows, tokens, body);
        }
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => {
            // SAFETY: as above.
            let multiply = |strip: Strip<'_, u8, i8>, sums: &mut [Sums]| unsafe { avx512_vnni::bytes(strip, sums) };
            Panel { unpack: unpack_bytes, multiply, columns: 4096 }.run(isa, w, rows, tokens, body);
        }
    }
}

/// Adds the products of the rows of a panel, `[PANEL_ROWS, width]`, with `tokens`, `[tokens, width]`, to the sums of the tokens. `width` is a
/// multiple of 16.
pub(crate) fn add_products_of_words(isa: Isa, rows: &[i16], tokens: &[i16], width: usize, sums: &mut [Sums]) {
    for (tile, rows) in rows.chunks_exact(TILE_ROWS * width).enumerate() {
        let rows = std::array::from_fn(|row| &rows[row * width..(row + 1) * width]);
        let strip = Strip { rows, tokens, first_row: tile * TILE_ROWS };
        match isa.0 {
            Kind::Portable => portable::words(strip, sums),
            // SAFETY: these kinds of `Isa` are made by `Isa::available` alone, where the CPU has these features.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::AvxVnni | Kind::Avx512Vnni => unsafe { avx2::words(strip, sums) },
        }
    }
}

/// Some columns of the rows of a tile, and of some tokens.
#[derive(Clone, Copy)]
struct Strip<'a, W, A> {
    rows: [&'a [W]; TILE_ROWS],
    /// `[tokens, columns]`.
    tokens: &'a [A],
    /// The place of the rows in the panel.
    first_row: usize,
}

impl<'a, W, A> Strip<'a, W, A> {
    /// Adds what `tile(rows, tokens)` gives for `T` tokens at a time to the sums of the tokens. The last token may be repeated.
    #[inline(always)]
    fn for_each_tile<const T: usize>(
        self,
        sums: &mut [Sums],
        tile: impl Fn([&'a [W]; TILE_ROWS], [&'a [A]; T]) -> [[i32; TILE_ROWS]; T],
    ) {
        let columns = self.rows[0].len();
        for (tokens, sums) in self.tokens.chunks(T * columns).zip(sums.chunks_mut(T)) {
            let last = sums.len() - 1;
            let parts = tile(self.rows, std::array::from_fn(|t| &tokens[t.min(last) * columns..][..columns]));
            for (sums, part) in sums.iter_mut().zip(parts) {
                for (sum, part) in sums[self.first_row..][..TILE_ROWS].iter_mut().zip(part) {
                    *sum = i32::wrapping_add(*sum, part);
                }
            }
        }
    }
}

/// What is added to codes of 8 bits, so that instructions for bytes without a sign can multiply them.
pub(super) fn code_offset(isa: Isa, bits: Bits) -> i32 {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni | Kind::Avx512Vnni if bits == Bits::Eight => 128,
        _ => 0,
    }
}

/// How codes are unpacked to `W`, and multiplied with tokens of `A`.
struct Panel<U, F> {
    unpack: U,
    multiply: F,
    /// Columns of a block at most: a multiple of the weights of a packed block.
    columns: usize,
}

impl<U, F> Panel<U, F> {
    fn run<W, A>(
        &self,
        isa: Isa,
        w: &PackedMatrix<'_>,
        rows: Range<usize>,
        tokens: &[i8],
        mut body: impl FnMut(usize, usize, &Sums),
    ) where
        W: bytemuck::Pod,
        A: bytemuck::Pod + From<i8>,
        U: Fn(Isa, Bits, &[u8], &mut [W]),
        F: Fn(Strip<'_, W, A>, &mut [Sums]),
    {
        let (bits, width, row_bytes) = (w.shape().bits(), w.shape().padded_columns(), w.shape().row_bytes());
        let weights_per_block = bits.weights_per_block();
        let num_tokens = tokens.len() / width;
        let block_tokens = num_tokens.div_ceil(num_tokens.div_ceil(BLOCK_TOKENS));
        // Column blocks of about the same size.
        let block_columns = width.div_ceil(width.div_ceil(self.columns)).next_multiple_of(weights_per_block);
        let few = (L1_TOKEN_BYTES / (block_columns * size_of::<A>())).max(4);
        let mut panel = AlignedVec::<W>::zeros(PANEL_ROWS * block_columns);
        let mut block = AlignedVec::<A>::zeros(block_tokens * width);
        let mut sums = vec![[0; PANEL_ROWS]; block_tokens];
        for (index, tokens) in tokens.chunks(block_tokens * width).enumerate() {
            let count = tokens.len() / width;
            let sums = &mut sums[..count];
            // Column block after column block, each `[tokens, columns]`.
            for first in (0..width).step_by(block_columns) {
                let columns = block_columns.min(width - first);
                let block = block[count * first..].chunks_exact_mut(columns);
                for (token, out) in tokens.chunks_exact(width).zip(block) {
                    out.iter_mut().zip(&token[first..]).for_each(|(out, &code)| *out = code.into());
                }
            }
            for first_row in rows.clone().step_by(PANEL_ROWS) {
                let panel_rows = first_row..rows.end.min(first_row + PANEL_ROWS);
                let num_tiles = panel_rows.len().div_ceil(TILE_ROWS);
                let codes = w.codes_of(panel_rows);
                sums.fill([0; PANEL_ROWS]);
                for first in (0..width).step_by(block_columns) {
                    let columns = block_columns.min(width - first);
                    let bytes = |column: usize| column / weights_per_block * BLOCK_BYTES;
                    for (codes, out) in codes.chunks_exact(row_bytes).zip(panel.chunks_exact_mut(columns)) {
                        (self.unpack)(isa, bits, &codes[bytes(first)..bytes(first + columns)], out);
                    }
                    let block = &block[count * first..count * (first + columns)];
                    for (tokens, sums) in block.chunks(few * columns).zip(sums.chunks_mut(few)) {
                        for (tile, rows) in panel.chunks_exact(TILE_ROWS * columns).take(num_tiles).enumerate() {
                            let rows = std::array::from_fn(|row| &rows[row * columns..(row + 1) * columns]);
                            (self.multiply)(Strip { rows, tokens, first_row: tile * TILE_ROWS }, sums);
                        }
                    }
                }
                for (token, sums) in sums.iter().enumerate() {
                    body(index * block_tokens + token, first_row - rows.start, sums);
                }
            }
        }
    }
}

for_each_isa! {
    /// Codes of a row to bytes, with [`code_offset`].
    fn unpack_bytes(bits: Bits, codes: &[u8], out: &mut [u8]) {
        // Three copies, so that shifts and masks are constants.
        match bits {
            Bits::Two => unpack::<u8, 2>(codes, out, |code| code),
            Bits::Four => unpack::<u8, 4>(codes, out, |code| code),
            Bits::Eight => unpack::<u8, 8>(codes, out, |code| code.wrapping_add(128)),
        }
    }
}

for_each_isa! {
    /// Codes of a row to words.
    pub(super) fn unpack_words(bits: Bits, codes: &[u8], out: &mut [i16]) {
        match bits {
            Bits::Two => unpack::<i16, 2>(codes, out, i16::from),
            Bits::Four => unpack::<i16, 4>(codes, out, i16::from),
            Bits::Eight => unpack::<i16, 8>(codes, out, |code| i16::from(code as i8)),
        }
    }
}

#[inline(always)]
fn unpack<T, const BITS: u32>(codes: &[u8], out: &mut [T], convert: impl Fn(u8) -> T) {
    let mask = ((1_u32 << BITS) - 1) as u8;
    let run = BLOCK_BYTES * 8 / BITS as usize;
    for (block, run) in codes.chunks_exact(BLOCK_BYTES).zip(out.chunks_exact_mut(run)) {
        for (plane, out) in run.chunks_exact_mut(BLOCK_BYTES).enumerate() {
            let shift = plane as u32 * BITS;
            for (out, &byte) in out.iter_mut().zip(block) {
                *out = convert((byte >> shift) & mask);
            }
        }
    }
}
