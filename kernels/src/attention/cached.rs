//! Attention of the decoder: causal, grouped queries, over the rows of a key-value cache.
//!
//! ```text
//! q = scale * n, n of 16 bits                          for each query; keys and values are codes with scales
//! for each tile of 128 cached tokens:                  all queries of all heads that share keys and values
//!     s  = (n . codes of the key) * scale * scale of the key        the product in integers, exact
//!     m' = max(m, max s);   p = e^(s - m')
//!     l, o = l e^(m - m') + sum p,   o e^(m - m') + p v       p times the scale of v in 16 bits, the product in integers
//! out = o / l
//! ```
//!
//! Keys and values in f32, or of a checkpoint's own static ranges, meet queries and shares in f32: that is the arithmetic that such a checkpoint
//! was made with, and an error of 16 bits would show in the next layer's codes. The softmax streams, as in the attention of encoders: there is
//! never a row of all scores.

use super::product::{COLUMNS, ROWS, add_product};
use super::words::{self, product_of_words};
use crate::Isa;
use crate::activation::exp;
use crate::aligned::AlignedVec;
use crate::isa::for_each_isa;
use crate::lanes;
use crate::matmul::panel::{PANEL_ROWS, add_products_of_words};
use crate::parallel::map;
use crate::quantize::round_to_i32;
use crate::softmax::exponentials;

/// Keys or values of one head, one row of `head_dim` for each cached token.
#[derive(Debug, Clone, Copy)]
pub enum KvRows<'a> {
    /// As they were computed: `[tokens, head_dim]`.
    F32(&'a [f32]),
    /// 8-bit codes `[tokens, head_dim]` with a scale for each token, `[tokens]`.
    I8 {
        /// `[tokens, head_dim]`.
        codes: &'a [i8],
        /// `[tokens]`.
        scales: &'a [f32],
    },
    /// 8-bit codes `[tokens, head_dim]` with one scale for all.
    I8Static {
        /// `[tokens, head_dim]`.
        codes: &'a [i8],
        /// The scale of every code.
        scale: f32,
    },
}

impl KvRows<'_> {
    /// The number of cached tokens.
    fn num_tokens(&self, head_dim: usize) -> usize {
        match self {
            KvRows::F32(rows) => rows.len() / head_dim,
            KvRows::I8 { codes, scales } => scales.len().min(codes.len() / head_dim),
            KvRows::I8Static { codes, .. } => codes.len() / head_dim,
        }
    }
}

/// Cached rows that meet the queries of a block at a time. The tiles of a cache begin at multiples of it, whatever the call.
const ROW_TILE: usize = 4 * PANEL_ROWS;

/// Tokens whose queries share the rows of a tile.
const BLOCK_TOKENS: usize = 16;

/// Work below this many products runs on the calling thread.
const PARALLEL_PRODUCTS: usize = 200_000;

