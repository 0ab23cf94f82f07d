//! `vision_config` of config.json: which encoder, and its sizes.

use ocelli_nn::{Activation, EncoderLayerConfig};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::window::Windows;

const FILE: &str = "config.json";
/// The most numbers in one activation of one view: 512 MB as f32. ViT-g at 672 has 14 million.
const MAX_ACTIVATION: usize = 1 << 27;

/// An encoder by its `model_type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model_type")]
pub enum VisionConfig {
    /// ViTDet with register windows.
    #[serde(rename = "rw_vitdet")]
    RwVitDet(RwVitDetConfig),
    /// The plain encoder: CLIP, SigLIP, DINOv2 and open_clip encoders are configurations of it.
    #[serde(rename = "vit")]
    Vit(VitConfig),
}

/// What both encoders have: patches and layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncoderConfig {
    /// Colour channels. Default: 3.
    #[serde(default = "three")]
    pub num_channels: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Features of a token.
    pub hidden_size: usize,
    /// Features inside the MLP.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads; they divide `hidden_size`.
    pub num_attention_heads: usize,
    /// Activation of the MLP and of the convolutional stem. Default: `gelu`.
    #[serde(default = "gelu")]
    pub hidden_act: Activation,
    /// Epsilon of every layer norm. Default: 1e-6.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f32,
    /// How pixels become patches. Default: `linear`.
    #[serde(default)]
    pub patch_embed: PatchEmbedKind,
    /// The stages of a convolutional stem, with `"patch_embed": "conv_stem"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conv_stem: Vec<ConvStageConfig>,
}

/// How pixels become patches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatchEmbedKind {
    /// One convolution with kernel = stride = `patch_size`.
    #[default]
    Linear,
    /// Stages of smaller convolutions whose strides multiply to `patch_size`.
    ConvStem,
}

/// One stage of the convolutional stem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvStageConfig {
    /// Side and stride of the stage's convolution.
    pub kernel_size: usize,
    /// Channels after it.
    pub channels: usize,
    /// Residual blocks of two 3 x 3 convolutions after it.
    pub num_blocks: usize,
}

/// `"model_type": "rw_vitdet"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RwVitDetConfig {
    /// Patches and layers.
    #[serde(flatten)]
    pub encoder: EncoderConfig,
    /// Side of an attention window in patches.
    pub window_size: usize,
    /// Learned registers, of which every window has a copy.
    pub num_register_tokens: usize,
    /// The layers that attend over the whole grid.
    pub global_layers: Vec<usize>,
    /// Rows and columns of the learned position embedding.
    pub position_embedding_size: [usize; 2],
}

/// `"model_type": "vit"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VitConfig {
    /// Patches and layers.
    #[serde(flatten)]
    pub encoder: EncoderConfig,
    /// Side in pixels that the encoder was trained at.
    pub image_size: usize,
    /// Rows and columns of the learned position embedding. Default: `image_size / patch_size` each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_embedding_size: Option<[usize; 2]>,
    /// A class token before all others, its own position embedding already added. Default: false.
    #[serde(default)]
    pub class_token: bool,
    /// Registers between class token and patches. Default: 0.
    #[serde(default)]
    pub num_register_tokens: usize,
    /// A layer norm before the first layer (CLIP). Default: false.
    #[serde(default)]
    pub pre_layernorm: bool,
    /// Biases of the query, key and value projections. Default: true.
    #[serde(default = "yes")]
    pub qkv_bias: bool,
    /// Learned factors on each residual branch (DINOv2). Default: false.
    #[serde(default)]
    pub layer_scale: bool,
    /// A gated MLP: `fc2(act(first half of fc1 x) * second half)`, with `2 * intermediate_size` rows in `fc1` (DINOv2 giant).
    /// Default: false.
    #[serde(default)]
    pub gated_mlp: bool,
    /// What the layer norm after the last layer acts on. Default: `tokens`.
    #[serde(default)]
    pub post_layernorm: PostLayernorm,
    /// How the position embedding comes to the grid of a view. Default: `bicubic`.
    #[serde(default)]
    pub position_resampling: PositionResampling,
    /// How the tokens become one vector for the view. Default: `class_token` where there is one, otherwise `mean`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Features of the pooled vector after `projection`, a matrix without bias (CLIP's visual projection). Default: no projection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection_dim: Option<usize>,
}

