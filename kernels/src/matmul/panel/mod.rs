//! Many tokens with rows that have one scale each: codes of some rows are unpacked once, into a panel that stays in the cache, and meet
//! all tokens there in register tiles.
//!
//! Sums are of integers and exact, so that the result is that of the strip kernels to the bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
mod portable;

use std::ops::Range;

use crate::Isa;
use crate::aligned::AlignedVec;
use crate::isa::{Kind, for_each_isa};
use crate::packed::{BLOCK_BYTES, Bits, PackedMatrix};

/// Bytes of a panel: a part of an L2 cache.
const PANEL_BYTES: usize = 1 << 16;

/// Bytes of the tokens that meet the rows of a tile one after the other: half of an L1 cache, beside those rows.
const TOKEN_BYTES: usize = 1 << 14;

/// Rows of a tile; a panel has a whole number of tiles, the last of which may have rows of zeros.
pub(super) const TILE_ROWS: usize = 4;

/// Tokens of a tile; the last may have fewer.
const TILE_TOKENS: usize = 2;

/// `sums[t][r]`: sums over codes of row r and token t of a tile.
pub(super) type Sums = [[i32; TILE_ROWS]; TILE_TOKENS];

/// Unpacked codes of some rows, `[rows, width]`.
pub(super) struct Panel {
    isa: Isa,
    bits: Bits,
    /// Added to each code, so that it has no sign.
    offset: u8,
    /// Columns with the padding of the last block.
    width: usize,
    codes: Codes,
}

/// The form that the instructions multiply.
enum Codes {
    /// For instructions that multiply bytes.
    Bytes(AlignedVec<u8>),
    /// For plain loops.
    Words(AlignedVec<i16>),
}

impl Panel {
    /// A panel for rows of `w`, and how many rows it takes at a time.
    pub fn new(isa: Isa, w: &PackedMatrix<'_>) -> (Panel, usize) {
        let (bits, width) = (w.shape().bits(), w.shape().padded_columns());
        let is_words = isa == Isa::PORTABLE;
        let bytes = if is_words { 2 * width } else { width };
        let rows = (PANEL_BYTES / bytes / TILE_ROWS).max(1) * TILE_ROWS;
        let codes = if is_words {
            Codes::Words(AlignedVec::zeros(rows * width))
        } else {
            Codes::Bytes(AlignedVec::zeros(rows * width))
        };
        let offset = match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni if bits == Bits::Eight => 128,
            _ => 0,
        };
        (Panel { isa, bits, offset, width, codes }, rows)
    }

    /// Unpacks these rows of `w`.
    pub fn fill(&mut self, w: &PackedMatrix<'_>, rows: Range<usize>) {
        let codes = w.codes_of(rows);
        match &mut self.codes {
            Codes::Bytes(panel) => unpack_bytes(self.isa, self.bits, self.offset, codes, panel),
            Codes::Words(panel) => unpack_words(self.isa, self.bits, codes, panel),
        }
    }

    /// What the panel adds to each code, so that its sums have as many times the sum of the activations more; they may have wrapped around.
    pub fn offset(&self) -> i32 {
        i32::from(self.offset)
    }

    /// Calls `body(token, row, sums)` for each tile of the first `rows` rows of the panel with `tokens`, `[tokens, width]` codes. Sums beyond the
    /// last row or token have no meaning.
    pub fn for_each_tile(&self, rows: usize, tokens: &[i8], mut body: impl FnMut(usize, usize, Sums)) {
        let (isa, width) = (self.isa, self.width);
        match &self.codes {
            Codes::Bytes(panel) => {
                let block = tokens_of_block(width);
                for (index, tokens) in tokens.chunks(block * width).enumerate() {
                    tiles(
                        &panel[..rows.next_multiple_of(TILE_ROWS) * width],
                        tokens,
                        width,
                        |token, row, codes, tokens| {
                            body(index * block + token, row, sums_of_bytes(isa, self.bits, codes, tokens));
                        },
                    );
                }
            }
            Codes::Words(panel) => {
                let block = tokens_of_block(2 * width);
                let mut words = AlignedVec::zeros(block * width);
                for (index, tokens) in tokens.chunks(block * width).enumerate() {
                    let words = &mut words[..tokens.len()];
                    words.iter_mut().zip(tokens).for_each(|(word, &code)| *word = i16::from(code));
                    tiles(
                        &panel[..rows.next_multiple_of(TILE_ROWS) * width],
                        words,
                        width,
                        |token, row, codes, tokens| {
                            body(index * block + token, row, portable::words(codes, tokens));
                        },
                    );
                }
            }
        }
    }
}

