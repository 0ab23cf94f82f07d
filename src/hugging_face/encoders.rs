//! CLIP, SigLIP and DINOv2: configurations and names of their vision encoders.
//!
//! | transformers (CLIP, SigLIP) | transformers (DINOv2) | here |
//! | --- | --- | --- |
//! | `embeddings.patch_embedding` | `embeddings.patch_embeddings.projection` | `patch_embed.proj` |
//! | `embeddings.position_embedding.weight` | `embeddings.position_embeddings` | `position_embedding`, on a grid; the class token's row is added to it |
//! | `embeddings.class_embedding` | `embeddings.cls_token` | `class_token` |
//! | | `embeddings.register_tokens` | `register_tokens` |
//! | `pre_layrnorm` (CLIP) | | `pre_layernorm` |
//! | `encoder.layers.{i}.layer_norm{1,2}` | `encoder.layer.{i}.norm{1,2}` | `layers.{i}.layer_norm{1,2}` |
//! | `encoder.layers.{i}.self_attn.{q,k,v,out}_proj` | `encoder.layer.{i}.attention.attention.{query,key,value}`, `.attention.output.dense` | `layers.{i}.self_attn.{q,k,v,out}_proj` |
//! | `encoder.layers.{i}.mlp.fc{1,2}` | `encoder.layer.{i}.mlp.fc{1,2}`, or `weights_in` and `weights_out` | `layers.{i}.mlp.fc{1,2}` |
//! | | `encoder.layer.{i}.layer_scale{1,2}.lambda1` | `layers.{i}.layer_scale{1,2}` |
//! | `post_layernorm` | `layernorm` | `post_layernorm` |
//! | `head` (SigLIP) | | `pooler` |
//! | `visual_projection` (CLIP) | | `projection` |

use ocelli_nn::Activation;
use serde_json::{Value, json};

use super::fields::Fields;
use super::tensors::TensorMap;
use crate::error::Result;

/// Sizes of an encoder, with the defaults of its class.
struct Sizes {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
}

impl Sizes {
    /// The sizes in `fields`, where they are not `defaults`.
    fn read(fields: &Fields<'_>, defaults: Sizes) -> Result<Sizes> {
        let integer = |name, default| Ok::<_, crate::Error>(fields.integer(name)?.unwrap_or(default));
        if let Some(channels) = fields.integer("num_channels")?
            && channels != 3
        {
            return Err(fields.unsupported("num_channels", channels, "3 (red, green, blue)"));
        }
        let sizes = Sizes {
            hidden_size: integer("hidden_size", defaults.hidden_size)?,
            intermediate_size: integer("intermediate_size", defaults.intermediate_size)?,
            num_hidden_layers: integer("num_hidden_layers", defaults.num_hidden_layers)?,
            num_attention_heads: integer("num_attention_heads", defaults.num_attention_heads)?,
            image_size: fields.side("image_size")?.unwrap_or(defaults.image_size),
            patch_size: fields.side("patch_size")?.unwrap_or(defaults.patch_size),
            hidden_act: fields.string("hidden_act")?.map_or(defaults.hidden_act, str::to_owned),
            layer_norm_eps: fields.number("layer_norm_eps")?.unwrap_or(defaults.layer_norm_eps),
        };
        if sizes.patch_size == 0 || sizes.image_size < sizes.patch_size {
            let expected =
                format!("a side of at least one pixel, and at most that of the picture ({})", sizes.image_size);
            return Err(fields.error("patch_size", sizes.patch_size, expected));
        }
        check_activation(fields, "hidden_act", &sizes.hidden_act)?;
        Ok(sizes)
    }

    /// Patches along a side.
    fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    fn config(&self) -> Value {
        json!({
            "model_type": "vit",
            "num_channels": 3,
            "patch_size": self.patch_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "hidden_act": self.hidden_act,
            "layer_norm_eps": self.layer_norm_eps,
            "image_size": self.image_size,
        })
    }

    fn take_patch_embed(&self, map: &mut TensorMap<'_>, source: &str, bias: bool) -> Result<()> {
        let shape = [self.hidden_size, 3, self.patch_size, self.patch_size];
        map.take(&format!("{source}.weight"), "vision.patch_embed.proj.weight", &shape)?;
        if bias {
            map.take(&format!("{source}.bias"), "vision.patch_embed.proj.bias", &shape[..1])?;
        }
        Ok(())
    }

