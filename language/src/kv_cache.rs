//! Keys and values of the tokens so far, for the layers that make them.
//!
//! Layers that reuse keys and values own none, so the cache has `num_hidden_layers - num_kv_reuse_layers` layers. Keys are stored as
//! attention receives them: after rotation and norm. Each head of each layer has its rows in one run of memory, which grows as tokens
//! come: a large capacity costs nothing until it is used.
//!
//! 8-bit codes, with one scale for each token and head:
//!
//! ```text
//! scale = max|x| / 127        code = round half to even(x / scale), in -127..=127
//! ```
//!
//! or with the static range `[lo, hi]` that a checkpoint has for each layer:
//!
//! ```text
//! scale = max(lo * (1 / -128), hi * (1 / 127))        code = clamp(round half to even(x / scale), -128, 127)
//! ```
//!
//! Source of the static form: tamm 0.2.0, `ao/layers/fake_quantize.py`.

use ocelli_kernels::KvRows;
use serde::{Deserialize, Serialize};

use crate::config::TextConfig;
use crate::error::{Error, Result};

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvKind {
    /// As they were computed.
    F32,
    /// In 8 bits, with a scale for each token and head. The default.
    #[default]
    Int8,
    /// In 8 bits, with the checkpoint's own scale for the keys and for the values of each layer.
    Int8Static,
}

impl KvKind {
    /// Bytes that one token takes in all layers.
    pub fn bytes_per_token(self, config: &TextConfig) -> usize {
        let head_bytes = match self {
            Self::F32 => size_of::<f32>() * config.head_dim,
            Self::Int8 => config.head_dim + size_of::<f32>(),
            Self::Int8Static => config.head_dim,
        };
        2 * config.num_kv_layers() * config.num_key_value_heads * head_bytes
    }
}

/// The scales of static 8-bit keys and values of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StaticScales {
    pub(crate) keys: f32,
    pub(crate) values: f32,
}

/// The scale of a static range; not positive and finite if the range is nonsense.
pub(crate) fn static_scale([lo, hi]: [f32; 2]) -> f32 {
    (lo * (1.0 / -128.0)).max(hi * (1.0 / 127.0))
}

/// Keys and values of a sequence. Made by [`Decoder::new_cache`](crate::Decoder::new_cache).
#[derive(Debug, Clone)]
pub struct KvCache {
    kind: KvKind,
    layers: Vec<LayerCache>,
    num_heads: usize,
    head_dim: usize,
    len: usize,
    capacity: usize,
}

/// Keys and values of each head of one layer.
#[derive(Debug, Clone)]
struct LayerCache {
    heads: Vec<(Rows, Rows)>,
}

/// Keys or values of one head.
#[derive(Debug, Clone)]
enum Rows {
    F32(Vec<f32>),
    Int8 { codes: Vec<i8>, scales: Vec<f32> },
    Int8Static { codes: Vec<i8>, scale: f32 },
}

impl KvCache {
    /// A cache of up to `capacity` tokens. `static_scales` are those of the layers, for [`KvKind::Int8Static`].
    pub(crate) fn new(config: &TextConfig, capacity: usize, kind: KvKind, static_scales: &[StaticScales]) -> Self {
        let rows = |scale: Option<f32>| match (kind, scale) {
            (KvKind::F32, _) => Rows::F32(Vec::new()),
            (KvKind::Int8Static, Some(scale)) => Rows::Int8Static { codes: Vec::new(), scale },
            (KvKind::Int8 | KvKind::Int8Static, _) => Rows::Int8 { codes: Vec::new(), scales: Vec::new() },
        };
        let layers = (0..config.num_kv_layers()).map(|layer| {
            let scales = static_scales.get(layer);
            let head = (rows(scales.map(|scales| scales.keys)), rows(scales.map(|scales| scales.values)));
            LayerCache { heads: vec![head; config.num_key_value_heads] }
        });
        Self {
            kind,
            layers: layers.collect(),
            num_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            len: 0,
            capacity,
        }
    }

