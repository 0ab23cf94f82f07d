//! The model: loaded once, shared by every session, and a method for each stage between a picture and its caption.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ndarray::{Array2, ArrayView2, ArrayView4, Axis, Slice};
use ocelli_adapter::{Adapter, AdapterConfig};
use ocelli_language::{
    ChatTemplate, Decoder, GenerationConfig, ImagePrompt, KvCache, KvKind, Message, PromptLayout, PromptPart,
    TextConfig, Tokenizer,
};
use ocelli_nn::{Isa, QuantizationConfig, Weights, map};
use ocelli_vision::{Encoder, Features, ImageProcessor, Mode, Picture, Views, VisionConfig};

use crate::bundled;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::inspect::{ModelReport, PictureReport};
use crate::model_dir::{ModelDir, TextDir};
use crate::options::{CaptionLength, CaptionOptions, SessionOptions};
use crate::picture_cache::Fingerprint;
use crate::response::{Response, Timings};
use crate::session::Session;

/// A vision-language model: picture processor, vision encoder, adapter, decoder, tokenizer and chat template.
///
/// It is read-only, so that one is enough for all threads; a clone is another handle on the same model.
#[derive(Clone, Debug)]
pub struct Model {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    name: String,
    /// None in a decoder alone.
    vision: Option<VisionParts>,
    decoder: Decoder,
    /// What a session begins with.
    empty_cache: KvCache,
    text_config: TextConfig,
    quantization: Option<QuantizationConfig>,
    generation: GenerationConfig,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    report: ModelReport,
}

/// What turns pictures into image tokens.
#[derive(Debug)]
struct VisionParts {
    processor: ImageProcessor,
    encoder: Encoder,
    adapter: Adapter,
    adapter_config: AdapterConfig,
    images: ImagePrompt,
    /// What encoder and adapter were read from.
    weights: Weights,
    /// None before it is asked for.
    fingerprint: OnceLock<Fingerprint>,
}

/// A picture as the decoder sees it. A clone is another handle on the same tokens.
#[derive(Clone, Debug)]
pub struct EncodedPicture {
    pub(crate) mode: Mode,
    pub(crate) num_views: usize,
    /// Rows and columns of tiles; (1, 1) without.
    pub(crate) tiles: (usize, usize),
    /// `[num_views * tokens_per_view, hidden_size]`.
    pub(crate) tokens: Arc<Array2<f32>>,
    pub(crate) timings: Timings,
}

impl EncodedPicture {
    /// The mode that it was looked at in.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The number of its views.
    pub fn num_views(&self) -> usize {
        self.num_views
    }

    /// Its image tokens, `[num_views * tokens_per_view, hidden_size]`, view by view.
    pub fn tokens(&self) -> ArrayView2<'_, f32> {
        self.tokens.view()
    }

    /// What it took: preprocessing, encoder and adapter. A [`Response`] to a prompt with this picture does not count it again.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// Its place in a prompt.
    pub fn prompt_part(&self) -> PromptPart {
        PromptPart::Image { tiles: self.tiles, tokens_per_view: self.tokens.nrows() / self.num_views.max(1) }
    }
}

impl Model {
    /// The model inside this library: small, offline, for drawn scenes. It is not for photographs.
    ///
    /// # Errors
    /// None with an unchanged library; the bundled files pass the same checks as others.
    pub fn bundled() -> Result<Self> {
        Self::from_dir(bundled::open()?)
    }