/// Attention of new tokens over a cache that already holds them. `queries` and `out` are `[tokens, num_heads * head_dim]`; query i has
/// position `first_position + i` and sees the rows `0..=first_position + i` of the cache; `kv_heads` holds keys and values of each
/// key-value head, and query head h reads head `h / (num_heads / num_kv_heads)`. With `segment_ids` (one for each cached token) a query sees
/// only tokens of its own segment.
///
/// The same bits on every instruction set, for any number of threads and of tokens in the call.
///
/// # Panics
/// If the lengths do not fit, or the cache has fewer than `first_position + tokens` rows.
pub fn attention_cached(
    isa: Isa,
    queries: &[f32],
    first_position: usize,
    kv_heads: &[(KvRows<'_>, KvRows<'_>)],
    num_heads: usize,
    head_dim: usize,
    segment_ids: Option<&[i64]>,
    out: &mut [f32],
) {
    assert_eq!(queries.len(), out.len(), "queries have {} elements, the result {}", queries.len(), out.len());
    if queries.is_empty() {
        return;
    }
    let width = num_heads * head_dim;
    let tokens = queries.len() / width;
    assert_eq!(queries.len(), tokens * width, "queries have {} elements, not a multiple of {width}", queries.len());
    assert!(num_heads.is_multiple_of(kv_heads.len()), "{num_heads} heads over {} key-value heads", kv_heads.len());
    let num_rows = first_position + tokens;
    for (keys, values) in kv_heads {
        let cached = keys.num_tokens(head_dim).min(values.num_tokens(head_dim));
        assert!(cached >= num_rows, "the cache holds {cached} tokens, expected at least {num_rows}");
    }
    if let Some(ids) = segment_ids {
        assert!(ids.len() >= num_rows, "there are {} segment ids, expected at least {num_rows}", ids.len());
    }
    let group = num_heads / kv_heads.len();
    // A job is some tokens of one key-value head: all query heads of that head share the tiles.
    let starts = (0..tokens).step_by(BLOCK_TOKENS);
    let jobs: Vec<(usize, usize)> =
        starts.flat_map(|first| (0..kv_heads.len()).map(move |kv_head| (first, kv_head))).collect();
    let run = |(first, kv_head): (usize, usize)| {
        let count = BLOCK_TOKENS.min(tokens - first);
        let columns = kv_head * group * head_dim..(kv_head + 1) * group * head_dim;
        let rows = queries[first * width..(first + count) * width].chunks_exact(width);
        let block: Vec<f32> = rows.flat_map(|row| &row[columns.clone()]).copied().collect();
        let (keys, values) = kv_heads[kv_head];
        let mut result = vec![0.0; block.len()];
        let job = Job { first_position: first_position + first, group, head_dim, keys, values, segment_ids };
        attend(isa, isa, job, &block, &mut result);
        result
    };
    let products = queries.len().saturating_mul(num_rows);
    let results: Vec<Vec<f32>> =
        if products < PARALLEL_PRODUCTS { jobs.iter().copied().map(run).collect() } else { map(jobs.clone(), run) };
    for ((first, kv_head), result) in jobs.into_iter().zip(results) {
        let columns = kv_head * group * head_dim..(kv_head + 1) * group * head_dim;
        let rows = out[first * width..].chunks_exact_mut(width);
        for (row, result) in rows.zip(result.chunks_exact(group * head_dim)) {
            row[columns.clone()].copy_from_slice(result);
        }
    }
}

/// Some tokens of one key-value head.
#[derive(Clone, Copy)]
struct Job<'a> {
    first_position: usize,
    group: usize,
    head_dim: usize,
    keys: KvRows<'a>,
    values: KvRows<'a>,
    segment_ids: Option<&'a [i64]>,
}

/// Queries in 16 bits: `query = scale * codes`, with `1 / sqrt(head_dim)` in the scale. An error of `2^-16` of the largest element.
struct WordQueries {
    /// `[queries, width]`; what fills a row up to a whole vector is 0.
    codes: AlignedVec<i16>,
    width: usize,
    /// `[queries]`.
    scales: Vec<f32>,
}

impl WordQueries {
    #[inline(always)]
    fn new(queries: &[f32], head_dim: usize) -> WordQueries {
        let width = head_dim.next_multiple_of(16);
        // A sum over a key, whose codes are at most 128, stays below 2^31.
        let largest_code = (i32::MAX / (128 * head_dim as i32)).min(i32::from(i16::MAX)) as f32;
        let factor = 1.0 / (head_dim as f32).sqrt();
        let mut codes = AlignedVec::zeros(queries.len() / head_dim * width);
        let mut scales = Vec::with_capacity(queries.len() / head_dim);
        for (query, codes) in queries.chunks_exact(head_dim).zip(codes.chunks_exact_mut(width)) {
            let scale = lanes::largest_magnitude(query) / largest_code;
            let divisor = if scale == 0.0 { f32::INFINITY } else { scale };
            for (code, query) in codes.iter_mut().zip(query) {
                *code = round_to_i32(query / divisor, largest_code) as i16;
            }
            scales.push(scale * factor);
        }
        WordQueries { codes, width, scales }
    }
}