    /// How keys and values are stored.
    pub fn kind(&self) -> KvKind {
        self.kind
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is in the cache.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens that it may hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Tokens that still fit.
    pub fn remaining(&self) -> usize {
        self.capacity - self.len
    }

    /// Forgets all tokens but the first `len`. More than there are changes nothing.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        for (keys, values) in self.layers.iter_mut().flat_map(|layer| &mut layer.heads) {
            keys.truncate(self.len, self.head_dim);
            values.truncate(self.len, self.head_dim);
        }
    }

    /// Bytes of the keys and values of the tokens so far.
    pub fn num_bytes(&self) -> usize {
        self.layers
            .iter()
            .flat_map(|layer| &layer.heads)
            .map(|(keys, values)| keys.num_bytes() + values.num_bytes())
            .sum()
    }

    /// Keys and values of one layer as floats, each `[tokens, num_key_value_heads * head_dim]`.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn keys_and_values(&self, layer: usize) -> (Vec<f32>, Vec<f32>) {
        let heads = &self.layers[layer].heads;
        let gather = |rows: fn(&(Rows, Rows)) -> &Rows| {
            let mut floats = Vec::with_capacity(self.len * self.num_heads * self.head_dim);
            for token in 0..self.len {
                heads.iter().for_each(|head| rows(head).push_token_to(token, self.head_dim, &mut floats));
            }
            floats
        };
        (gather(|head| &head.0), gather(|head| &head.1))
    }

    /// Checks that `num_tokens` more fit, and that the cache was made for a decoder of these sizes.
    pub(crate) fn check(&self, config: &TextConfig, num_tokens: usize) -> Result<()> {
        let found = [self.layers.len(), self.num_heads, self.head_dim];
        let expected = [config.num_kv_layers(), config.num_key_value_heads, config.head_dim];
        if found != expected {
            return Err(Error::Shape {
                what: "the cache",
                found: format!("{found:?}"),
                expected: format!(
                    "{expected:?} (layers with keys and values, heads, head_dim): it was made for another decoder"
                ),
            });
        }
        if num_tokens > self.remaining() {
            return Err(Error::ContextFull { requested: num_tokens, used: self.len, capacity: self.capacity });
        }
        Ok(())
    }

    /// Writes keys and values, each `[tokens, num_key_value_heads * head_dim]`, after the tokens of the cache. They count when
    /// [`KvCache::advance`] says so, after the last layer.
    pub(crate) fn write(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let width = self.num_heads * self.head_dim;
        for (head, (key_rows, value_rows)) in self.layers[layer].heads.iter_mut().enumerate() {
            for (rows, new) in [(key_rows, keys), (value_rows, values)] {
                rows.truncate(self.len, self.head_dim);
                for token in new.chunks_exact(width) {
                    rows.push(&token[head * self.head_dim..(head + 1) * self.head_dim]);
                }
            }
        }
    }

    /// Counts tokens that every layer has written.
    pub(crate) fn advance(&mut self, num_tokens: usize) {
        self.len += num_tokens;
    }

    /// Keys and values of each head of a layer, for the attention kernel.
    pub(crate) fn heads(&self, layer: usize) -> Vec<(KvRows<'_>, KvRows<'_>)> {
        self.layers[layer].heads.iter().map(|(keys, values)| (keys.view(), values.view())).collect()
    }
}