    /// Reads a model directory (`docs/format.md`), or a checkpoint of one of the families of `docs/models.md` as it lies on the Hugging Face hub,
    /// which is then held in f32. The weights stay in their file, which is memory-mapped: it must not change
    /// while the model is in use.
    ///
    /// # Errors
    /// Names the file, and the field or tensor, that is missing, broken or does not fit the others.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        // Errors of the weights name their file already.
        let place = |error: Error| match error.kind() {
            ErrorKind::Weights => error,
            _ => error.at(format_args!("model directory {}", folder.display())),
        };
        Self::from_dir(ModelDir::open(folder)?).map_err(place)
    }

    fn from_dir(dir: ModelDir) -> Result<Self> {
        let missing = |part, hint| Error::from(Cause::NoSuchPart { model: dir.name.clone(), part, hint });
        let report = ModelReport::new(&dir)?;
        let Some(TextDir { config: text_config, generation, tokenizer, template }) = dir.text else {
            return Err(match dir.vision {
                Some(_) => missing("decoder", "`ocelli embed` uses encoders alone"),
                None => missing("tokenizer", "copy tokenizer.json and its neighbours to the weights"),
            });
        };
        let vision = match (dir.vision, dir.adapter, dir.images) {
            (Some(vision), Some(adapter_config), Some(images)) => {
                let processor = ImageProcessor::new(vision.preprocessor)?;
                let encoder =
                    Encoder::load(&dir.weights.pp("vision"), &vision.config, &grids(&processor, &vision.config)?)?;
                let (from, to) = (vision.config.hidden_size(), text_config.hidden_size);
                let adapter = Adapter::load(&dir.weights.pp("adapter"), &adapter_config, from, to)?;
                let (weights, fingerprint) = (dir.weights.clone(), OnceLock::new());
                Some(VisionParts { processor, encoder, adapter, adapter_config, images, weights, fingerprint })
            }
            _ => None,
        };
        let decoder = match &dir.lora {
            None => Decoder::load(&dir.weights, &text_config)?,
            Some(lora) => Decoder::load_with_adapter(&dir.weights, &text_config, lora)?,
        };
        let empty_cache = decoder.new_cache(text_config.max_position_embeddings, KvKind::default())?;
        tracing::info!(
            name = report.name,
            parameters = report.total.parameters,
            bytes = report.total.bytes,
            isa = Isa::active().name(),
            "model loaded"
        );
        let parts = Parts {
            name: dir.name,
            vision,
            decoder,
            empty_cache,
            text_config,
            quantization: dir.weights.quantization().cloned(),
            generation,
            tokenizer,
            template,
            report,
        };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// The name of the model: that of its directory.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// Architecture, parameters and sizes of the model's parts.
    pub fn report(&self) -> &ModelReport {
        &self.parts.report
    }

    /// What preprocessing does to `picture` in each mode of the model.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a decoder alone.
    pub fn inspect(&self, picture: &Picture) -> Result<PictureReport> {
        let vision = self.vision()?;
        PictureReport::new(picture, &vision.processor, vision.encoder.config())
    }

    /// What turns pictures into image tokens.
    fn vision(&self) -> Result<&VisionParts> {
        self.parts.vision.as_ref().ok_or_else(|| {
            let hint = "it is a decoder alone and reads text";
            Cause::NoSuchPart { model: self.parts.name.clone(), part: "vision encoder", hint }.into()
        })
    }

    /// The caption of a picture, looked at in the balanced mode.
    ///
    /// ```
    /// let model = ocelli::Model::bundled()?;
    /// let picture = ocelli::Picture::open("assets/examples/scene.png")?;
    /// println!("{}", model.caption(&picture)?);
    /// # Ok::<(), ocelli::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Session::respond`].
    pub fn caption(&self, picture: &Picture) -> Result<Response> {
        self.caption_with(picture, &CaptionOptions::default())
    }

    /// The caption of a picture.
    ///
    /// # Errors
    /// As [`Session::respond`].
    pub fn caption_with(&self, picture: &Picture, options: &CaptionOptions) -> Result<Response> {
        let encoded = self.encode_picture(picture, options.mode)?;
        let question = options.question(self);
        let mut response = self.session_with(options.session())?.respond(crate::prompt![&encoded, question])?;
        response.timings += encoded.timings;
        Ok(options.shape(response))
    }

    /// The question that asks this model for a caption of that length.
    pub fn caption_prompt(&self, length: CaptionLength) -> &str {
        let prompts = &self.parts.generation.caption_prompts;
        match length {
            CaptionLength::Normal => &prompts.normal,
            CaptionLength::Short => &prompts.short,
            CaptionLength::Long => &prompts.long,
            CaptionLength::Alt => &prompts.alt,
        }
    }

    /// A conversation with the default options.
    ///
    /// ```
    /// use ocelli::{Model, Picture, prompt};
    ///
    /// let picture = Picture::open("assets/examples/scene.png")?;
    /// let mut session = Model::bundled()?.session();
    /// let answer = session.respond(prompt![picture, "How many objects are there?"])?;
    /// println!("{answer}");
    /// for piece in session.stream("What colour is the background?")? {
    ///     print!("{}", piece?);
    /// }
    /// # Ok::<(), ocelli::Error>(())
    /// ```
    pub fn session(&self) -> Session {
        Session::new(self.clone(), SessionOptions::default())
    }

    /// A conversation.
    ///
    /// # Errors
    /// [`ErrorKind::Options`](crate::ErrorKind::Options) when an option is out of range.
    pub fn session_with(&self, options: SessionOptions) -> Result<Session> {
        if options.generation.max_new_tokens == Some(0) {
            return Err(Error::options("max_new_tokens", 0, "1 or more"));
        }
        options.generation.sampling(&self.parts.generation.sampling).check()?;
        Ok(Session::new(self.clone(), options))
    }

    /// First stage: a picture to the views `[num_views, 3, size, size]` of `mode`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the model does not have this mode.
    pub fn views(&self, picture: &Picture, mode: Mode) -> Result<Views> {
        Ok(self.vision()?.processor.views(picture, mode)?)
    }

    /// Second stage: views to patch features `[num_views * rows * columns, vision hidden_size]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the patches do not divide the views.
    pub fn encode(&self, views: &Views) -> Result<Features> {
        Ok(self.vision()?.encoder.encode(views.pixel_values.view())?)
    }

    /// Third stage: patch features to image tokens `[num_views * pooled rows * pooled columns, hidden_size]`; `pooled` is
    /// [`Views::pooled`].
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the features are not those of this model's encoder.
    pub fn adapt(&self, features: &Features, pooled: (usize, usize)) -> Result<Array2<f32>> {
        let adapter = &self.vision()?.adapter;
        let tokens_per_view = pooled.0 * pooled.1;
        let mut tokens = Array2::zeros((features.num_views() * tokens_per_view, self.parts.text_config.hidden_size));
        for view in 0..features.num_views() {
            let rows = view * tokens_per_view..(view + 1) * tokens_per_view;
            let adapted = adapter.adapt(features.view(view), features.grid, pooled)?;
            tokens.slice_axis_mut(Axis(0), Slice::from(rows)).assign(&adapted);
        }
        Ok(tokens)
    }

    /// The first three stages: a picture to its image tokens, to be used in any number of prompts.
    ///
    /// # Errors
    /// As [`Model::views`].
    pub fn encode_picture(&self, picture: &Picture, mode: Mode) -> Result<EncodedPicture> {
        let start = Instant::now();
        let views = self.views(picture, mode)?;
        let preprocess = start.elapsed();
        let mut encoded = self.encode_views(std::slice::from_ref(&views)).remove(0)?;
        encoded.timings.preprocess = preprocess;
        Ok(encoded)
    }

    /// The second and third stage for several pictures together. As many views as there are threads go side by side, each on one thread, which
    /// leaves nothing to wait for; those that are left over share the threads. The tokens are those of [`Model::encode_picture`], to the bit; the times of views
    /// side by side count in equal shares. One result for each picture, with the errors of [`Model::encode`] and [`Model::adapt`].
    pub fn encode_views(&self, pictures: &[Views]) -> Vec<Result<EncodedPicture>> {
        let all: Vec<(ArrayView4<f32>, (usize, usize))> = pictures
            .iter()
            .flat_map(|picture| picture.pixel_values.axis_chunks_iter(Axis(0), 1).map(|view| (view, picture.pooled)))
            .collect();
        let num_threads = rayon::current_num_threads();
        let (side_by_side, rest) = all.split_at(all.len() / num_threads * num_threads);
        let mut encoded = map(side_by_side.to_vec(), |(view, pooled)| self.encode_view(view, pooled, num_threads));
        encoded.extend(rest.iter().map(|(view, pooled)| self.encode_view(view.view(), *pooled, 1)));
        let mut encoded = encoded.into_iter();
        pictures
            .iter()
            .map(|picture| {
                let num_views = picture.kinds.len();
                let mut tokens = Array2::zeros((picture.num_image_tokens(), self.parts.text_config.hidden_size));
                let mut timings = Timings::default();
                for (mut out, view) in tokens
                    .axis_chunks_iter_mut(Axis(0), (picture.pooled.0 * picture.pooled.1).max(1))
                    .zip(encoded.by_ref().take(num_views))
                {
                    let (view_tokens, view_timings) = view?;
                    out.assign(&view_tokens);
                    timings += view_timings;
                }
                Ok(EncodedPicture {
                    mode: picture.mode,
                    num_views,
                    tiles: picture.grid,
                    tokens: Arc::new(tokens),
                    timings,
                })
            })
            .collect()
    }

    /// One view, `[1, 3, size, size]`, to image tokens; `num_neighbours` go side by side on threads of their own.
    fn encode_view(
        &self,
        view: ArrayView4<f32>,
        pooled: (usize, usize),
        num_neighbours: usize,
    ) -> Result<(Array2<f32>, Timings)> {
        let VisionParts { encoder, adapter, .. } = self.vision()?;
        let start = Instant::now();
        let features = encoder.encode(view)?;
        let encode = start.elapsed();
        let tokens = adapter.adapt(features.view(0), features.grid, pooled)?;
        let adapt = start.elapsed() - encode;
        let [encode, adapt] = [encode, adapt].map(|time| time / num_neighbours as u32);
        Ok((tokens, Timings { encode, adapt, ..Timings::default() }))
    }

    /// Fourth stage: a conversation to token ids, with the beginning of an answer at its end; image tokens only hold their
    /// place.
    ///
    /// # Errors
    /// [`ErrorKind::Template`](crate::ErrorKind::Template) and [`ErrorKind::Tokenizer`](crate::ErrorKind::Tokenizer).
    pub fn layout(&self, messages: &[Message]) -> Result<PromptLayout> {
        let Parts { template, tokenizer, vision, .. } = &*self.parts;
        let images = vision.as_ref().map(|vision| &vision.images);
        Ok(PromptLayout::new(messages, true, template, tokenizer, images)?)
    }

    /// Fifth stage: a layout to embeddings `[num_tokens, hidden_size]`, with the image tokens `[num_image_tokens, hidden_size]`
    /// of its pictures put into their places.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the number of image tokens is not that of the layout.
    pub fn embed(&self, layout: &PromptLayout, image_tokens: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let mut embeddings = self.parts.decoder.embed(layout.token_ids())?;
        layout.splice(&mut embeddings, image_tokens)?;
        Ok(embeddings)
    }

    pub(crate) fn vision_config(&self) -> Result<&VisionConfig> {
        Ok(self.vision()?.encoder.config())
    }

    pub(crate) fn adapter_config(&self) -> Result<&AdapterConfig> {
        Ok(&self.vision()?.adapter_config)
    }

    /// The shape of the image tokens of one view: their number and their width.
    pub(crate) fn image_tokens_of_view(&self, mode: Mode) -> Result<(usize, usize)> {
        let [rows, columns] = self.vision()?.processor.config().mode(mode)?.pooled;
        Ok((rows * columns, self.parts.text_config.hidden_size))
    }

    /// What decides the image tokens of a picture besides the picture. Computed once, which reads all weights of encoder and adapter.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint> {
        let vision = self.vision()?;
        Ok(*vision.fingerprint.get_or_init(|| {
            // Products in f32 are rounded differently by each instruction set.
            let (version, isa) = (env!("CARGO_PKG_VERSION"), Isa::active().name());
            let configs = (vision.processor.config(), vision.encoder.config(), &vision.adapter_config);
            Fingerprint::new(&vision.weights, &format!("{version} {isa} {configs:?}"))
        }))
    }

    /// Whether the matrices under `prefix` meet activations of 8 bits.
    pub(crate) fn has_integer_products(&self, prefix: &str) -> bool {
        let part = self.parts.quantization.as_ref().and_then(|config| config.part_for(prefix));
        part.is_some_and(|part| part.activation_bits == 8)
    }

    pub(crate) fn empty_cache(&self) -> KvCache {
        self.parts.empty_cache.clone()
    }

    /// The last stage is a [`Session`]'s; this is what it works with.
    pub fn decoder(&self) -> &Decoder {
        &self.parts.decoder
    }

    /// Text to token ids and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.parts.tokenizer
    }

    /// Sampling defaults and end tokens.
    pub fn generation_config(&self) -> &GenerationConfig {
        &self.parts.generation
    }

    /// The decoder's sizes.
    pub fn text_config(&self) -> &TextConfig {
        &self.parts.text_config
    }
}

/// Rows and columns of patches of the views of all modes.
pub(crate) fn grids(processor: &ImageProcessor, encoder: &VisionConfig) -> Result<Vec<(usize, usize)>> {
    let mut grids = Vec::new();
    for mode in processor.config().modes.values() {
        let grid = encoder.patch_grid(mode.size, mode.size)?;
        if !grids.contains(&grid) {
            grids.push(grid);
        }
    }
    Ok(grids)
}