/// What a job works with for one tile after the other.
struct Tile {
    /// Some of the keys as words, `[PANEL_ROWS, width]`.
    keys: AlignedVec<i16>,
    /// `[queries][PANEL_ROWS]`.
    products: Vec<[i32; PANEL_ROWS]>,
    /// `[queries, ROW_TILE]`, the queries up to whole tiles of the product.
    scores: AlignedVec<f32>,
    /// Values in f32: strips of 16 columns, `[ROW_TILE][16]` each.
    values: Vec<[f32; COLUMNS]>,
    /// Values as words: strips of 16 columns, `[ROW_TILE / 2][16]` pairs of rows each.
    value_words: Vec<words::Strip>,
    /// Shares of the rows as words, `[queries, ROW_TILE / 2]` pairs.
    shares: Vec<words::Pair>,
    /// `[queries, padded columns]`.
    value_sums: Vec<i32>,
}

for_each_isa! {
    /// `queries` and `out` are `[tokens, group, head_dim]`; `same_isa` is the instruction set once more, for the integer products.
    fn attend(same_isa: Isa, job: Job<'_>, queries: &[f32], out: &mut [f32]) {
        let Job { first_position, group, head_dim, keys, values, segment_ids } = job;
        let num_queries = queries.len() / head_dim;
        let num_rows = first_position + num_queries / group;
        let (padded_queries, padded_columns) = (num_queries.next_multiple_of(ROWS), head_dim.next_multiple_of(COLUMNS));
        let word_queries = WordQueries::new(if matches!(keys, KvRows::I8 { .. }) { queries } else { &[] }, head_dim);
        let is_f32 = !matches!(values, KvRows::I8 { .. });
        let mut floats = Vec::new();
        let mut tile = Tile {
            keys: AlignedVec::zeros(PANEL_ROWS * word_queries.width),
            products: vec![[0; PANEL_ROWS]; num_queries],
            scores: AlignedVec::zeros(padded_queries * ROW_TILE),
            values: vec![[0.0; COLUMNS]; if is_f32 { padded_columns / COLUMNS * ROW_TILE } else { 0 }],
            value_words: vec![[[0; 2]; COLUMNS]; if is_f32 { 0 } else { padded_columns / COLUMNS * ROW_TILE / 2 }],
            shares: vec![[0; 2]; if is_f32 { 0 } else { padded_queries * ROW_TILE / 2 }],
            value_sums: vec![0; if is_f32 { 0 } else { padded_queries * padded_columns }],
        };
        let mut totals = AlignedVec::zeros(padded_queries * padded_columns);
        // Of each query: the largest score so far, and the sum of the exponentials.
        let mut softmax = vec![(f32::NEG_INFINITY, 0.0); num_queries];
        for first_row in (0..num_rows).step_by(ROW_TILE) {
            let rows = first_row..num_rows.min(first_row + ROW_TILE);
            match keys {
                KvRows::F32(keys) => scores_of_f32(queries, &keys[rows.start * head_dim..rows.end * head_dim], head_dim, &mut tile),
                KvRows::I8 { codes, scales } => {
                    let codes = &codes[rows.start * head_dim..rows.end * head_dim];
                    scores_of_codes(same_isa, &word_queries, codes, head_dim, |row| scales[first_row + row], &mut tile);
                }
                KvRows::I8Static { codes, scale } => {
                    dequantize(&codes[rows.start * head_dim..rows.end * head_dim], scale, &mut floats);
                    scores_of_f32(queries, &floats, head_dim, &mut tile);
                }
            }
            let queries = tile.scores.chunks_exact_mut(ROW_TILE).zip(totals.chunks_exact_mut(padded_columns)).zip(&mut softmax);
            for (query, ((scores, totals), (largest, sum))) in queries.enumerate() {
                let position = first_position + query / group;
                let (scores, hidden) = scores.split_at_mut((position + 1).saturating_sub(first_row).min(rows.len()));
                hidden.fill(0.0);
                if let Some(ids) = segment_ids {
                    for (score, id) in scores.iter_mut().zip(&ids[first_row..]) {
                        *score = if *id == ids[position] { *score } else { f32::NEG_INFINITY };
                    }
                }
                if lanes::largest(scores).max(*largest) == f32::NEG_INFINITY {
                    // Not one that the query sees.
                    scores.fill(0.0);
                    continue;
                }
                let (new_largest, tile_sum) = exponentials(scores, *largest);
                if new_largest > *largest && first_row > 0 {
                    let factor = exp(*largest - new_largest);
                    *sum *= factor;
                    totals.iter_mut().for_each(|total| *total *= factor);
                }
                *largest = new_largest;
                *sum += tile_sum;
            }
            let range = rows.start * head_dim..rows.end * head_dim;
            match values {
                KvRows::F32(values) => add_values_of_f32(&values[range], head_dim, &mut tile, &mut totals),
                KvRows::I8 { codes, scales } => {
                    let scale_of = |row| scales[first_row + row];
                    add_values_of_codes(same_isa, &codes[range], head_dim, scale_of, &mut tile, &mut totals);
                }
                KvRows::I8Static { codes, scale } => {
                    dequantize(&codes[range], scale, &mut floats);
                    add_values_of_f32(&floats, head_dim, &mut tile, &mut totals);
                }
            }
        }
        for ((out, totals), (_, sum)) in out.chunks_exact_mut(head_dim).zip(totals.chunks_exact(padded_columns)).zip(&softmax) {
            let inverse = 1.0 / sum;
            out.iter_mut().zip(totals).for_each(|(out, total)| *out = total * inverse);
        }
    }
}

