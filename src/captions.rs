//! Captions of many pictures: reading and preprocessing run ahead on threads of their own, the model takes several pictures at once.
//!
//! ```text
//! files --look_ahead threads: read, decode, views--> at most `look_ahead` pictures
//!       --Model::encode_views: as many side by side as there are threads--> image tokens
//!       --ResponseBatch: up to `batch_size` captions, a token for each in one pass--> captions, in the order of the files
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::iter::FusedIterator;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocelli_vision::{Limits, Mode, Picture, Views, read_picture_file};

use crate::error::{Cause, Result};
use crate::look_ahead::LookAhead;
use crate::model::{EncodedPicture, Model};
use crate::options::CaptionOptions;
use crate::picture_cache::{ContentHash, PictureCache};
use crate::prompt;
use crate::response::{Response, Timings};
use crate::response_batch::ResponseBatch;

/// How many pictures are captioned.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BatchOptions {
    /// How each picture is captioned.
    pub caption: CaptionOptions,
    /// Captions that are made together, at least 1. Default: 8.
    pub batch_size: usize,
    /// Pictures in memory ahead of the model, at least 1: being decoded, or as views (a view of 672 pixels has 5.4 MB). Default: 8.
    pub look_ahead: usize,
    /// Limits on each picture.
    pub limits: Limits,
    /// Where encoded pictures are looked up and kept. Default: nowhere.
    pub cache: Option<Arc<PictureCache>>,
}

impl Default for BatchOptions {
    fn default() -> Self {
        let (caption, limits) = (CaptionOptions::default(), Limits::default());
        Self { caption, batch_size: 8, look_ahead: 8, limits, cache: None }
    }
}

impl From<CaptionOptions> for BatchOptions {
    fn from(caption: CaptionOptions) -> Self {
        Self { caption, ..Self::default() }
    }
}

/// A picture to be captioned: a file, or its bytes.
#[derive(Clone, Debug)]
pub enum PictureSource {
    /// A file, which is read when its turn comes.
    File(PathBuf),
    /// The bytes of a picture file; `name` is what messages call them.
    Bytes {
        /// What messages call them.
        name: String,
        /// What a picture file holds.
        bytes: Vec<u8>,
    },
}

impl<P: AsRef<Path>> From<P> for PictureSource {
    fn from(path: P) -> Self {
        Self::File(path.as_ref().to_owned())
    }
}

/// What became of one picture of many.
#[derive(Debug)]
#[non_exhaustive]
pub struct PictureCaption {
    /// The number of the picture, in the order in which they were given, from 0.
    pub index: usize,
    /// What was captioned.
    pub source: PictureSource,
    /// SHA-256 of the file's bytes, if it could be read.
    pub content_hash: Option<ContentHash>,
    /// The time of reading and decoding the file.
    pub decode: Duration,
    /// The caption, or why there is none. Other pictures are not concerned.
    pub result: Result<Response>,
}

/// A picture that has been read ahead.
struct Loaded {
    source: PictureSource,
    content_hash: Option<ContentHash>,
    decode: Duration,
    picture: Result<LoadedPicture>,
}

/// A picture, ready for the model.
enum LoadedPicture {
    Views {
        views: Views,
        preprocess: Duration,
    },
    /// From the cache.
    Encoded(EncodedPicture),
}

/// The captions of many pictures, in their order: an iterator of [`PictureCaption`]s, made by [`Model::captions`].
///
/// It computes as it is asked; pictures are read ahead meanwhile. What is being made is lost when it is dropped.
pub struct Captions<'m, I: Iterator<Item: Into<PictureSource>>> {
    model: &'m Model,
    options: BatchOptions,
    loaded: LookAhead<Sources<I>, Loaded>,
    num_admitted: usize,
    batch: ResponseBatch<'m, usize>,
    /// The pictures in the batch.
    pending: Vec<Pending>,
    /// Made before its turn.
    done: BTreeMap<usize, PictureCaption>,
    num_given: usize,
}

