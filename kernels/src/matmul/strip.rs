//! The unit of work of the packed kernels: a strip of tiles of four sums.

/// Sums of a tile: what one kernel step works on.
pub(super) const LANES: usize = 4;

/// One row of weights with some tokens, or one token with some rows: four of the many are the lanes of a tile.
#[derive(Clone, Copy)]
pub(super) enum Strip<'a> {
    /// The codes of one row, and those of the tokens.
    Tokens(&'a [u8], Block<'a, i8>),
    /// The codes of the rows, and those of one token.
    Rows(Block<'a, u8>, &'a [i8]),
}

/// Codes of some rows or tokens, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Block<'a, T> {
    /// `[items, width]`, at least one item.
    pub values: &'a [T],
    pub width: usize,
}

impl<'a, T> Block<'a, T> {
    /// The four items of a tile. In the last tile the last item may be repeated; those sums are ignored.
    #[inline(always)]
    pub fn four(&self, tile: usize) -> [&'a [T]; LANES] {
        let last = self.values.len() / self.width - 1;
        std::array::from_fn(|lane| {
            let item = (tile * LANES + lane).min(last);
            &self.values[item * self.width..(item + 1) * self.width]
        })
    }
}

impl<'a> Strip<'a> {
    /// Tiles of four, the last of which may have lanes that are repeated.
    pub fn num_tiles(&self) -> usize {
        let items = match self {
            Strip::Tokens(_, tokens) => tokens.values.len() / tokens.width,
            Strip::Rows(rows, _) => rows.values.len() / rows.width,
        };
        items.div_ceil(LANES)
    }

    /// Calls `body(tile, lane, codes of the row, codes of the token)` for every lane: the work of a kernel without vectors.
    pub fn for_each_lane(&self, mut body: impl FnMut(usize, usize, &'a [u8], &'a [i8])) {
        for tile in 0..self.num_tiles() {
            for lane in 0..LANES {
                match self {
                    Strip::Tokens(row, tokens) => body(tile, lane, row, tokens.four(tile)[lane]),
                    Strip::Rows(rows, token) => body(tile, lane, rows.four(tile)[lane], token),
                }
            }
        }
    }
}