/// What the layer norm after the last layer acts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostLayernorm {
    /// Every token, and so the pooled vector too (SigLIP, DINOv2, Idefics3).
    #[default]
    Tokens,
    /// The pooled vector alone; the features are those of the last layer (CLIP).
    Pooled,
    /// Nothing: there is no such norm (LLaVA, which takes the tokens of an earlier layer of CLIP).
    None,
}

/// How the position embedding comes to another grid than its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionResampling {
    /// PyTorch's bicubic (CLIP, SigLIP, DINOv2).
    #[default]
    Bicubic,
    /// PyTorch's bicubic with `antialias=True` (DINOv2 with registers).
    BicubicAntialiased,
    /// The embedding of the cell that a patch's corner falls into (Idefics3, SmolVLM).
    Nearest,
}

/// How the tokens of a view become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The class token.
    ClassToken,
    /// The mean of the patches.
    Mean,
    /// A learned query that attends to the tokens, then an MLP: the head of SigLIP.
    Attention,
}

fn three() -> usize {
    3
}

fn gelu() -> Activation {
    Activation::Gelu
}

fn default_eps() -> f32 {
    1e-6
}

fn yes() -> bool {
    true
}

impl VisionConfig {
    /// ViTDet-L with register windows, the encoder of the on-device model: about 300 million parameters.
    pub fn vitdet_l() -> Self {
        Self::RwVitDet(RwVitDetConfig {
            encoder: EncoderConfig::linear(14, 1024, 4096, 24, 16),
            window_size: 16,
            num_register_tokens: 4,
            global_layers: vec![7, 15, 23],
            position_embedding_size: [32, 32],
        })
    }

    /// ViT-g, the encoder of the server model: about 1 billion parameters.
    pub fn vit_g() -> Self {
        Self::Vit(VitConfig {
            encoder: EncoderConfig::linear(14, 1408, 6144, 40, 16),
            image_size: 448,
            position_embedding_size: None,
            class_token: false,
            num_register_tokens: 0,
            pre_layernorm: false,
            qkv_bias: true,
            layer_scale: false,
            gated_mlp: false,
            post_layernorm: PostLayernorm::Tokens,
            position_resampling: PositionResampling::Bicubic,
            pooling: None,
            projection_dim: None,
        })
    }

    /// Patches and layers.
    pub fn encoder(&self) -> &EncoderConfig {
        match self {
            Self::RwVitDet(config) => &config.encoder,
            Self::Vit(config) => &config.encoder,
        }
    }

    /// Features of a token.
    pub fn hidden_size(&self) -> usize {
        self.encoder().hidden_size
    }

    /// Features of the vector of a whole view.
    pub fn pooled_size(&self) -> usize {
        match self {
            Self::RwVitDet(_) => self.hidden_size(),
            Self::Vit(config) => config.projection_dim.unwrap_or(self.hidden_size()),
        }
    }

    /// Rows and columns of the learned position embedding.
    pub fn position_embedding_size(&self) -> [usize; 2] {
        match self {
            Self::RwVitDet(config) => config.position_embedding_size,
            Self::Vit(config) => {
                config.position_embedding_size.unwrap_or([config.image_size / config.encoder.patch_size.max(1); 2])
            }
        }
    }