impl Rows {
    fn push(&mut self, row: &[f32]) {
        match self {
            Self::F32(rows) => rows.extend_from_slice(row),
            Self::Int8 { codes, scales } => {
                let scale = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs())) / 127.0;
                scales.push(scale);
                let code = |value: &f32| if scale > 0.0 { (value / scale).round_ties_even() as i8 } else { 0 };
                codes.extend(row.iter().map(code));
            }
            Self::Int8Static { codes, scale } => {
                // `as` clamps to -128..=127.
                codes.extend(row.iter().map(|value| (value / *scale).round_ties_even() as i8));
            }
        }
    }

    fn truncate(&mut self, len: usize, head_dim: usize) {
        match self {
            Self::F32(rows) => rows.truncate(len * head_dim),
            Self::Int8 { codes, scales } => {
                codes.truncate(len * head_dim);
                scales.truncate(len);
            }
            Self::Int8Static { codes, .. } => codes.truncate(len * head_dim),
        }
    }

    fn num_bytes(&self) -> usize {
        match self {
            Self::F32(rows) => size_of_val(rows.as_slice()),
            Self::Int8 { codes, scales } => codes.len() + size_of_val(scales.as_slice()),
            Self::Int8Static { codes, .. } => codes.len(),
        }
    }

    fn view(&self) -> KvRows<'_> {
        match self {
            Self::F32(rows) => KvRows::F32(rows),
            Self::Int8 { codes, scales } => KvRows::I8 { codes, scales },
            &Self::Int8Static { ref codes, scale } => KvRows::I8Static { codes, scale },
        }
    }

    fn push_token_to(&self, token: usize, head_dim: usize, floats: &mut Vec<f32>) {
        let range = token * head_dim..(token + 1) * head_dim;
        match self {
            Self::F32(rows) => floats.extend_from_slice(&rows[range]),
            Self::Int8 { codes, scales } => {
                floats.extend(codes[range].iter().map(|&code| f32::from(code) * scales[token]))
            }
            Self::Int8Static { codes, scale } => {
                floats.extend(codes[range].iter().map(|&code| f32::from(code) * scale))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config() -> TextConfig {
        let config = json!({"model_type": "afm_text_v7", "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8,
            "num_hidden_layers": 3, "num_kv_reuse_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2});
        TextConfig::from_json(&config).unwrap()
    }

    fn cache(kind: KvKind) -> KvCache {
        KvCache::new(&config(), 4, kind, &[StaticScales { keys: 0.5, values: 0.25 }; 2])
    }

    fn write(cache: &mut KvCache, keys: &[f32], values: &[f32]) {
        for layer in 0..2 {
            cache.write(layer, keys, values);
        }
        cache.advance(keys.len() / 4);
    }

    #[test]
    fn f32_rows_come_back_as_they_were_and_truncation_forgets_the_rest() {
        let mut cache = cache(KvKind::F32);
        let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        write(&mut cache, &rows, &rows.map(|x| -x));
        assert_eq!(cache.keys_and_values(1), (rows.to_vec(), rows.map(|x| -x).to_vec()));
        assert_eq!(cache.num_bytes(), 2 * KvKind::F32.bytes_per_token(&config()));
        cache.truncate(1);
        cache.truncate(3);
        assert_eq!((cache.len(), cache.remaining()), (1, 3));
        write(&mut cache, &[9.0; 4], &[9.0; 4]);
        assert_eq!(cache.keys_and_values(0).0, [1.0, 2.0, 3.0, 4.0, 9.0, 9.0, 9.0, 9.0]);
    }

    #[test]
    fn dynamic_codes_have_a_scale_for_each_token_and_head() {
        let mut cache = cache(KvKind::Int8);
        let keys = [127.0, 0.5, 0.0, 0.0, 1.27, -0.635, 2.54, 0.02];
        write(&mut cache, &keys, &[0.0; 8]);
        let (found, values) = cache.keys_and_values(0);
        // 0.5 is a half and goes to the even 0; -0.635 / 0.01 = -63.5 to the even -64; scales 1, 0, 0.01, 0.02.
        let expected = [127.0, 0.0, 0.0, 0.0, 1.27, -0.64, 2.54, 0.02];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        assert_eq!(values, [0.0; 8]);
        assert_eq!(cache.num_bytes(), 2 * KvKind::Int8.bytes_per_token(&config()));
    }

    #[test]
    fn static_codes_are_clamped_to_the_full_range() {
        let mut cache = cache(KvKind::Int8Static);
        write(&mut cache, &[0.25, 0.75, 1000.0, -1000.0], &[1.0, -1.0, 0.1, 0.13]);
        let (keys, values) = cache.keys_and_values(0);
        assert_eq!(keys, [0.0, 1.0, 63.5, -64.0]);
        assert_eq!(values, [1.0, -1.0, 0.0, 0.25]);
        assert_eq!(cache.num_bytes(), KvKind::Int8Static.bytes_per_token(&config()));
    }

    #[test]
    fn the_static_scale_covers_both_ends_of_the_range() {
        assert_eq!(static_scale([-128.0, 1.0]), 1.0);
        assert_eq!(static_scale([-1.0, 127.0]), 1.0);
    }

    #[test]
    fn a_full_cache_says_how_full() {
        let mut cache = cache(KvKind::Int8);
        write(&mut cache, &[1.0; 12], &[1.0; 12]);
        cache.check(&config(), 1).unwrap();
        let error = cache.check(&config(), 2).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::ContextFull);
        assert!(error.to_string().starts_with("2 tokens do not fit: 3 of 4 positions"), "{error}");
    }
}
