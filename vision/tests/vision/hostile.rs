//! Files from a stranger: each ends in an error of the right kind that says which file and what is wrong.

use std::io::{self, Cursor};
use std::path::Path;
use std::time::Instant;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use ocelli_vision::{Error, ErrorKind, Limits, Picture};
use proptest::prelude::*;

const FORMATS: [ImageFormat; 6] =
    [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::Tiff];

/// A picture with enough detail that every part of the file matters.
fn valid(format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(61, 47, |x, y| Rgb([(x * 4) as u8, (y * 5) as u8, (x * y * 37 % 251) as u8]));
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(image).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn read(bytes: &[u8]) -> Result<Picture, Error> {
    Picture::from_bytes_with(bytes, "x.png", &Limits::default())
}

#[test]
fn a_truncated_picture_is_an_error_in_every_format() {
    for format in FORMATS {
        let bytes = valid(format);
        for percent in [10, 50, 90, 99] {
            let cut = &bytes[..bytes.len() * percent / 100];
            match read(cut) {
                Err(error) => {
                    let expected = [ErrorKind::Truncated, ErrorKind::Corrupt];
                    assert!(expected.contains(&error.kind()), "{format:?} at {percent}%: {error}");
                    assert!(error.to_string().contains("x.png"), "{error}");
                }
                Ok(_) => panic!("{format:?} at {percent}% was read"),
            }
        }
    }
}

#[test]
fn what_is_not_a_picture_is_refused_with_the_formats_that_are_read() {
    let cases: [(&[u8], &str); 4] = [
        (b"", "x.png is not a picture: it is empty; PNG, JPEG, WebP, GIF, BMP and TIFF are read"),
        (b"a", "x.png is not a picture: it begins with \"a\"; PNG, JPEG, WebP, GIF, BMP and TIFF are read"),
        (
            b"<!DOCTYPE html>\n<html>",
            "x.png is not a picture: it begins with \"<!DOCTYPE html>\\n\"; PNG, JPEG, WebP, GIF, BMP and TIFF are read",
        ),
        (
            b"\x1b]0;evil\x07",
            "x.png is not a picture: it begins with \"\\x1b]0;evil\\x07\"; PNG, JPEG, WebP, GIF, BMP and TIFF are read",
        ),
    ];
    for (bytes, message) in cases {
        let error = read(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAPicture);
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn formats_of_phones_are_refused_with_a_command_that_converts_them() {
    let cases: [(&[u8], &str); 6] = [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\xff\x0a\0\0\0", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", ""),
    ];
    for (bytes, format) in cases {
        let error = read(bytes).unwrap_err();
        if format.is_empty() {
            assert_eq!(error.kind(), ErrorKind::NotAPicture, "{error}");
        } else {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains(&format!("{format} picture")), "{error}");
            assert!(error.to_string().contains("convert it first: "), "{error}");
        }
    }
}

/// A PNG's start: signature and header chunk with its check sum, then an empty data chunk.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    for chunk in [&header[..], b"IDAT"] {
        bytes.extend((chunk.len() as u32 - 4).to_be_bytes());
        bytes.extend(chunk);
        bytes.extend(crc32(chunk).to_be_bytes());
    }
    bytes
}

/// The check sum of PNG (ISO 3309), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

fn gif_header(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = b"GIF89a".to_vec();
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    // No colour table; one frame of the whole canvas, whose data are missing.
    bytes.extend([0, 0, 0, 0x2c, 0, 0, 0, 0]);
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    bytes.extend([0, 2, 0]);
    bytes
}

fn bmp_header(width: i32, height: i32) -> Vec<u8> {
    let mut bytes = b"BM\0\0\0\0\0\0\0\0".to_vec();
    for value in [54, 40, width as u32, height as u32] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    bytes
}

/// A valid JPEG whose frame header declares another size.
fn jpeg_of_size(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = valid(ImageFormat::Jpeg);
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// A little-endian TIFF of one 8-bit grey strip that is not there.
fn tiff_of_size(width: u32, height: u32) -> Vec<u8> {
    let entries: [(u16, u32); 8] =
        [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 200), (278, height), (279, u32::MAX)];
    let mut bytes = b"II\x2a\0\x08\0\0\0".to_vec();
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, value) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(4u16.to_le_bytes()); // LONG
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}

/// An extended WebP header (VP8X) of up to 2^24 x 2^24 pixels.
fn webp_of_size(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0".to_vec();
    bytes.extend(&(width - 1).to_le_bytes()[..3]);
    bytes.extend(&(height - 1).to_le_bytes()[..3]);
    bytes
}