    /// Rows and columns of patches of a view of `height` x `width` pixels. A plain encoder leaves out what is less than a patch at the right and at the
    /// bottom, as the convolutions of some published ones do (SigLIP's patches of 14 in 384 pixels).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] when the patches of a register-window encoder do not divide the view, the view is smaller than a patch, or the patches are
    /// so many that one activation would take more than 512 MB.
    pub fn patch_grid(&self, height: usize, width: usize) -> Result<(usize, usize)> {
        let encoder = self.encoder();
        let shape_error = |expected| Error::Shape { what: "view", found: vec![height, width], expected };
        let patch_size = encoder.patch_size;
        let may_leave_out = matches!(self, Self::Vit(config) if config.encoder.patch_embed == PatchEmbedKind::Linear);
        let is_whole = |side: usize| side.is_multiple_of(patch_size) || may_leave_out;
        if height < patch_size || width < patch_size || !is_whole(height) || !is_whole(width) {
            return Err(shape_error(format!("sides that are multiples of patch_size {patch_size} in config.json")));
        }
        if self.largest_activation(height, width).is_none_or(|numbers| numbers > MAX_ACTIVATION) {
            return Err(shape_error(format!(
                "fewer pixels: with patch_size {patch_size} and these widths of config.json an activation would have \
                 more than {MAX_ACTIVATION} numbers"
            )));
        }
        Ok((height / patch_size, width / patch_size))
    }

    /// Rows and columns of attention windows of a grid of `(rows, columns)` patches: (1, 1) without windows.
    pub fn window_grid(&self, (rows, columns): (usize, usize)) -> (usize, usize) {
        match self {
            Self::RwVitDet(config) => (rows.div_ceil(config.window_size), columns.div_ceil(config.window_size)),
            Self::Vit(_) => (1, 1),
        }
    }

    /// The number of learned numbers, without building the encoder.
    pub fn num_parameters(&self) -> usize {
        let encoder = self.encoder();
        let hidden_size = encoder.hidden_size;
        let positions: usize = self.position_embedding_size().iter().product();
        let (tokens, norms, head) = match self {
            Self::RwVitDet(config) => (config.num_register_tokens, 1, 0),
            Self::Vit(config) => {
                let has_post_layernorm = config.post_layernorm != PostLayernorm::None;
                let norms = usize::from(config.pre_layernorm) + usize::from(has_post_layernorm);
                let projection = config.projection_dim.unwrap_or(0) * hidden_size;
                (config.num_prefix_tokens(), norms, config.num_pooler_parameters() + projection)
            }
        };
        encoder.num_patch_embed_parameters()
            + (positions + tokens + 2 * norms) * hidden_size
            + encoder.num_hidden_layers * self.layer().num_parameters()
            + head
    }

    /// Multiplications and additions of the matrix products that encode one view of `grid` patches; for ViTDet-L at 48 x 48 it is 1.51e12.
    pub fn num_operations(&self, grid: (usize, usize)) -> u64 {
        let (layer, num_patches) = (self.layer(), grid.0 * grid.1);
        let layers: u64 = match self {
            Self::RwVitDet(config) => {
                let windows = Windows::new(grid, config.window_size, config.num_register_tokens).sequence_lengths();
                let num_global = config.global_layers.len();
                let whole = layer.num_operations(&[num_patches + config.num_register_tokens]);
                let windowed = layer.num_operations(&windows);
                num_global as u64 * whole + (config.encoder.num_hidden_layers - num_global) as u64 * windowed
            }
            Self::Vit(config) => {
                let length = num_patches + config.num_prefix_tokens();
                let projection = 2 * (config.projection_dim.unwrap_or(0) * config.encoder.hidden_size) as u64;
                config.encoder.num_hidden_layers as u64 * layer.num_operations(&[length])
                    + config.num_pooler_operations(length)
                    + projection
            }
        };
        layers + self.encoder().num_patch_embed_operations(num_patches)
    }

    /// Numbers in the largest activation of a view of `height` x `width` pixels; `None` if they cannot be counted.
    fn largest_activation(&self, height: usize, width: usize) -> Option<usize> {
        let encoder = self.encoder();
        let mlp_size = match self {
            Self::Vit(VitConfig { gated_mlp: true, .. }) => 2 * encoder.intermediate_size,
            _ => encoder.intermediate_size,
        };
        let pixels = height.checked_mul(width)?;
        let patches = pixels / (encoder.patch_size * encoder.patch_size);
        let mut largest = patches.checked_mul(mlp_size.max(encoder.hidden_size))?;
        largest = largest.max(pixels.checked_mul(encoder.num_channels)?);
        let mut stride = 1;
        for (_, stage) in encoder.conv_stages() {
            stride *= stage.kernel_size;
            largest = largest.max((pixels / (stride * stride)).checked_mul(stage.channels)?);
        }
        Some(largest)
    }