    /// Class token and positions, of which the first is the class token's: `[1 + grid * grid, hidden_size]`.
    fn derive_class_token(&self, map: &mut TensorMap<'_>, mut class_token: Vec<f32>, positions: &[f32]) -> Result<()> {
        let (own, grid) = positions.split_at(self.hidden_size.min(positions.len()));
        class_token.iter_mut().zip(own).for_each(|(value, position)| *value += position);
        map.derive("vision.class_token", &[self.hidden_size], &class_token)?;
        map.derive("vision.position_embedding", &[self.grid(), self.grid(), self.hidden_size], grid)
    }
}

/// Refuses activations that are not computed.
pub(super) fn check_activation(fields: &Fields<'_>, name: &str, activation: &str) -> Result<()> {
    match serde_json::from_value::<Activation>(json!(activation)) {
        Ok(_) => Ok(()),
        Err(_) => Err(fields.unsupported(name, activation, "gelu, gelu_pytorch_tanh, quick_gelu, silu, relu")),
    }
}

/// What of an encoder is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The features after this many layers, as they are.
    FeaturesOfLayer(usize),
    /// The features after all layers and the norm.
    NormedFeatures,
    /// Those, and a vector for the whole picture.
    Pooled {
        /// Width of CLIP's projection of that vector.
        projection_dim: Option<usize>,
    },
}

/// Sets fields of a JSON object.
fn set(config: &mut Value, fields: Value) {
    if let (Value::Object(config), Value::Object(fields)) = (config, fields) {
        config.extend(fields);
    }
}

/// A CLIP encoder under `prefix`: `vision_config` here.
pub(super) fn clip(map: &mut TensorMap<'_>, fields: &Fields<'_>, prefix: &str, wanted: Wanted) -> Result<Value> {
    let defaults = Sizes {
        hidden_size: 768,
        intermediate_size: 3072,
        num_hidden_layers: 12,
        num_attention_heads: 12,
        image_size: 224,
        patch_size: 32,
        hidden_act: "quick_gelu".to_owned(),
        layer_norm_eps: 1e-5,
    };
    let sizes = Sizes::read(fields, defaults)?;
    let (hidden_size, num_positions) = (sizes.hidden_size, sizes.grid() * sizes.grid() + 1);
    sizes.take_patch_embed(map, &format!("{prefix}embeddings.patch_embedding"), false)?;
    let class_token = map.read(&format!("{prefix}embeddings.class_embedding"), &[hidden_size])?;
    let positions = format!("{prefix}embeddings.position_embedding.weight");
    let positions = map.read(&positions, &[num_positions, hidden_size])?;
    sizes.derive_class_token(map, class_token, &positions)?;
    map.take_norm(&format!("{prefix}pre_layrnorm"), "vision.pre_layernorm", hidden_size)?;
    let mut config = sizes.config();
    set(&mut config, json!({"class_token": true, "pre_layernorm": true}));
    take_layers_and_norm(map, &sizes, prefix, wanted, &mut config)?;
    // CLIP norms its class token alone.
    if matches!(wanted, Wanted::Pooled { .. }) {
        config["post_layernorm"] = json!("pooled");
    }
    Ok(config)
}

/// A SigLIP encoder under `prefix`: `vision_config` here. That of SmolVLM and Idefics3 has other defaults and picks positions for smaller pictures.
pub(super) fn siglip(
    map: &mut TensorMap<'_>,
    fields: &Fields<'_>,
    prefix: &str,
    wanted: Wanted,
    is_idefics3: bool,
) -> Result<Value> {
    let defaults = Sizes {
        hidden_size: if is_idefics3 { 1152 } else { 768 },
        intermediate_size: 3072,
        num_hidden_layers: 12,
        num_attention_heads: if is_idefics3 { 16 } else { 12 },
        image_size: 224,
        patch_size: if is_idefics3 { 32 } else { 16 },
        hidden_act: "gelu_pytorch_tanh".to_owned(),
        layer_norm_eps: 1e-6,
    };
    let sizes = Sizes::read(fields, defaults)?;
    let (hidden_size, grid) = (sizes.hidden_size, sizes.grid());
    sizes.take_patch_embed(map, &format!("{prefix}embeddings.patch_embedding"), true)?;
    let positions = format!("{prefix}embeddings.position_embedding.weight");
    let positions = map.read(&positions, &[grid * grid, hidden_size])?;
    map.derive("vision.position_embedding", &[grid, grid, hidden_size], &positions)?;
    let mut config = sizes.config();
    if is_idefics3 {
        config["position_resampling"] = json!("nearest");
    }
    take_layers_and_norm(map, &sizes, prefix, wanted, &mut config)?;
    if matches!(wanted, Wanted::Pooled { .. }) {
        if fields.flag("vision_use_head")? == Some(false) {
            config["pooling"] = json!("mean");
        } else {
            take_attention_pooler(map, &sizes, &format!("{prefix}head"))?;
            config["pooling"] = json!("attention");
        }
    }
    Ok(config)
}