/// [`PictureSource`]s of anything that is one.
type Sources<I> = std::iter::Map<I, fn(<I as Iterator>::Item) -> PictureSource>;

/// A picture on its way.
struct Pending {
    index: usize,
    source: PictureSource,
    content_hash: Option<ContentHash>,
    decode: Duration,
    timings: Timings,
}

impl Model {
    /// Captions of many pictures, as the model likes them: an iterator in the order of `pictures`, which are paths or [`PictureSource`]s.
    ///
    /// A picture that fails does not stop the others. The captions are those of [`Model::caption`], to the letter.
    ///
    /// ```
    /// let model = ocelli::Model::bundled()?;
    /// for caption in model.captions(["assets/examples/scene.png", "assets/examples/tall.png"]) {
    ///     match caption.result {
    ///         Ok(response) => println!("{}: {response}", caption.index),
    ///         Err(error) => eprintln!("{error}"),
    ///     }
    /// }
    /// # Ok::<(), ocelli::Error>(())
    /// ```
    pub fn captions<I>(&self, pictures: I) -> Captions<'_, I::IntoIter>
    where
        I: IntoIterator<Item: Into<PictureSource>>,
    {
        self.captions_with(pictures, BatchOptions::default())
    }

    /// [`Model::captions`] with options.
    pub fn captions_with<I>(&self, pictures: I, options: BatchOptions) -> Captions<'_, I::IntoIter>
    where
        I: IntoIterator<Item: Into<PictureSource>>,
    {
        let options =
            BatchOptions { batch_size: options.batch_size.max(1), look_ahead: options.look_ahead.max(1), ..options };
        let loader = Loader {
            model: self.clone(),
            mode: options.caption.mode,
            limits: options.limits,
            cache: options.cache.clone(),
        };
        let load = move |source| loader.load(source);
        let sources: Sources<I::IntoIter> = pictures.into_iter().map(Into::into);
        Captions {
            model: self,
            loaded: LookAhead::new(sources, options.look_ahead, rayon::current_num_threads(), load),
            num_admitted: 0,
            batch: ResponseBatch::new(self, options.caption.session()),
            pending: Vec::new(),
            done: BTreeMap::new(),
            num_given: 0,
            options,
        }
    }
}

/// What the threads that read ahead work with.
struct Loader {
    model: Model,
    mode: Mode,
    limits: Limits,
    cache: Option<Arc<PictureCache>>,
}

impl Loader {
    /// Reads a picture, and makes its views unless the cache has it.
    fn load(&self, source: PictureSource) -> Loaded {
        let start = Instant::now();
        let (mut content_hash, mut decode) = (None, Duration::ZERO);
        let picture = without_panic(&source.name(), || {
            let bytes = source.read(&self.limits)?;
            let hash = *content_hash.insert(ContentHash::of(&bytes));
            if let Some(encoded) = self.cache.as_ref().and_then(|cache| cache.get(&self.model, &hash, self.mode)) {
                decode = start.elapsed();
                return Ok(LoadedPicture::Encoded(encoded));
            }
            let picture = Picture::from_bytes_with(&bytes, &source.name(), &self.limits)?;
            decode = start.elapsed();
            let views = self.model.views(&picture, self.mode)?;
            Ok(LoadedPicture::Views { views, preprocess: start.elapsed() - decode })
        });
        Loaded { source, content_hash, decode, picture }
    }
}

/// What `work` gives; a decoder that panics on a picture costs that picture alone.
fn without_panic<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Cause::Panic { name: name.to_owned() }.into()))
}

impl PictureSource {
    /// What messages call the picture.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Bytes { name, .. } => name.clone(),
        }
    }

    /// The bytes of the file.
    fn read(&self, limits: &Limits) -> Result<Cow<'_, [u8]>> {
        Ok(match self {
            Self::File(path) => Cow::Owned(read_picture_file(path, limits)?),
            Self::Bytes { bytes, .. } => Cow::Borrowed(bytes),
        })
    }
}

