//! Llama, Qwen2 and Qwen3: their names, which are those of `transformers`, in the words of `tamm`, which this engine uses.
//!
//! | transformers | here |
//! | --- | --- |
//! | `embed_tokens` | `embedding` |
//! | `layers.{i}.input_layernorm` | `layers.layer_{i}.attention.norm` |
//! | `layers.{i}.self_attn.{q,k,v}_proj` | `layers.layer_{i}.attention.qkv_transform.linear_{0,1,2}` |
//! | `layers.{i}.self_attn.{q,k}_norm` | `layers.layer_{i}.attention.qk_norm.{query,key}_norm` |
//! | `layers.{i}.self_attn.o_proj` | `layers.layer_{i}.attention.output_transform` |
//! | `layers.{i}.post_attention_layernorm` | `layers.layer_{i}.feed_forward.norm` |
//! | `layers.{i}.mlp.{gate,up}_proj` | `layers.layer_{i}.feed_forward.hidden_transform.linear_{0,1}` |
//! | `layers.{i}.mlp.down_proj` | `layers.layer_{i}.feed_forward.output_transform` |
//! | `norm` | `output_norm` |
//! | `lm_head` | `output_transform` |

use ocelli_language::{QkNorm, TextConfig};

use super::tensors::TensorMap;
use crate::error::Result;

/// Takes the tensors of a decoder under `prefix`, and of the head. `config` says whether the head is the embedding; a checkpoint without
/// a head of its own that says otherwise lacks a tensor.
pub(super) fn take(map: &mut TensorMap<'_>, config: &TextConfig, prefix: &str, lm_head: &str) -> Result<()> {
    let (hidden_size, q_dim, kv_dim) = (config.hidden_size, config.q_dim(), config.kv_dim());
    let head = [config.vocab_size, hidden_size];
    map.take_linear(&format!("{prefix}embed_tokens"), "embedding", head, false)?;
    for layer in 0..config.num_hidden_layers {
        let (source, name) = (format!("{prefix}layers.{layer}"), format!("layers.layer_{layer}"));
        let mut norm = |source_name: &str, norm_name: &str, width| {
            map.take(&format!("{source}.{source_name}.weight"), &format!("{name}.{norm_name}.weight"), &[width])
        };
        norm("input_layernorm", "attention.norm", hidden_size)?;
        norm("post_attention_layernorm", "feed_forward.norm", hidden_size)?;
        if config.qk_norm != QkNorm::None {
            norm("self_attn.q_norm", "attention.qk_norm.query_norm", config.head_dim)?;
            norm("self_attn.k_norm", "attention.qk_norm.key_norm", config.head_dim)?;
        }
        let mut linear = |source_name: &str, linear_name: &str, shape, bias| {
            map.take_linear(&format!("{source}.{source_name}"), &format!("{name}.{linear_name}"), shape, bias)
        };
        for (part, (source_name, width)) in [("q", q_dim), ("k", kv_dim), ("v", kv_dim)].into_iter().enumerate() {
            let linear_name = format!("attention.qkv_transform.linear_{part}");
            linear(&format!("self_attn.{source_name}_proj"), &linear_name, [width, hidden_size], config.qkv_bias)?;
        }
        linear("self_attn.o_proj", "attention.output_transform", [hidden_size, q_dim], config.o_bias)?;
        let inner = config.intermediate_size;
        let mlp_bias = config.mlp_bias;
        linear("mlp.gate_proj", "feed_forward.hidden_transform.linear_0", [inner, hidden_size], mlp_bias)?;
        linear("mlp.up_proj", "feed_forward.hidden_transform.linear_1", [inner, hidden_size], mlp_bias)?;
        linear("mlp.down_proj", "feed_forward.output_transform", [hidden_size, inner], mlp_bias)?;
    }
    map.take(&format!("{prefix}norm.weight"), "output_norm.weight", &[hidden_size])?;
    if !config.tie_word_embeddings {
        map.take_linear(lm_head, "output_transform", head, false)?;
    }
    Ok(())
}
