//! Bytes to oriented 8-bit RGB: limits first, then the decoder, then colour.
//!
//! Alpha goes over white, 16-bit samples are rounded, grey is repeated, and the EXIF orientation is applied, so that
//! the rest of the crate sees one kind of picture.

use std::io::{self, Cursor};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, RgbImage};

use crate::error::{Error, Result};
use crate::format::PictureFormat;
use crate::jpeg;
use crate::limits::Limits;

/// Most memory that a PNG decoder may use for what surrounds the pixels (colour profiles can be compressed bombs).
const MAX_PNG_METADATA_BYTES: u64 = 64 << 20;

/// A decoded picture and how it was stored.
pub(crate) struct Decoded {
    pub(crate) image: RgbImage,
    pub(crate) orientation: Orientation,
    pub(crate) format: PictureFormat,
}

/// Decodes `bytes`; `name` is what messages call them.
pub(crate) fn decode(bytes: &[u8], name: &str, limits: &Limits) -> Result<Decoded> {
    let num_bytes = bytes.len() as u64;
    if num_bytes > limits.max_bytes {
        return Err(Error::TooManyBytes {
            name: name.to_owned(),
            num_bytes: Some(num_bytes),
            max_bytes: limits.max_bytes,
        });
    }
    let format = PictureFormat::detect(bytes, name)?;
    if let Some((width, height)) = declared_size(format, bytes) {
        check_size(width, height, name, limits)?;
    }
    if format == PictureFormat::Jpeg && !jpeg::is_complete(bytes) {
        return Err(truncated(bytes, name, format));
    }
    let failed = |error: ImageError| decoder_error(error, bytes, name, format, limits);

    let mut decoder_limits = image::Limits::no_limits();
    decoder_limits.max_alloc = Some(match format {
        PictureFormat::Png => limits.max_decoded_bytes.min(MAX_PNG_METADATA_BYTES),
        _ => limits.max_decoded_bytes,
    });
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format.decoder_format());
    reader.limits(decoder_limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;

    let (width, height) = decoder.dimensions();
    check_size(width, height, name, limits)?;
    // `into_decoder` does not compare the size of the samples with the limit.
    if decoder.total_bytes() > limits.max_decoded_bytes {
        return Err(Error::TooMuchMemory {
            name: name.to_owned(),
            width,
            height,
            max_decoded_bytes: limits.max_decoded_bytes,
        });
    }
    // A broken EXIF block is no reason to refuse the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let decoded = DynamicImage::from_decoder(decoder).map_err(failed)?;
    let mut upright = DynamicImage::ImageRgb8(to_rgb8(decoded));
    upright.apply_orientation(orientation);
    Ok(Decoded { image: upright.into_rgb8(), orientation, format })
}

/// An error when there is no pixel, too many, or too many in a line.
pub(crate) fn check_size(width: u32, height: u32, name: &str, limits: &Limits) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::Empty { name: name.to_owned(), width, height });
    }
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(Error::TooManyPixels { name: name.to_owned(), width, height, max_pixels: limits.max_pixels });
    }
    if width.max(height) > limits.max_side {
        return Err(Error::TooLong { name: name.to_owned(), width, height, max_side: limits.max_side });
    }
    Ok(())
}

/// The size in the header of a PNG, GIF or BMP, for sizes that the decoder refuses with a vaguer message.
fn declared_size(format: PictureFormat, bytes: &[u8]) -> Option<(u32, u32)> {
    let field = |at: usize| bytes.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok());
    match format {
        PictureFormat::Png => Some((u32::from_be_bytes(field(16)?), u32::from_be_bytes(field(20)?))),
        PictureFormat::Gif => {
            let [w0, w1, h0, h1] = field(6)?;
            Some((u16::from_le_bytes([w0, w1]).into(), u16::from_le_bytes([h0, h1]).into()))
        }
        // A header of 40 bytes or more; a negative height means rows from top to bottom.
        PictureFormat::Bmp if u32::from_le_bytes(field(14)?) >= 40 => {
            let (width, height) = (i32::from_le_bytes(field(18)?), i32::from_le_bytes(field(22)?));
            Some((width.unsigned_abs(), height.unsigned_abs()))
        }
        _ => None,
    }
}

fn truncated(bytes: &[u8], name: &str, format: PictureFormat) -> Error {
    Error::Truncated { name: name.to_owned(), format: format.name(), num_bytes: bytes.len() }
}