    /// The configuration of each layer.
    pub(crate) fn layer(&self) -> EncoderLayerConfig {
        let encoder = self.encoder();
        let (qkv_bias, layer_scale, gated_mlp) = match self {
            Self::RwVitDet(_) => (true, false, false),
            Self::Vit(config) => (config.qkv_bias, config.layer_scale, config.gated_mlp),
        };
        EncoderLayerConfig {
            hidden_size: encoder.hidden_size,
            intermediate_size: encoder.intermediate_size,
            num_attention_heads: encoder.num_attention_heads,
            hidden_act: encoder.hidden_act,
            layer_norm_eps: encoder.layer_norm_eps,
            qkv_bias,
            layer_scale,
            gated_mlp,
        }
    }

    /// Checks that every field makes sense; the bounds are far above any encoder that exists.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] names the field.
    pub fn validate(&self) -> Result<()> {
        self.encoder().validate()?;
        for side in self.position_embedding_size() {
            check_range("position_embedding_size", side, 1, 1024)?;
        }
        match self {
            Self::RwVitDet(config) => {
                check_range("window_size", config.window_size, 1, 1024)?;
                check_range("num_register_tokens", config.num_register_tokens, 0, 1024)?;
                let num_layers = config.encoder.num_hidden_layers;
                for &layer in &config.global_layers {
                    check_range("global_layers", layer, 0, num_layers - 1)?;
                }
                Ok(())
            }
            Self::Vit(config) => {
                check_range("image_size", config.image_size, 1, 8192)?;
                check_range("num_register_tokens", config.num_register_tokens, 0, 1024)?;
                if let Some(projection_dim) = config.projection_dim {
                    check_range("projection_dim", projection_dim, 1, 1 << 14)?;
                }
                if config.pooling == Some(Pooling::ClassToken) && !config.class_token {
                    return Err(config_error("pooling", "class_token", "mean or attention, as `class_token` is false"));
                }
                Ok(())
            }
        }
    }
}

impl VitConfig {
    /// How the tokens become one vector, also where the file does not say so.
    pub fn pooling(&self) -> Pooling {
        self.pooling.unwrap_or(if self.class_token { Pooling::ClassToken } else { Pooling::Mean })
    }

    /// Class token and registers, which are before the patches.
    fn num_prefix_tokens(&self) -> usize {
        self.num_register_tokens + usize::from(self.class_token)
    }

    /// Query, four projections, norm and MLP of the attention pooling.
    fn num_pooler_parameters(&self) -> usize {
        if self.pooling() != Pooling::Attention {
            return 0;
        }
        let EncoderConfig { hidden_size, intermediate_size, .. } = self.encoder;
        let mlp = 2 * hidden_size * intermediate_size + intermediate_size + hidden_size;
        3 * hidden_size + 4 * hidden_size * (hidden_size + 1) + mlp
    }

    /// Keys and values of `length` tokens, and the rest for one query.
    fn num_pooler_operations(&self, length: usize) -> u64 {
        if self.pooling() != Pooling::Attention {
            return 0;
        }
        let EncoderConfig { hidden_size, intermediate_size, .. } = self.encoder;
        let of_token = 4 * hidden_size * hidden_size + 4 * hidden_size;
        let of_query = 4 * hidden_size * hidden_size + 4 * hidden_size * intermediate_size;
        (length * of_token + of_query) as u64
    }
}

impl EncoderConfig {
    /// An encoder with the plain patch embedding, the exact GELU and RGB input.
    fn linear(
        patch_size: usize,
        hidden_size: usize,
        intermediate_size: usize,
        num_hidden_layers: usize,
        num_attention_heads: usize,
    ) -> Self {
        Self {
            num_channels: 3,
            patch_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            hidden_act: gelu(),
            layer_norm_eps: default_eps(),
            patch_embed: PatchEmbedKind::Linear,
            conv_stem: Vec::new(),
        }
    }

