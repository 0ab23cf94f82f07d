//! The families of decoders: what their files leave out.

use super::{QkNorm, RopePairing, TextModelType};

/// What a file leaves out that names its family.
pub(super) struct Family {
    pub(super) sizes: DefaultSizes,
    /// None: `hidden_size / num_attention_heads`.
    pub(super) head_dim: Option<usize>,
    pub(super) rope_theta: f64,
    pub(super) rope_pairing: RopePairing,
    pub(super) qk_norm: QkNorm,
    pub(super) qkv_bias: bool,
    pub(super) rms_norm_eps: f64,
    pub(super) max_position_embeddings: usize,
    pub(super) tie_word_embeddings: bool,
}

pub(super) struct DefaultSizes {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_kv_reuse_layers: usize,
    pub(super) num_attention_heads: usize,
    /// None: as many as query heads.
    pub(super) num_key_value_heads: Option<usize>,
}

impl Family {
    /// The defaults of `AFMTextV7Config` (tamm 0.2.0), `LlamaConfig`, `Qwen2Config` and `Qwen3Config` (transformers 5.23).
    pub(super) fn of(model_type: TextModelType) -> Self {
        let llama = Self {
            sizes: DefaultSizes {
                vocab_size: 32_000,
                hidden_size: 4096,
                intermediate_size: 11_008,
                num_hidden_layers: 32,
                num_kv_reuse_layers: 0,
                num_attention_heads: 32,
                num_key_value_heads: None,
            },
            head_dim: None,
            rope_theta: 10_000.0,
            rope_pairing: RopePairing::Halves,
            qk_norm: QkNorm::None,
            qkv_bias: false,
            rms_norm_eps: 1e-6,
            max_position_embeddings: 2048,
            tie_word_embeddings: false,
        };
        let qwen_sizes = DefaultSizes {
            vocab_size: 151_936,
            intermediate_size: 22_016,
            num_key_value_heads: Some(32),
            ..llama.sizes
        };
        match model_type {
            TextModelType::AfmTextV7 => Self {
                sizes: DefaultSizes {
                    vocab_size: 153_600,
                    hidden_size: 2048,
                    intermediate_size: 6656,
                    num_hidden_layers: 56,
                    num_kv_reuse_layers: 21,
                    num_attention_heads: 16,
                    num_key_value_heads: Some(2),
                },
                head_dim: None,
                rope_theta: 500_000.0,
                rope_pairing: RopePairing::Interleaved,
                qk_norm: QkNorm::AfterRotation,
                qkv_bias: false,
                rms_norm_eps: 1e-5,
                max_position_embeddings: 4096,
                tie_word_embeddings: true,
            },
            TextModelType::Llama => llama,
            TextModelType::Qwen2 => {
                Self { sizes: qwen_sizes, qkv_bias: true, max_position_embeddings: 32_768, ..llama }
            }
            TextModelType::Qwen3 => Self {
                sizes: qwen_sizes,
                head_dim: Some(128),
                qk_norm: QkNorm::BeforeRotation,
                max_position_embeddings: 32_768,
                ..llama
            },
        }
    }
}
