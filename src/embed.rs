//! A vision encoder by itself: a picture to one vector.

use std::path::Path;

use ndarray::{Axis, Slice};
use ocelli_vision::{Encoder, ImageProcessor, Mode, Picture, ViewKind};

use crate::bundled;
use crate::error::{Cause, Error, Result};
use crate::inspect::PictureReport;
use crate::model::grids;
use crate::model_dir::ModelDir;

/// The vision encoder of a model, or one that is alone: CLIP, SigLIP, DINOv2.
#[derive(Debug)]
pub struct PictureEncoder {
    name: String,
    processor: ImageProcessor,
    encoder: Encoder,
}

impl PictureEncoder {
    /// The encoder of the model inside this library.
    ///
    /// # Errors
    /// None with an unchanged library.
    pub fn bundled() -> Result<Self> {
        Self::from_dir(bundled::open()?)
    }

    /// Reads the encoder of a model directory, or of a checkpoint as it lies on the Hugging Face hub (`docs/models.md`).
    ///
    /// # Errors
    /// Names the file, and the field or tensor, that is missing, broken or does not fit the others;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a decoder alone.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        Self::from_dir(ModelDir::open(folder.as_ref())?)
    }

    fn from_dir(dir: ModelDir) -> Result<Self> {
        let Some(vision) = dir.vision else {
            let hint = "it is a decoder alone and reads text";
            return Err(Cause::NoSuchPart { model: dir.name, part: "vision encoder", hint }.into());
        };
        let processor = ImageProcessor::new(vision.preprocessor)?;
        let grids = grids(&processor, &vision.config)?;
        let encoder = Encoder::load(&dir.weights.pp("vision"), &vision.config, &grids)?;
        Ok(Self { name: dir.name, processor, encoder })
    }

    /// The name of the model: that of its directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What preprocessing does to `picture` in each mode of the model.
    ///
    /// # Errors
    /// None for an encoder that could be loaded.
    pub fn inspect(&self, picture: &Picture) -> Result<PictureReport> {
        PictureReport::new(picture, &self.processor, self.encoder.config())
    }

    /// The vector of the whole picture, as the model defines it: CLIP's projected class token, SigLIP's attention pooling, DINOv2's class token, the mean
    /// of the registers of a register-window encoder. It is not normalized.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the model does not have this mode;
    /// [`ErrorKind::Numeric`](crate::ErrorKind::Numeric) when the result is not a number.
    pub fn embed(&self, picture: &Picture, mode: Mode) -> Result<Vec<f32>> {
        let views = self.processor.views(picture, mode)?;
        let whole = views.kinds.iter().position(|kind| !matches!(kind, ViewKind::Tile { .. })).unwrap_or(0);
        let view = views.pixel_values.slice_axis(Axis(0), Slice::from(whole..=whole));
        let vector = self.encoder.encode(view)?.pooled.into_raw_vec_and_offset().0;
        if vector.iter().all(|value| value.is_finite()) {
            return Ok(vector);
        }
        Err(Error::from(Cause::NotANumber { model: self.name.clone() }))
    }
}