impl<I: Iterator<Item: Into<PictureSource>>> Captions<'_, I> {
    /// Takes pictures that have been read into the batch, as many as go through the encoder side by side, if it has room for them. Waits for one only
    /// when there is nothing else to do.
    fn admit(&mut self) {
        let group = rayon::current_num_threads().min(self.options.batch_size);
        if self.options.batch_size - self.batch.len() < group {
            return;
        }
        let (mut pictures, mut views) = (Vec::with_capacity(group), Vec::with_capacity(group));
        while views.len() < group && self.batch.len() + views.len() < self.options.batch_size {
            let is_idle = self.batch.is_empty() && views.is_empty() && self.done.is_empty();
            let loaded = if is_idle { self.loaded.next() } else { self.loaded.next_if_ready() };
            let Some(Loaded { source, content_hash, decode, picture }) = loaded else { break };
            let timings = Timings::default();
            let mut pending = Pending { index: self.num_admitted, source, content_hash, decode, timings };
            self.num_admitted += 1;
            match picture {
                Err(error) => self.give(pending, Err(error)),
                Ok(LoadedPicture::Encoded(encoded)) => self.prefill(pending, encoded),
                Ok(LoadedPicture::Views { views: of_picture, preprocess }) => {
                    pending.timings.preprocess = preprocess;
                    pictures.push(pending);
                    views.push(of_picture);
                }
            }
        }
        for (mut picture, encoded) in pictures.into_iter().zip(self.model.encode_views(&views)) {
            match encoded {
                Err(error) => self.give(picture, Err(error)),
                Ok(encoded) => {
                    picture.timings += encoded.timings();
                    self.keep(&picture, &encoded);
                    self.prefill(picture, encoded);
                }
            }
        }
    }

    /// Puts an encoded picture into the cache. A cache that cannot be written to is not worth a failure: it is given up, with one warning.
    fn keep(&mut self, picture: &Pending, encoded: &EncodedPicture) {
        if let (Some(cache), Some(hash)) = (&self.options.cache, &picture.content_hash)
            && let Err(error) = cache.put(self.model, hash, encoded)
        {
            tracing::warn!(%error, "encoded pictures are not kept any more");
            self.options.cache = None;
        }
    }

    /// Takes an encoded picture into the batch.
    fn prefill(&mut self, picture: Pending, encoded: EncodedPicture) {
        let question = self.options.caption.question(self.model);
        match self.batch.push(picture.index, prompt![encoded, question]) {
            Ok(()) => self.pending.push(picture),
            Err(error) => self.give(picture, Err(error)),
        }
    }

    /// Keeps a result until its turn.
    fn give(&mut self, picture: Pending, result: Result<Response>) {
        let Pending { index, source, content_hash, decode, timings } = picture;
        let result = result.map(|mut response| {
            response.timings += timings;
            self.options.caption.shape(response)
        });
        self.done.insert(index, PictureCaption { index, source, content_hash, decode, result });
    }
}

impl<I: Iterator<Item: Into<PictureSource>>> Iterator for Captions<'_, I> {
    type Item = PictureCaption;

    fn next(&mut self) -> Option<PictureCaption> {
        loop {
            if let Some(caption) = self.done.remove(&self.num_given) {
                self.num_given += 1;
                return Some(caption);
            }
            self.admit();
            if self.batch.is_empty() && self.done.is_empty() {
                return None;
            }
            for (index, result) in self.batch.step() {
                if let Some(position) = self.pending.iter().position(|picture| picture.index == index) {
                    let picture = self.pending.swap_remove(position);
                    self.give(picture, result);
                }
            }
        }
    }
}

impl<I: Iterator<Item: Into<PictureSource>>> FusedIterator for Captions<'_, I> {}

impl<I: Iterator<Item: Into<PictureSource>>> fmt::Debug for Captions<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { options, num_admitted, num_given, .. } = self;
        let mut debug = f.debug_struct("Captions");
        debug.field("options", options).field("num_admitted", num_admitted).field("num_given", num_given);
        debug.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_decoder_that_panics_costs_one_picture() {
        let error = without_panic("a.png", || -> Result<()> { panic!("on purpose") }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("a.png"), "{error}");
    }
}