/// Codes times their scale.
#[inline(always)]
fn dequantize(codes: &[i8], scale: f32, floats: &mut Vec<f32>) {
    floats.clear();
    floats.extend(codes.iter().map(|&code| f32::from(code) * scale));
}

/// Scores of `queries`, `[queries, head_dim]`, with the keys of a tile, `[rows, head_dim]`.
#[inline(always)]
fn scores_of_f32(queries: &[f32], keys: &[f32], head_dim: usize, tile: &mut Tile) {
    let scale = 1.0 / (head_dim as f32).sqrt();
    for (query, scores) in queries.chunks_exact(head_dim).zip(tile.scores.chunks_exact_mut(ROW_TILE)) {
        for (score, key) in scores.iter_mut().zip(keys.chunks_exact(head_dim)) {
            *score = lanes::dot(query, key) * scale;
        }
    }
}

/// Scores with the keys of a tile, codes `[rows, head_dim]` and their scales.
#[inline(always)]
fn scores_of_codes(
    isa: Isa,
    queries: &WordQueries,
    codes: &[i8],
    head_dim: usize,
    scale_of: impl Fn(usize) -> f32,
    tile: &mut Tile,
) {
    for (panel, codes) in codes.chunks(PANEL_ROWS * head_dim).enumerate() {
        for (words, codes) in tile.keys.chunks_exact_mut(queries.width).zip(codes.chunks_exact(head_dim)) {
            words.iter_mut().zip(codes).for_each(|(word, &code)| *word = i16::from(code));
        }
        tile.products.fill([0; PANEL_ROWS]);
        add_products_of_words(isa, &tile.keys, &queries.codes, queries.width, &mut tile.products);
        let first = panel * PANEL_ROWS;
        let mut scales = [0.0; PANEL_ROWS];
        scales
            .iter_mut()
            .take(codes.len() / head_dim)
            .enumerate()
            .for_each(|(row, scale)| *scale = scale_of(first + row));
        let results = tile.products.iter().zip(&queries.scales).zip(tile.scores.chunks_exact_mut(ROW_TILE));
        for ((products, query_scale), scores) in results {
            for ((score, product), scale) in scores[first..first + PANEL_ROWS].iter_mut().zip(products).zip(&scales) {
                *score = *product as f32 * (query_scale * scale);
            }
        }
    }
}

