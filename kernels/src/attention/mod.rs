//! Attention `softmax(q k^T / sqrt(head_dim)) v`: [`attention_f32`] of encoders, [`attention_cached`] of the decoder.
//!
//! Scores exist for a block of queries at a time, never for a whole sequence.

mod cached;
mod encoder;
#[cfg(test)]
mod tests;

pub use cached::{KvRows, attention_cached};
pub use encoder::attention_f32;
