//! Model directories of real sizes with random weights: for measuring speed and memory, where what is said does not matter.

use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use ocelli_adapter::{AdapterConfig, ConvPoolConfig};
use ocelli_language::{SplitMix64, TextConfig};
use ocelli_nn::{Bits, PackedShape, QuantizationConfig, WeightsWriter};
use ocelli_vision::{EncoderConfig, PatchEmbedKind, VisionConfig};
use serde_json::Value;

use crate::bundled;
use crate::error::{Cause, Error, Result};
use crate::model_dir::{CONFIG, Files, WEIGHTS};

/// The models of the AFM 2025 report, in the sizes that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// The on-device model: ViTDet-L in 8 bits, an adapter in 8 bits, and the decoder of 56 layers in 2 bits with an embedding in 4 bits.
    Afm3b,
    /// The encoder of the server model, ViT-g of a billion weights in 8 bits, with the adapter and a decoder of 8 layers of the on-device model's
    /// sizes: for measuring the encoder.
    VitG,
}

impl Preset {
    /// The name, and that of its directory.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Afm3b => "afm-3b",
            Preset::VitG => "vit-g",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Preset::Afm3b => include_str!("../assets/presets/afm-3b.json"),
            Preset::VitG => include_str!("../assets/presets/vit-g.json"),
        }
    }
}

/// Writes a model directory of that size to `folder`, with weights drawn from `seed`: about 1.2 GB for each preset, as much of which is in memory
/// meanwhile. Tokenizer, template and preprocessing are those of the bundled model. An interrupted call leaves no directory.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) when a file cannot be written.
pub fn write_random_model(folder: impl AsRef<Path>, preset: Preset, seed: u64) -> Result<()> {
    let config = serde_json::from_str(preset.config()).expect("the preset is JSON");
    write(folder.as_ref(), &config, seed)
}

