//! Attention `softmax(q k^T / sqrt(head_dim)) v`: [`attention_f32`] of encoders, [`attention_cached`] of the decoder.
//!
//! Both stream: there is never a matrix of all scores.

mod cached;
mod encoder;
mod product;
#[cfg(test)]
mod tests;
mod words;

pub use cached::{KvRows, attention_cached};
pub use encoder::attention_f32;