fn take_layers_and_norm(
    map: &mut TensorMap<'_>,
    sizes: &Sizes,
    prefix: &str,
    wanted: Wanted,
    config: &mut Value,
) -> Result<()> {
    let Sizes { hidden_size, intermediate_size, num_hidden_layers, .. } = *sizes;
    let num_layers = if let Wanted::FeaturesOfLayer(layer) = wanted { layer } else { num_hidden_layers };
    for layer in 0..num_layers {
        let (source, name) = (format!("{prefix}encoder.layers.{layer}"), format!("vision.layers.{layer}"));
        for norm in ["layer_norm1", "layer_norm2"] {
            map.take_norm(&format!("{source}.{norm}"), &format!("{name}.{norm}"), hidden_size)?;
        }
        for linear in ["q_proj", "k_proj", "v_proj", "out_proj"].map(|linear| format!("self_attn.{linear}")) {
            let shape = [hidden_size, hidden_size];
            map.take_linear(&format!("{source}.{linear}"), &format!("{name}.{linear}"), shape, true)?;
        }
        let (fc1, fc2) = ([intermediate_size, hidden_size], [hidden_size, intermediate_size]);
        map.take_linear(&format!("{source}.mlp.fc1"), &format!("{name}.mlp.fc1"), fc1, true)?;
        map.take_linear(&format!("{source}.mlp.fc2"), &format!("{name}.mlp.fc2"), fc2, true)?;
    }
    config["num_hidden_layers"] = json!(num_layers);
    match wanted {
        Wanted::FeaturesOfLayer(_) => config["post_layernorm"] = json!("none"),
        _ => map.take_norm(&format!("{prefix}post_layernorm"), "vision.post_layernorm", hidden_size)?,
    }
    if let Wanted::Pooled { projection_dim: Some(projection_dim) } = wanted {
        map.take_linear("visual_projection", "vision.projection", [projection_dim, hidden_size], false)?;
        config["projection_dim"] = json!(projection_dim);
    }
    Ok(())
}

/// SigLIP's pooling by attention: a learned query, whose projections transformers keeps in one matrix.
fn take_attention_pooler(map: &mut TensorMap<'_>, sizes: &Sizes, source: &str) -> Result<()> {
    let (hidden_size, inner) = (sizes.hidden_size, sizes.intermediate_size);
    let probe = map.read(&format!("{source}.probe"), &[1, 1, hidden_size])?;
    map.derive("vision.pooler.probe", &[hidden_size], &probe)?;
    let weight = map.read(&format!("{source}.attention.in_proj_weight"), &[3 * hidden_size, hidden_size])?;
    let bias = map.read(&format!("{source}.attention.in_proj_bias"), &[3 * hidden_size])?;
    let parts = weight.chunks(hidden_size * hidden_size).zip(bias.chunks(hidden_size));
    for (name, (weight, bias)) in ["q_proj", "k_proj", "v_proj"].into_iter().zip(parts) {
        let name = format!("vision.pooler.attention.{name}");
        map.derive(&format!("{name}.weight"), &[hidden_size, hidden_size], weight)?;
        map.derive(&format!("{name}.bias"), &[hidden_size], bias)?;
    }
    let square = [hidden_size, hidden_size];
    map.take_linear(&format!("{source}.attention.out_proj"), "vision.pooler.attention.out_proj", square, true)?;
    map.take_norm(&format!("{source}.layernorm"), "vision.pooler.layernorm", hidden_size)?;
    map.take_linear(&format!("{source}.mlp.fc1"), "vision.pooler.mlp.fc1", [inner, hidden_size], true)?;
    map.take_linear(&format!("{source}.mlp.fc2"), "vision.pooler.mlp.fc2", [hidden_size, inner], true)
}

