//! `portable-matmul-panel`: plain loops over 16-bit integers.

use super::{Sums, TILE_ROWS, TILE_TOKENS};

pub(super) fn words(rows: [&[i16]; TILE_ROWS], tokens: [&[i16]; TILE_TOKENS]) -> Sums {
    tokens.map(|token| rows.map(|row| row.iter().zip(token).map(|(&code, &a)| i32::from(code) * i32::from(a)).sum()))
}