fn write(folder: &Path, config: &Value, seed: u64) -> Result<()> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::from(Cause::Write { path, source })
    };
    // Beside its place first, so that a directory of that name is always whole.
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial: PathBuf = folder.with_file_name(name);
    fs::create_dir_all(&partial).map_err(io(&partial))?;
    let written =
        write_files(&partial, config, seed, &io).and_then(|()| fs::rename(&partial, folder).map_err(io(folder)));
    if written.is_err() {
        // What is left of a failed write is of no use to anyone; that it cannot be removed changes nothing.
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

fn write_files<F>(folder: &Path, config: &Value, seed: u64, io: &impl Fn(&Path) -> F) -> Result<()>
where
    F: FnOnce(std::io::Error) -> Error,
{
    for &(name, contents) in bundled::FILES {
        let path = folder.join(name);
        let text = serde_json::to_string_pretty(config).expect("JSON can be written");
        let contents = if name == CONFIG { text.as_bytes() } else { contents };
        fs::write(&path, contents).map_err(io(&path))?;
    }
    let files = Files::Folder(folder);
    let mut weights = RandomWeights {
        writer: WeightsWriter::new(),
        quantization: files.section(CONFIG, config, Some("quantization_config"))?,
        random: SplitMix64 { state: seed },
    };
    let vision: VisionConfig = files.section(CONFIG, config, Some("vision_config"))?;
    let adapter: AdapterConfig = files.section(CONFIG, config, Some("adapter_config"))?;
    let text = TextConfig::from_config_json(config)?;
    weights.encoder(&vision)?;
    let AdapterConfig::ConvPool(adapter) = &adapter else {
        return Err(Error::options("the adapter of the preset", adapter.model_type(), "conv_pool"));
    };
    weights.adapter(adapter, vision.hidden_size(), text.hidden_size)?;
    weights.decoder(&text)?;
    Ok(weights.writer.write(folder.join(WEIGHTS))?)
}

struct RandomWeights {
    writer: WeightsWriter,
    quantization: QuantizationConfig,
    random: SplitMix64,
}

impl RandomWeights {
    fn encoder(&mut self, config: &VisionConfig) -> Result<()> {
        let encoder = config.encoder();
        let hidden_size = encoder.hidden_size;
        self.patch_embed(encoder)?;
        let [rows, columns] = config.position_embedding_size();
        self.float("vision.position_embedding", &[rows, columns, hidden_size], 0.02)?;
        let (registers, has_class_token, pre_layernorm) = match config {
            VisionConfig::RwVitDet(config) => (config.num_register_tokens, false, false),
            VisionConfig::Vit(config) => (config.num_register_tokens, config.class_token, config.pre_layernorm),
        };
        if registers > 0 {
            self.float("vision.register_tokens", &[registers, hidden_size], 0.02)?;
        }
        if has_class_token {
            self.float("vision.class_token", &[hidden_size], 0.02)?;
        }
        if pre_layernorm {
            self.layer_norm("vision.pre_layernorm", hidden_size)?;
        }
        for layer in 0..encoder.num_hidden_layers {
            self.encoder_layer(&format!("vision.layers.{layer}"), hidden_size, encoder.intermediate_size)?;
        }
        self.layer_norm("vision.post_layernorm", hidden_size)
    }

    fn patch_embed(&mut self, config: &EncoderConfig) -> Result<()> {
        match config.patch_embed {
            PatchEmbedKind::Linear => {
                let in_features = config.num_channels * config.patch_size * config.patch_size;
                self.linear("vision.patch_embed.proj", in_features, config.hidden_size, true)
            }
            PatchEmbedKind::ConvStem => {
                let mut channels_in = config.num_channels;
                for (index, stage) in config.conv_stem.iter().enumerate() {
                    let name = format!("vision.patch_embed.stages.{index}");
                    let (area, channels) = (stage.kernel_size * stage.kernel_size, stage.channels);
                    self.linear(&format!("{name}.proj"), area * channels_in, channels, true)?;
                    for block in 0..stage.num_blocks {
                        self.layer_norm(&format!("{name}.blocks.{block}.norm"), channels)?;
                        for conv in ["conv1", "conv2"] {
                            self.linear(&format!("{name}.blocks.{block}.{conv}"), 9 * channels, channels, true)?;
                        }
                    }
                    channels_in = channels;
                }
                Ok(())
            }
        }
    }

    fn encoder_layer(&mut self, name: &str, hidden_size: usize, intermediate_size: usize) -> Result<()> {
        for norm in ["layer_norm1", "layer_norm2"] {
            self.layer_norm(&format!("{name}.{norm}"), hidden_size)?;
        }
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            self.linear(&format!("{name}.self_attn.{projection}"), hidden_size, hidden_size, true)?;
        }
        self.linear(&format!("{name}.mlp.fc1"), hidden_size, intermediate_size, true)?;
        self.linear(&format!("{name}.mlp.fc2"), intermediate_size, hidden_size, true)
    }

    fn adapter(&mut self, config: &ConvPoolConfig, vision_hidden_size: usize, hidden_size: usize) -> Result<()> {
        self.encoder_layer("adapter.layer", vision_hidden_size, config.intermediate_size)?;
        self.linear("adapter.proj", vision_hidden_size, hidden_size, true)?;
        self.linear("adapter.conv", 9 * hidden_size, hidden_size, true)?;
        if config.position_embedding {
            self.float("adapter.position_embedding", &[12, 12, hidden_size], 0.02)?;
        }
        Ok(())
    }

    fn decoder(&mut self, config: &TextConfig) -> Result<()> {
        let (hidden_size, head_dim, q, kv) = (config.hidden_size, config.head_dim, config.q_dim(), config.kv_dim());
        self.linear("embedding", hidden_size, config.vocab_size, false)?;
        self.float("output_norm.weight", &[hidden_size], 1.0)?;
        for layer in 0..config.num_hidden_layers {
            let name = match layer.checked_sub(config.num_kv_layers()) {
                None => {
                    let attention = format!("layers.segment_0.layer_{layer}.attention");
                    self.linear(&format!("{attention}.qkv_transform.fused_linear"), hidden_size, q + 2 * kv, false)?;
                    self.float(&format!("{attention}.qk_norm.query_norm.weight"), &[head_dim], 1.0)?;
                    self.float(&format!("{attention}.qk_norm.key_norm.weight"), &[head_dim], 1.0)?;
                    format!("layers.segment_0.layer_{layer}")
                }
                Some(layer) => {
                    let attention = format!("layers.segment_1.layer_{layer}.attention");
                    self.linear(&format!("{attention}.q_transform"), hidden_size, q, false)?;
                    self.float(&format!("{attention}.q_norm.query_norm.weight"), &[head_dim], 1.0)?;
                    format!("layers.segment_1.layer_{layer}")
                }
            };
            self.float(&format!("{name}.attention.norm.weight"), &[hidden_size], 1.0)?;
            self.linear(&format!("{name}.attention.output_transform"), q, hidden_size, false)?;
            self.float(&format!("{name}.feed_forward.norm.weight"), &[hidden_size], 1.0)?;
            for linear in ["linear_0", "linear_1"] {
                let linear = format!("{name}.feed_forward.hidden_transform.{linear}");
                self.linear(&linear, hidden_size, config.intermediate_size, false)?;
            }
            self.linear(
                &format!("{name}.feed_forward.output_transform"),
                config.intermediate_size,
                hidden_size,
                false,
            )?;
        }
        Ok(())
    }

    fn layer_norm(&mut self, name: &str, size: usize) -> Result<()> {
        self.float(&format!("{name}.weight"), &[size], 1.0)?;
        self.float(&format!("{name}.bias"), &[size], 0.0)
    }

    /// A tensor of equal values.
    fn float(&mut self, name: &str, shape: &[usize], value: f32) -> Result<()> {
        self.writer.f32(name, shape, &vec![value; shape.iter().product()])?;
        Ok(())
    }

    /// Weights with variance `1 / in_features`, packed if the configuration says so.
    fn linear(&mut self, name: &str, in_features: usize, out_features: usize, bias: bool) -> Result<()> {
        if bias {
            self.float(&format!("{name}.bias"), &[out_features], 0.0)?;
        }
        let deviation = (in_features as f32).sqrt().recip();
        let Some(part) = self.quantization.part_for(name).cloned() else {
            // Uniform between -3^0.5 and 3^0.5 deviations.
            let mut uniform = || (2.0 * self.random.uniform() - 1.0) as f32 * deviation * 3_f32.sqrt();
            let values: Vec<f32> = (0..in_features * out_features).map(|_| uniform()).collect();
            self.writer.f32(&format!("{name}.weight"), &[out_features, in_features], &values)?;
            return Ok(());
        };
        let bits = Bits::new(part.bits).map_err(|error| Error::options("bits", part.bits, error.to_string()))?;
        let shape = PackedShape::new(bits, out_features, in_features, part.group_size)
            .and_then(|shape| shape.with_zero_point(part.zero_point))
            .map_err(|error| {
                Error::options("a matrix", format!("{out_features} x {in_features}"), error.to_string())
            })?;
        let codes = self.codes(shape);
        // The standard deviation of the levels -1.5..=1.5, -7.5..=7.5 and -127..=127, all equally likely.
        let levels = match bits {
            Bits::Two => 1.118,
            Bits::Four => 4.61,
            Bits::Eight => 73.6,
        };
        let scales = vec![f16::from_f32(deviation / levels); shape.scales_len()];
        self.writer.packed_bytes(name, shape, codes, &scales)?;
        Ok(())
    }

    /// Random codes, with zeros in the padding.
    fn codes(&mut self, shape: PackedShape) -> Vec<u8> {
        let mut codes = vec![0; shape.codes_len()];
        for chunk in codes.chunks_mut(8) {
            let random = self.random.next_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        if shape.bits() == Bits::Eight {
            // -128 is no code.
            codes.iter_mut().filter(|code| **code == 0x80).for_each(|code| *code = 0);
        }
        shape.clear_padding(&mut codes);
        codes
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{CaptionOptions, GenerationOptions, Mode, Model, Picture};

    /// The preset with every size divided.
    fn small() -> Value {
        let mut config: Value = serde_json::from_str(Preset::Afm3b.config()).unwrap();
        let mut set = |part: &str, field: &str, value: usize| config[part][field] = json!(value);
        for (field, value) in [("hidden_size", 64), ("intermediate_size", 96), ("num_hidden_layers", 24)] {
            set("vision_config", field, value);
        }
        set("adapter_config", "intermediate_size", 96);
        for (field, value) in
            [("hidden_size", 64), ("intermediate_size", 80), ("num_hidden_layers", 5), ("num_kv_reuse_layers", 2)]
        {
            set("text_config", field, value);
        }
        set("text_config", "vocab_size", 1200);
        config
    }

    #[test]
    fn a_random_model_loads_and_speaks_and_is_the_same_for_the_same_seed() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b", "c"].map(|name| folder.path().join(name));
        for (path, seed) in paths.iter().zip([1, 1, 2]) {
            write(path, &small(), seed).unwrap();
        }
        let weights = paths.each_ref().map(|path| fs::read(path.join(WEIGHTS)).unwrap());
        assert!(weights[0] == weights[1] && weights[0] != weights[2]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left beside the models");

        let model = Model::load(&paths[0]).unwrap();
        let generation = GenerationOptions { max_new_tokens: Some(3), ..GenerationOptions::default() };
        let options = CaptionOptions { mode: Mode::Rapid, generation, ..CaptionOptions::default() };
        let picture = Picture::open("assets/examples/scene.png").unwrap();
        let response = model.caption_with(&picture, &options).unwrap();
        assert_eq!(response.num_image_tokens, 9);
    }

    #[test]
    fn the_preset_has_the_sizes_of_the_report() {
        let config: Value = serde_json::from_str(Preset::Afm3b.config()).unwrap();
        let text = TextConfig::from_config_json(&config).unwrap();
        assert_eq!((text.num_hidden_layers, text.num_kv_layers()), (56, 35));
        assert!((3.0e9..3.3e9).contains(&(text.num_parameters() as f64)), "{}", text.num_parameters());
        let vision: VisionConfig = serde_json::from_value(config["vision_config"].clone()).unwrap();
        let operations = vision.num_operations((48, 48)) as f64;
        assert!((1.45e12..1.55e12).contains(&operations), "{operations}");
        let server: Value = serde_json::from_str(Preset::VitG.config()).unwrap();
        let vit_g: VisionConfig = serde_json::from_value(server["vision_config"].clone()).unwrap();
        let VisionConfig::Vit(encoder) = VisionConfig::vit_g() else { panic!("ViT-g is a plain ViT") };
        let position_embedding_size = Some([48, 48]);
        assert_eq!(vit_g, VisionConfig::Vit(ocelli_vision::VitConfig { position_embedding_size, ..encoder }));
        // A prompt's token costs 3.52e9 operations where the layers that reuse keys and values are skipped.
        let prefill = (text.num_operations(0, 145) - text.num_operations(0, 1)) as f64 / 144.0;
        assert!((3.4e9..3.6e9).contains(&prefill), "{prefill}");
    }
}