#[test]
fn a_small_file_that_declares_a_huge_picture_is_refused_at_once() {
    let bombs = [
        ("PNG 60000", png_header(60_000, 60_000)),
        ("PNG 2^31 - 1", png_header(i32::MAX as u32, i32::MAX as u32)),
        ("PNG line", png_header(i32::MAX as u32, 1)),
        ("PNG line of the most pixels", png_header(1, 100_000_000)),
        ("GIF", gif_header(65_535, 65_535)),
        ("BMP", bmp_header(60_000, 60_000)),
        ("BMP from the top", bmp_header(60_000, -60_000)),
        ("JPEG", jpeg_of_size(65_500, 65_500)),
        ("TIFF", tiff_of_size(60_000, 60_000)),
    ];
    for (name, bytes) in bombs {
        let start = Instant::now();
        let error = read(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{name}: {error}");
        assert!(start.elapsed().as_millis() < 500, "{name}: {:?}", start.elapsed());
    }
    // A WebP header without data is damaged or too large: either way nothing is reserved.
    let error = read(&webp_of_size(1 << 24, 1 << 24)).unwrap_err();
    assert!([ErrorKind::TooLarge, ErrorKind::Corrupt, ErrorKind::Truncated].contains(&error.kind()), "{error}");
}

#[test]
fn the_message_of_a_bomb_has_its_size_and_the_limit() {
    let error = read(&png_header(60_000, 60_000)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "x.png has 60000 x 60000 pixels, the limit is 100000000 pixels: scale it down or raise the limit \
         (Limits::max_pixels)"
    );
}

#[test]
fn a_picture_without_pixels_is_refused() {
    let cases = [
        ("PNG 0 x 0", png_header(0, 0)),
        ("PNG 1 x 0", png_header(1, 0)),
        ("GIF 0 x 0", gif_header(0, 0)),
        ("BMP 0 x 0", bmp_header(0, 0)),
        ("BMP 5 x 0", bmp_header(5, 0)),
    ];
    for (name, bytes) in cases {
        let error = read(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Empty, "{name}: {error}");
    }
    for (name, bytes) in [("JPEG", jpeg_of_size(0, 0)), ("TIFF", tiff_of_size(0, 0))] {
        let error = read(&bytes).unwrap_err();
        assert!(
            [ErrorKind::Empty, ErrorKind::Corrupt, ErrorKind::Unsupported].contains(&error.kind()),
            "{name}: {error}"
        );
    }
}

#[test]
fn limits_can_be_set() {
    let bytes = valid(ImageFormat::Png);
    let read = |limits: Limits| Picture::from_bytes_with(&bytes, "x.png", &limits);
    assert!(read(Limits::default().with_max_pixels(61 * 47)).is_ok());
    let error = read(Limits::default().with_max_pixels(61 * 47 - 1)).unwrap_err();
    assert!(matches!(error, Error::TooManyPixels { width: 61, height: 47, .. }), "{error:?}");
    let error = read(Limits::default().with_max_bytes(100)).unwrap_err();
    assert!(matches!(error, Error::TooManyBytes { max_bytes: 100, .. }), "{error:?}");
    let mut limits = Limits::default();
    limits.max_side = 60;
    let error = read(limits).unwrap_err();
    assert!(matches!(error, Error::TooLong { width: 61, height: 47, max_side: 60, .. }), "{error:?}");
    let mut limits = Limits::default();
    limits.max_decoded_bytes = 61 * 47 * 3 - 1;
    let error = read(limits).unwrap_err();
    assert!(matches!(error, Error::TooMuchMemory { width: 61, height: 47, .. }), "{error:?}");
}

#[test]
fn an_endless_stream_is_read_up_to_the_limit() {
    let limits = Limits::default().with_max_bytes(1 << 20);
    let error = Picture::from_reader(io::repeat(0x89), "standard input", &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().starts_with("standard input has too many bytes, the limit is 1048576"), "{error}");
}

#[test]
fn a_missing_file_and_a_directory_are_errors_with_their_path() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.png");
    let error = Picture::open(&missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("missing.png"), "{error}");
    let error = Picture::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().ends_with("is a directory, expected a picture file"), "{error}");
}

#[test]
fn a_file_above_the_limit_is_refused_without_being_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.png");
    // A sparse file: 1 TB long, nothing on the disk.
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let error = Picture::open(&path).unwrap_err();
    assert!(matches!(error, Error::TooManyBytes { num_bytes: Some(_), .. }), "{error:?}");
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.png");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for path in [&pipe, Path::new("/dev/zero")] {
        let error = Picture::open(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().ends_with("is a pipe or a device, expected a picture file"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_damaged_picture_never_panics(
        format in 0..FORMATS.len(), position in any::<prop::sample::Index>(), bits in 1..=255u8, cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = valid(FORMATS[format]);
        let position = position.index(bytes.len());
        bytes[position] ^= bits;
        let limits = Limits::default().with_max_pixels(1_000_000);
        let _ = Picture::from_bytes_with(&bytes, "x", &limits);
        bytes.truncate(cut.index(bytes.len()));
        let _ = Picture::from_bytes_with(&bytes, "x", &limits);
    }

    #[test]
    fn noise_after_a_signature_never_panics(format in 0..FORMATS.len(), noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = valid(FORMATS[format]);
        bytes.truncate(12);
        bytes.extend(noise);
        let _ = Picture::from_bytes_with(&bytes, "x", &Limits::default().with_max_pixels(1_000_000));
    }
}