fn decoder_error(error: ImageError, bytes: &[u8], name: &str, format: PictureFormat, limits: &Limits) -> Error {
    let (name, format_name) = (name.to_owned(), format.name());
    match &error {
        ImageError::Limits(_) => {
            let (width, height) = declared_size(format, bytes).unwrap_or_default();
            Error::TooMuchMemory { name, width, height, max_decoded_bytes: limits.max_decoded_bytes }
        }
        ImageError::Unsupported(reason) => {
            Error::UnsupportedVariant { name, format: format_name, reason: reason.to_string() }
        }
        _ if ends_early(&error) => truncated(bytes, &name, format),
        _ => Error::Corrupt { name, format: format_name, reason: error.to_string() },
    }
}

/// True when the end of the data is somewhere in the chain of causes.
fn ends_early(error: &ImageError) -> bool {
    if let ImageError::IoError(io) = error {
        return io.kind() == io::ErrorKind::UnexpectedEof;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<io::Error>() {
            return io.kind() == io::ErrorKind::UnexpectedEof;
        }
        cause = current.source();
    }
    false
}

/// Any samples to 8-bit RGB, alpha over white.
pub(crate) fn to_rgb8(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let pixels: Vec<u8> = match image {
        DynamicImage::ImageRgb8(image) => return image,
        DynamicImage::ImageLuma8(image) => image.as_raw().iter().flat_map(|&grey| [grey; 3]).collect(),
        DynamicImage::ImageLumaA8(image) => {
            image.pixels().flat_map(|pixel| [over_white(pixel.0[0], pixel.0[1]); 3]).collect()
        }
        DynamicImage::ImageRgba8(image) => rgba8_over_white(image.into_raw()),
        DynamicImage::ImageLuma16(image) => image.as_raw().iter().flat_map(|&grey| [to_8_bits(grey); 3]).collect(),
        DynamicImage::ImageLumaA16(image) => image
            .pixels()
            .flat_map(|pixel| {
                let [grey, alpha] = pixel.0.map(to_8_bits);
                [over_white(grey, alpha); 3]
            })
            .collect(),
        DynamicImage::ImageRgb16(image) => image.as_raw().iter().map(|&sample| to_8_bits(sample)).collect(),
        DynamicImage::ImageRgba16(image) => image
            .pixels()
            .flat_map(|pixel| {
                let [r, g, b, alpha] = pixel.0.map(to_8_bits);
                [r, g, b].map(|sample| over_white(sample, alpha))
            })
            .collect(),
        DynamicImage::ImageRgb32F(image) => image.as_raw().iter().map(|&sample| unit_to_8_bits(sample)).collect(),
        DynamicImage::ImageRgba32F(image) => image
            .pixels()
            .flat_map(|pixel| {
                let [r, g, b, alpha] = pixel.0.map(unit_to_8_bits);
                [r, g, b].map(|sample| over_white(sample, alpha))
            })
            .collect(),
        // `DynamicImage` may gain kinds: the library's own conversion serves them.
        other => return to_rgb8(DynamicImage::ImageRgba8(other.into_rgba8())),
    };
    // Three bytes were made of each pixel, so that the buffer always fits.
    RgbImage::from_raw(width, height, pixels).unwrap_or_else(|| RgbImage::new(width, height))
}

/// Drops the alpha channel in place: the third byte of a pixel is written at or before the place it is read from.
fn rgba8_over_white(mut samples: Vec<u8>) -> Vec<u8> {
    let num_pixels = samples.len() / 4;
    for pixel in 0..num_pixels {
        let alpha = samples[4 * pixel + 3];
        for channel in 0..3 {
            samples[3 * pixel + channel] = over_white(samples[4 * pixel + channel], alpha);
        }
    }
    samples.truncate(3 * num_pixels);
    samples
}

/// `sample * a + white * (1 - a)`, rounded, with `alpha` 0..=255 for a in 0..=1.
fn over_white(sample: u8, alpha: u8) -> u8 {
    let blend = u32::from(sample) * u32::from(alpha) + 255 * (255 - u32::from(alpha));
    ((blend + 127) / 255) as u8
}

/// 0..=65535 to 0..=255, rounded: 65535 / 255 = 257.
fn to_8_bits(sample: u16) -> u8 {
    ((u32::from(sample) + 128) / 257) as u8
}

/// 0.0..=1.0 to 0..=255, rounded; what lies outside is clamped, not-a-number is 0.
fn unit_to_8_bits(sample: f32) -> u8 {
    (sample.clamp(0.0, 1.0) * 255.0).round() as u8
}
