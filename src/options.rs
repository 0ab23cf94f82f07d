//! What a caller may choose; every default is the model's own.

use ocelli_language::SamplingOptions;
use ocelli_vision::Mode;

/// How text is generated.
///
/// A field that is `None` takes the value of the model's `generation_config.json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationOptions {
    /// Most tokens of an answer, at least 1. Default: the model's.
    pub max_new_tokens: Option<usize>,
    /// Divides the logits; 0 takes the likeliest token always. Default: the model's.
    pub temperature: Option<f32>,
    /// Only this many of the likeliest tokens. Default: the model's.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together reach this probability. Default: the model's.
    pub top_p: Option<f32>,
    /// Makes tokens seen before less likely (above 1). Default: the model's.
    pub repetition_penalty: Option<f32>,
    /// The beginning of the random numbers. Default: 0.
    pub seed: u64,
}

impl GenerationOptions {
    /// These options over the model's defaults.
    pub(crate) fn sampling(&self, defaults: &SamplingOptions) -> SamplingOptions {
        let mut sampling = defaults.clone();
        sampling.temperature = self.temperature.unwrap_or(sampling.temperature);
        sampling.top_k = self.top_k.or(sampling.top_k);
        sampling.top_p = self.top_p.or(sampling.top_p);
        sampling.repetition_penalty = self.repetition_penalty.unwrap_or(sampling.repetition_penalty);
        sampling.seed = self.seed;
        sampling
    }
}

/// How a picture is captioned.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionOptions {
    /// How closely the picture is looked at. Default: [`Mode::Balanced`].
    pub mode: Mode,
    /// The question. Default: the model's `caption_prompt`.
    pub prompt: Option<String>,
    /// How text is generated.
    pub generation: GenerationOptions,
}

impl Default for CaptionOptions {
    fn default() -> Self {
        Self { mode: Mode::Balanced, prompt: None, generation: GenerationOptions::default() }
    }
}

/// How a session looks at pictures and answers.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionOptions {
    /// How closely pictures are looked at. Default: [`Mode::Balanced`].
    pub mode: Mode,
    /// How text is generated. Default: as the model wants.
    pub generation: GenerationOptions,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { mode: Mode::Balanced, generation: GenerationOptions::default() }
    }
}
