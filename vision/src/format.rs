//! Which picture format some bytes are, by their first bytes: a file's extension is not trusted.

use crate::error::{Error, Result};

/// A format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PictureFormat {
    Png,
    Jpeg,
    WebP,
    Gif,
    Bmp,
    Tiff,
}

impl PictureFormat {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
        }
    }

    pub(crate) fn decoder_format(self) -> image::ImageFormat {
        match self {
            Self::Png => image::ImageFormat::Png,
            Self::Jpeg => image::ImageFormat::Jpeg,
            Self::WebP => image::ImageFormat::WebP,
            Self::Gif => image::ImageFormat::Gif,
            Self::Bmp => image::ImageFormat::Bmp,
            Self::Tiff => image::ImageFormat::Tiff,
        }
    }

    /// The format of `bytes`, which `name` calls in messages.
    ///
    /// # Errors
    /// `NotAPicture`, or `Unsupported` for HEIC, AVIF and JPEG XL, with a command that converts them.
    pub(crate) fn detect(bytes: &[u8], name: &str) -> Result<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Ok(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Self::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Self::Gif),
            [b'B', b'M', _, _, _, _, ..] => Ok(Self::Bmp),
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Ok(Self::Tiff),
            _ => Err(unreadable(bytes, name)),
        }
    }
}

fn unreadable(bytes: &[u8], name: &str) -> Error {
    let unsupported = |format, advice| Error::UnsupportedFormat { name: name.to_owned(), format, advice };
    match bytes {
        // ISO base media: a box `ftyp` with a brand.
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => match brand.get(..4) {
            Some(b"avif" | b"avis") => return unsupported("AVIF", "avifdec picture.avif picture.png"),
            Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1") => {
                return unsupported("HEIC", "heif-convert picture.heic picture.jpg (or on macOS: sips -s format jpeg)");
            }
            _ => {}
        },
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', 13, 10, 0x87, 10, ..] => {
            return unsupported("JPEG XL", "djxl picture.jxl picture.png");
        }
        _ => {}
    }
    let head = &bytes[..bytes.len().min(16)];
    let found =
        if bytes.is_empty() { "it is empty".to_owned() } else { format!("it begins with \"{}\"", head.escape_ascii()) };
    Error::NotAPicture { name: name.to_owned(), found }
}
