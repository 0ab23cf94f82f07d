//! A picture: decoded, upright, 8-bit RGB.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use crate::decode::{check_size, decode, to_rgb8};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// The bytes of a picture file, not yet decoded, so that whoever wants to can look at them first.
///
/// # Errors
/// When the file cannot be read, is above `limits.max_bytes`, or is a directory, pipe or device, which is not read.
pub fn read_picture_file(path: impl AsRef<Path>, limits: &Limits) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let failed = |source| Error::Read { path: path.to_owned(), source };
    // Before opening: opening a pipe waits for a writer.
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a directory" } else { "a pipe or a device" };
        return Err(Error::NotAFile { path: path.to_owned(), found });
    }
    let name = path.display().to_string();
    if metadata.len() > limits.max_bytes {
        let num_bytes = Some(metadata.len());
        return Err(Error::TooManyBytes { name, num_bytes, max_bytes: limits.max_bytes });
    }
    read_picture_stream(File::open(path).map_err(failed)?, &name, limits)
}

/// The bytes of a stream to its end; `name` is what messages call it.
///
/// # Errors
/// When it cannot be read, or is longer than `limits.max_bytes`.
pub fn read_picture_stream(reader: impl Read, name: &str, limits: &Limits) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(limits.max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| Error::ReadStream { name: name.to_owned(), source })?;
    if bytes.len() as u64 > limits.max_bytes {
        return Err(Error::TooManyBytes { name: name.to_owned(), num_bytes: None, max_bytes: limits.max_bytes });
    }
    Ok(bytes)
}

/// A decoded picture: upright (EXIF orientation applied), alpha over white, 8-bit RGB, at least one pixel.
#[derive(Clone)]
pub struct Picture {
    image: RgbImage,
    orientation: Orientation,
    format: Option<&'static str>,
}

impl Picture {
    /// Reads the file at `path` with the default [`Limits`]. The format is recognised by content.
    ///
    /// # Errors
    /// [`crate::ErrorKind`] says whether the file could not be read, is no picture, is damaged or is above a limit.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Limits::default())
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// As [`Picture::open`]. A directory, pipe or device is refused without being read.
    pub fn open_with(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        let path = path.as_ref();
        Self::from_bytes_with(&read_picture_file(path, limits)?, &path.display().to_string(), limits)
    }

    /// Reads a stream to its end, or until it is longer than `limits.max_bytes`; `name` is what messages call it.
    ///
    /// # Errors
    /// As [`Picture::open`].
    pub fn from_reader(reader: impl Read, name: &str, limits: &Limits) -> Result<Self> {
        Self::from_bytes_with(&read_picture_stream(reader, name, limits)?, name, limits)
    }

    /// Decodes the bytes of a picture file with the default [`Limits`].
    ///
    /// # Errors
    /// As [`Picture::open`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_bytes_with(bytes, "the picture", &Limits::default())
    }

    /// Decodes the bytes of a picture file; `name` is what messages call them.
    ///
    /// # Errors
    /// As [`Picture::open`].
    pub fn from_bytes_with(bytes: &[u8], name: &str, limits: &Limits) -> Result<Self> {
        let decoded = decode(bytes, name, limits)?;
        Ok(Self { image: decoded.image, orientation: decoded.orientation, format: Some(decoded.format.name()) })
    }

    /// Takes a picture that is already decoded; it counts as upright.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Empty`] when it has no pixels.
    pub fn from_dynamic_image(image: DynamicImage) -> Result<Self> {
        let no_limit = Limits::default().with_max_pixels(u64::MAX);
        check_size(image.width(), image.height(), "the picture", &no_limit)?;
        Ok(Self { image: to_rgb8(image), orientation: Orientation::NoTransforms, format: None })
    }

    /// Width in pixels, upright.
    pub fn width(&self) -> u32 {
        self.image.width()
    }

    /// Height in pixels, upright.
    pub fn height(&self) -> u32 {
        self.image.height()
    }

    /// Width and height in pixels as stored in the file, before the orientation was applied.
    pub fn stored_size(&self) -> (u32, u32) {
        match self.orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => (self.height(), self.width()),
            _ => (self.width(), self.height()),
        }
    }

    /// The EXIF orientation that was applied, 1 (none) to 8.
    pub fn orientation(&self) -> u8 {
        self.orientation.to_exif()
    }

    /// The format of the file (`"JPEG"`), if the picture came from one.
    pub fn format(&self) -> Option<&'static str> {
        self.format
    }

    /// The pixels, upright.
    pub fn as_rgb8(&self) -> &RgbImage {
        &self.image
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Picture")
            .field("width", &self.width())
            .field("height", &self.height())
            .field("orientation", &self.orientation())
            .field("format", &self.format)
            .finish()
    }
}