/// A DINOv2 encoder under `prefix`, with registers or without: `vision_config` here.
pub(super) fn dinov2(map: &mut TensorMap<'_>, fields: &Fields<'_>, prefix: &str, has_registers: bool) -> Result<Value> {
    let defaults = Sizes {
        hidden_size: 768,
        intermediate_size: 0,
        num_hidden_layers: 12,
        num_attention_heads: 12,
        image_size: 224,
        patch_size: if has_registers { 16 } else { 14 },
        hidden_act: "gelu".to_owned(),
        layer_norm_eps: 1e-6,
    };
    let mut sizes = Sizes::read(fields, defaults)?;
    let is_gated = fields.flag("use_swiglu_ffn")?.unwrap_or(false);
    let qkv_bias = fields.flag("qkv_bias")?.unwrap_or(true);
    let mlp_ratio = fields.number("mlp_ratio")?.unwrap_or(4.0);
    if !(mlp_ratio > 0.0 && mlp_ratio <= 64.0) {
        return Err(fields.error("mlp_ratio", mlp_ratio, "a number above 0, up to 64"));
    }
    let inner = (sizes.hidden_size as f64 * mlp_ratio) as usize;
    // `Dinov2SwiGLUFFN`: two thirds, up to a multiple of 8.
    sizes.intermediate_size = if is_gated { (inner * 2 / 3).next_multiple_of(8) } else { inner };
    if is_gated {
        sizes.hidden_act = "silu".to_owned();
    }
    let (hidden_size, inner) = (sizes.hidden_size, sizes.intermediate_size);
    let num_registers = if has_registers { fields.integer("num_register_tokens")?.unwrap_or(4) } else { 0 };
    let num_positions = sizes.grid() * sizes.grid() + 1;

    sizes.take_patch_embed(map, &format!("{prefix}embeddings.patch_embeddings.projection"), true)?;
    let class_token = map.read(&format!("{prefix}embeddings.cls_token"), &[1, 1, hidden_size])?;
    let positions = map.read(&format!("{prefix}embeddings.position_embeddings"), &[1, num_positions, hidden_size])?;
    sizes.derive_class_token(map, class_token, &positions)?;
    if num_registers > 0 {
        let source = format!("{prefix}embeddings.register_tokens");
        let registers = map.read(&source, &[1, num_registers, hidden_size])?;
        map.derive("vision.register_tokens", &[num_registers, hidden_size], &registers)?;
    }
    for layer in 0..sizes.num_hidden_layers {
        let (source, name) = (format!("{prefix}encoder.layer.{layer}"), format!("vision.layers.{layer}"));
        for number in [1, 2] {
            map.take_norm(&format!("{source}.norm{number}"), &format!("{name}.layer_norm{number}"), hidden_size)?;
            let scale = format!("{source}.layer_scale{number}.lambda1");
            map.take(&scale, &format!("{name}.layer_scale{number}"), &[hidden_size])?;
        }
        let square = [hidden_size, hidden_size];
        for (source_name, linear) in [("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")] {
            let (source, name) =
                (format!("{source}.attention.attention.{source_name}"), format!("{name}.self_attn.{linear}"));
            map.take_linear(&source, &name, square, qkv_bias)?;
        }
        map.take_linear(
            &format!("{source}.attention.output.dense"),
            &format!("{name}.self_attn.out_proj"),
            square,
            true,
        )?;
        let (fc1, fc2, width) = if is_gated { ("weights_in", "weights_out", 2 * inner) } else { ("fc1", "fc2", inner) };
        map.take_linear(&format!("{source}.mlp.{fc1}"), &format!("{name}.mlp.fc1"), [width, hidden_size], true)?;
        map.take_linear(&format!("{source}.mlp.{fc2}"), &format!("{name}.mlp.fc2"), [hidden_size, inner], true)?;
    }
    map.take_norm(&format!("{prefix}layernorm"), "vision.post_layernorm", hidden_size)?;
    let mut config = sizes.config();
    let resampling = if has_registers { "bicubic_antialiased" } else { "bicubic" };
    set(
        &mut config,
        json!({
            "class_token": true, "num_register_tokens": num_registers, "layer_scale": true, "qkv_bias": qkv_bias,
            "gated_mlp": is_gated, "position_resampling": resampling,
        }),
    );
    Ok(config)
}