/// Adds the values of a tile, `[rows, head_dim]`, times the scores, which are exponentials by now, to `totals`.
#[inline(always)]
fn add_values_of_f32(values: &[f32], head_dim: usize, tile: &mut Tile, totals: &mut [f32]) {
    let num_rows = values.len() / head_dim;
    for (row, value) in values.chunks_exact(head_dim).enumerate() {
        for (strip, value) in tile.values.chunks_exact_mut(ROW_TILE).zip(value.chunks(COLUMNS)) {
            strip[row][..value.len()].copy_from_slice(value);
        }
    }
    let strips = tile.values.chunks_exact(ROW_TILE).map(|strip| &strip[..num_rows]);
    add_product(&tile.scores, ROW_TILE, strips, totals, head_dim.next_multiple_of(COLUMNS));
}

/// The same for codes `[rows, head_dim]` and their scales. The shares `exponential * scale` of a query become 16 bits, with an error of `2^-16` of
/// the largest of the tile, so that they meet the codes as integers.
#[inline(always)]
fn add_values_of_codes(
    isa: Isa,
    codes: &[i8],
    head_dim: usize,
    scale_of: impl Fn(usize) -> f32,
    tile: &mut Tile,
    totals: &mut [f32],
) {
    let num_rows = codes.len() / head_dim;
    let depth = num_rows.div_ceil(2);
    for (strip, pairs) in tile.value_words.chunks_exact_mut(depth).take(head_dim.div_ceil(COLUMNS)).enumerate() {
        for (pair, out) in pairs.iter_mut().enumerate() {
            let row = sixteen(codes, head_dim, 2 * pair, strip * COLUMNS);
            // A last row without another: the share of the other is 0.
            let next = sixteen(codes, head_dim, (2 * pair + 1).min(num_rows - 1), strip * COLUMNS);
            for column in 0..COLUMNS {
                out[column] = [i16::from(row[column]), i16::from(next[column])];
            }
        }
    }
    let mut scales = [0.0; ROW_TILE];
    scales.iter_mut().take(num_rows).enumerate().for_each(|(row, scale)| *scale = scale_of(row));
    let mut steps = vec![0.0; tile.products.len()];
    let queries = tile.scores.chunks_exact_mut(ROW_TILE).zip(tile.shares.chunks_exact_mut(depth)).zip(&mut steps);
    for ((scores, shares), step) in queries {
        let scores = &mut scores[..2 * depth];
        scores.iter_mut().zip(&scales).for_each(|(score, scale)| *score *= scale);
        *step = lanes::largest_magnitude(scores) / f32::from(i16::MAX);
        let divisor = if *step == 0.0 { f32::INFINITY } else { *step };
        for (share, score) in shares.as_flattened_mut().iter_mut().zip(scores) {
            *share = round_to_i32(*score / divisor, f32::from(i16::MAX)) as i16;
        }
    }
    let padded_columns = head_dim.next_multiple_of(COLUMNS);
    let shares = &tile.shares[..tile.value_sums.len() / padded_columns * depth];
    let values = &tile.value_words[..padded_columns / COLUMNS * depth];
    product_of_words(isa, shares, values, depth, &mut tile.value_sums);
    let queries = totals.chunks_exact_mut(padded_columns).zip(tile.value_sums.chunks_exact(padded_columns));
    for ((totals, sums), step) in queries.zip(&steps) {
        totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += *sum as f32 * step);
    }
}

/// The columns from `first` on of a row of `codes`, `[rows, head_dim]`; 0 beyond the last.
#[inline(always)]
fn sixteen(codes: &[i8], head_dim: usize, row: usize, first: usize) -> [i8; COLUMNS] {
    let columns = &codes[row * head_dim + first..(row + 1) * head_dim];
    match columns.first_chunk() {
        Some(columns) => *columns,
        None => {
            let mut padded = [0; COLUMNS];
            padded[..columns.len()].copy_from_slice(columns);
            padded
        }
    }
}