    fn validate(&self) -> Result<()> {
        if self.num_channels != 3 {
            return Err(config_error("num_channels", self.num_channels, "3 (red, green, blue)"));
        }
        check_range("patch_size", self.patch_size, 1, 1024)?;
        check_range("hidden_size", self.hidden_size, 1, 1 << 14)?;
        check_range("intermediate_size", self.intermediate_size, 1, 1 << 16)?;
        check_range("num_hidden_layers", self.num_hidden_layers, 1, 1024)?;
        check_range("num_attention_heads", self.num_attention_heads, 1, self.hidden_size)?;
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a divisor of hidden_size {}", self.hidden_size);
            return Err(config_error("num_attention_heads", self.num_attention_heads, expected));
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return Err(config_error("layer_norm_eps", self.layer_norm_eps, "a number between 0 and 1"));
        }
        match self.patch_embed {
            PatchEmbedKind::Linear => Ok(()),
            PatchEmbedKind::ConvStem => self.validate_conv_stem(),
        }
    }

    fn validate_conv_stem(&self) -> Result<()> {
        for stage in &self.conv_stem {
            check_range("conv_stem.kernel_size", stage.kernel_size, 1, self.patch_size)?;
            check_range("conv_stem.channels", stage.channels, 1, 1 << 14)?;
            check_range("conv_stem.num_blocks", stage.num_blocks, 0, 1024)?;
        }
        let stride = self.conv_stem.iter().try_fold(1usize, |stride, stage| stride.checked_mul(stage.kernel_size));
        if stride != Some(self.patch_size) {
            let kernels: Vec<usize> = self.conv_stem.iter().map(|stage| stage.kernel_size).collect();
            let expected = format!("factors of patch_size {}", self.patch_size);
            return Err(config_error("conv_stem.kernel_size", format!("{kernels:?}"), expected));
        }
        match self.conv_stem.last() {
            Some(stage) if stage.channels == self.hidden_size => Ok(()),
            last => {
                let found = last.map_or(0, |stage| stage.channels);
                let expected = format!("hidden_size {} in the last stage", self.hidden_size);
                Err(config_error("conv_stem.channels", found, expected))
            }
        }
    }

    /// The stages with the channels that come into each.
    pub(crate) fn conv_stages(&self) -> impl Iterator<Item = (usize, ConvStageConfig)> + '_ {
        let channels_in = std::iter::once(self.num_channels).chain(self.conv_stem.iter().map(|stage| stage.channels));
        channels_in.zip(self.conv_stem.iter().copied())
    }

    fn num_patch_embed_parameters(&self) -> usize {
        match self.patch_embed {
            PatchEmbedKind::Linear => self.hidden_size * (self.num_channels * self.patch_size * self.patch_size + 1),
            PatchEmbedKind::ConvStem => self
                .conv_stages()
                .map(|(channels_in, ConvStageConfig { kernel_size, channels, num_blocks })| {
                    let block = 2 * channels + 2 * channels * (9 * channels + 1);
                    channels * (kernel_size * kernel_size * channels_in + 1) + num_blocks * block
                })
                .sum(),
        }
    }

    fn num_patch_embed_operations(&self, num_patches: usize) -> u64 {
        let area = self.patch_size * self.patch_size;
        match self.patch_embed {
            PatchEmbedKind::Linear => 2 * (num_patches * self.hidden_size * self.num_channels * area) as u64,
            PatchEmbedKind::ConvStem => {
                let mut cells = num_patches * area;
                let mut total = 0;
                for (channels_in, ConvStageConfig { kernel_size, channels, num_blocks }) in self.conv_stages() {
                    cells /= kernel_size * kernel_size;
                    let weights = channels * (kernel_size * kernel_size * channels_in + num_blocks * 18 * channels);
                    total += 2 * (cells * weights) as u64;
                }
                total
            }
        }
    }
}

fn config_error(field: &str, found: impl ToString, expected: impl Into<String>) -> Error {
    let field = format!("vision_config.{field}");
    Error::Config { file: FILE, field, found: found.to_string(), expected: expected.into() }
}

fn check_range(field: &str, found: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(config_error(field, found, format!("{least} to {most}")))
}
