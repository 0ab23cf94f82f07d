//! What a caller may choose; every default is the model's own.

use ocelli_language::SamplingOptions;
use ocelli_vision::Mode;

use crate::alt_text::alt_text;
use crate::model::Model;
use crate::response::Response;

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

/// How long a caption should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CaptionLength {
    /// As the model likes it.
    #[default]
    Normal,
    /// Short.
    Short,
    /// Long.
    Long,
    /// Alt text, after the rules of [`alt_text`](crate::alt_text()).
    Alt,
}

impl CaptionLength {
    /// The length in lower case: `normal`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Short => "short",
            Self::Long => "long",
            Self::Alt => "alt",
        }
    }
}

/// How a picture is captioned.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionOptions {
    /// How closely the picture is looked at. Default: [`Mode::Balanced`].
    pub mode: Mode,
    /// How long the caption should be: which of the model's prompts is used, and whether the rules of alt text are applied to what it says.
    pub length: CaptionLength,
    /// The question, in place of the model's for that length.
    pub prompt: Option<String>,
    /// How text is generated.
    pub generation: GenerationOptions,
}

impl CaptionOptions {
    /// What is asked.
    pub(crate) fn question<'a>(&'a self, model: &'a Model) -> &'a str {
        self.prompt.as_deref().unwrap_or(model.caption_prompt(self.length))
    }

    /// The options of the session that is asked.
    pub(crate) fn session(&self) -> SessionOptions {
        SessionOptions { mode: self.mode, generation: self.generation.clone() }
    }

    /// What is made of the answer.
    pub(crate) fn shape(&self, mut response: Response) -> Response {
        if self.length == CaptionLength::Alt {
            response.text = alt_text(&response.text);
        }
        response
    }
}

impl Default for CaptionOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Balanced,
            length: CaptionLength::Normal,
            prompt: None,
            generation: GenerationOptions::default(),
        }
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

impl SessionOptions {
    /// The options of an answer by `model`.
    pub(crate) fn generation_options(&self, model: &Model) -> ocelli_language::GenerationOptions {
        let defaults = model.generation_config();
        ocelli_language::GenerationOptions {
            eos_token_id: defaults.eos_token_id.clone(),
            max_new_tokens: self.generation.max_new_tokens.unwrap_or(defaults.max_new_tokens),
            sampling: self.generation.sampling(&defaults.sampling),
        }
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { mode: Mode::Balanced, generation: GenerationOptions::default() }
    }
}