/// Tokens that meet the rows of a tile one after the other.
fn tokens_of_block(token_bytes: usize) -> usize {
    (TOKEN_BYTES / token_bytes / TILE_TOKENS).max(1) * TILE_TOKENS
}

/// Calls `body(token, row, rows of the tile, tokens of the tile)` for all tiles of `panel`, `[rows, width]`, and `tokens`, `[tokens, width]`.
#[inline(always)]
fn tiles<W, A>(
    panel: &[W],
    tokens: &[A],
    width: usize,
    mut body: impl FnMut(usize, usize, [&[W]; TILE_ROWS], [&[A]; TILE_TOKENS]),
) {
    for (row, codes) in panel.chunks_exact(TILE_ROWS * width).enumerate() {
        let codes = std::array::from_fn(|index| &codes[index * width..(index + 1) * width]);
        for (token, tokens) in tokens.chunks(TILE_TOKENS * width).enumerate() {
            // The last token may be repeated.
            let last = tokens.len() / width - 1;
            let tokens = std::array::from_fn(|index| {
                let index = index.min(last);
                &tokens[index * width..(index + 1) * width]
            });
            body(token * TILE_TOKENS, row * TILE_ROWS, codes, tokens);
        }
    }
}

#[inline(always)]
fn sums_of_bytes(isa: Isa, bits: Bits, rows: [&[u8]; TILE_ROWS], tokens: [&[i8]; TILE_TOKENS]) -> Sums {
    match isa.0 {
        Kind::Portable => unreachable!("the portable path has panels of words"),
        // SAFETY: this kind of `Isa` is made by `Isa::available` alone, where the CPU has these features.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe {
            match bits {
                Bits::Two | Bits::Four => avx2::bytes(bits, rows, tokens),
                Bits::Eight => avx2::signed_bytes(rows, tokens),
            }
        },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => unsafe { avx512_vnni::bytes(rows, tokens) },
    }
}

for_each_isa! {
    /// Codes `[rows, row_bytes]` to bytes `[rows, width]`.
    fn unpack_bytes(bits: Bits, offset: u8, codes: &[u8], panel: &mut [u8]) {
        // Three copies, so that shifts and masks are constants.
        match bits {
            Bits::Two => unpack::<u8, 2>(codes, panel, |code| code),
            Bits::Four => unpack::<u8, 4>(codes, panel, |code| code),
            Bits::Eight => unpack::<u8, 8>(codes, panel, |code| code.wrapping_add(offset)),
        }
    }
}

for_each_isa! {
    /// Codes `[rows, row_bytes]` to words `[rows, width]`.
    fn unpack_words(bits: Bits, codes: &[u8], panel: &mut [i16]) {
        match bits {
            Bits::Two => unpack::<i16, 2>(codes, panel, i16::from),
            Bits::Four => unpack::<i16, 4>(codes, panel, i16::from),
            Bits::Eight => unpack::<i16, 8>(codes, panel, |code| i16::from(code as i8)),
        }
    }
}

#[inline(always)]
fn unpack<T, const BITS: u32>(codes: &[u8], panel: &mut [T], convert: impl Fn(u8) -> T) {
    let mask = ((1_u32 << BITS) - 1) as u8;
    let run = BLOCK_BYTES * 8 / BITS as usize;
    for (block, run) in codes.chunks_exact(BLOCK_BYTES).zip(panel.chunks_exact_mut(run)) {
        for (plane, out) in run.chunks_exact_mut(BLOCK_BYTES).enumerate() {
            let shift = plane as u32 * BITS;
            for (out, &byte) in out.iter_mut().zip(block) {
                *out = convert((byte >> shift) & mask);
            }
        }
    }
}
