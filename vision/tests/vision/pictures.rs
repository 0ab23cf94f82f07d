//! Pictures of every format, colour type and orientation.

use std::io::Cursor;

use image::codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder};
use image::{
    DynamicImage, ExtendedColorType, ImageBuffer, ImageEncoder, ImageFormat, Luma, LumaA, Rgb, Rgb32FImage, RgbImage,
    Rgba,
};
use ocelli_vision::{ErrorKind, Limits, Picture};

use crate::golden;

/// A picture with four different quadrants and unequal sides: each of the eight orientations looks different.
fn quadrants(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| match (x < width / 2, y < height / 2) {
        (true, true) => Rgb([220, 30, 40]),
        (false, true) => Rgb([20, 160, 60]),
        (true, false) => Rgb([30, 60, 200]),
        (false, false) => Rgb([250, 240, 90]),
    })
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The largest difference of two pictures in levels, at the middles of their quadrants.
fn difference_of_quadrants(found: &Picture, expected: &RgbImage) -> i32 {
    assert_eq!((found.width(), found.height()), expected.dimensions());
    let (width, height) = expected.dimensions();
    let middles = [
        (width / 4, height / 4),
        (width * 3 / 4, height / 4),
        (width / 4, height * 3 / 4),
        (width * 3 / 4, height * 3 / 4),
    ];
    let levels = middles.into_iter().flat_map(|(x, y)| {
        let (found, expected) = (found.as_rgb8().get_pixel(x, y).0, expected.get_pixel(x, y).0);
        (0..3).map(move |channel| (i32::from(found[channel]) - i32::from(expected[channel])).abs())
    });
    levels.max().unwrap()
}

#[test]
fn every_format_is_read_by_its_content() {
    let image = quadrants(48, 32);
    let dynamic = DynamicImage::ImageRgb8(image.clone());
    for (format, name) in [
        (ImageFormat::Png, "PNG"),
        (ImageFormat::WebP, "WebP"),
        (ImageFormat::Gif, "GIF"),
        (ImageFormat::Bmp, "BMP"),
        (ImageFormat::Tiff, "TIFF"),
    ] {
        let picture = Picture::from_bytes(&encoded(&dynamic, format)).unwrap();
        assert_eq!(picture.format(), Some(name));
        assert_eq!(picture.orientation(), 1);
        assert_eq!(difference_of_quadrants(&picture, &image), 0, "{name}");
        assert_eq!(picture.as_rgb8(), &image, "{name}");
    }
    let jpeg = Picture::from_bytes(&encoded(&dynamic, ImageFormat::Jpeg)).unwrap();
    assert_eq!(jpeg.format(), Some("JPEG"));
    assert!(difference_of_quadrants(&jpeg, &image) <= 8);
}

#[test]
fn a_wrong_extension_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.jpg");
    std::fs::write(&path, encoded(&quadrants(8, 8).into(), ImageFormat::Png)).unwrap();
    assert_eq!(Picture::open(&path).unwrap().format(), Some("PNG"));
}

/// Files that Pillow wrote, with the same four blocks of 16 x 16; the tolerance is that of their lossy coding.
#[test]
fn files_of_other_programs_are_read() {
    let expected = quadrants(32, 32);
    for (name, tolerance) in
        [("palette.png", 0), ("progressive.jpg", 6), ("lossy.webp", 12), ("cmyk.jpg", 8), ("two_frames.gif", 0)]
    {
        let picture = Picture::open(golden("pictures").join(name)).unwrap();
        let difference = difference_of_quadrants(&picture, &expected);
        assert!(difference <= tolerance, "{name}: {difference} levels");
    }
    let bilevel = Picture::open(golden("pictures/bilevel.png")).unwrap();
    assert_eq!(bilevel.as_rgb8().get_pixel(24, 24).0, [255; 3]);
    assert_eq!(bilevel.as_rgb8().get_pixel(4, 4).0, [0; 3]);
}

/// An EXIF block with one tag, the orientation.
fn exif(orientation: u16, little_endian: bool) -> Vec<u8> {
    let u16_bytes = |value: u16| if little_endian { value.to_le_bytes() } else { value.to_be_bytes() };
    let u32_bytes = |value: u32| if little_endian { value.to_le_bytes() } else { value.to_be_bytes() };
    let mut block = if little_endian { b"II".to_vec() } else { b"MM".to_vec() };
    block.extend(u16_bytes(42));
    block.extend(u32_bytes(8));
    block.extend(u16_bytes(1));
    block.extend(u16_bytes(0x0112));
    block.extend(u16_bytes(3)); // SHORT
    block.extend(u32_bytes(1));
    block.extend(u16_bytes(orientation));
    block.extend(u16_bytes(0));
    block.extend(u32_bytes(0));
    block
}

/// How an upright picture is stored under an EXIF orientation: "the 0th row is at the visual ..., the 0th column at the
/// visual ..." (EXIF 2.3, tag 0x0112).
fn stored(upright: &RgbImage, orientation: u16) -> RgbImage {
    let (width, height) = upright.dimensions();
    let (stored_width, stored_height) = if orientation >= 5 { (height, width) } else { (width, height) };
    RgbImage::from_fn(stored_width, stored_height, |column, row| {
        let (x, y) = match orientation {
            1 => (column, row),                          // row 0 at the top, column 0 at the left
            2 => (width - 1 - column, row),              // top, right
            3 => (width - 1 - column, height - 1 - row), // bottom, right
            4 => (column, height - 1 - row),             // bottom, left
            5 => (row, column),                          // left, top
            6 => (width - 1 - row, column),              // right, top
            7 => (width - 1 - row, height - 1 - column), // right, bottom
            _ => (row, height - 1 - column),             // left, bottom
        };
        *upright.get_pixel(x, y)
    })
}

fn encoded_with_exif(image: &RgbImage, format: ImageFormat, exif: Vec<u8>) -> Vec<u8> {
    fn write(mut encoder: impl ImageEncoder, image: &RgbImage, exif: Vec<u8>) {
        encoder.set_exif_metadata(exif).unwrap();
        encoder.write_image(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8).unwrap();
    }
    let mut bytes = Vec::new();
    match format {
        ImageFormat::Jpeg => write(JpegEncoder::new_with_quality(&mut bytes, 95), image, exif),
        ImageFormat::Png => write(PngEncoder::new(&mut bytes), image, exif),
        _ => write(WebPEncoder::new_lossless(&mut bytes), image, exif),
    }
    bytes
}

#[test]
fn all_eight_orientations_are_applied_in_both_byte_orders() {
    let upright = quadrants(48, 32);
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        for (orientation, little_endian) in (1..=8).flat_map(|o| [(o, true), (o, false)]) {
            let stored = stored(&upright, orientation);
            let bytes = encoded_with_exif(&stored, format, exif(orientation, little_endian));
            let picture = Picture::from_bytes(&bytes).unwrap();
            let what = format!("{format:?}, orientation {orientation}, little endian {little_endian}");
            assert_eq!(u16::from(picture.orientation()), orientation, "{what}");
            assert_eq!(picture.stored_size(), stored.dimensions(), "{what}");
            assert!(difference_of_quadrants(&picture, &upright) <= 8, "{what}");
        }
    }
}

#[test]
fn an_orientation_that_does_not_exist_is_ignored() {
    let upright = quadrants(48, 32);
    for orientation in [0, 9, 65535] {
        let bytes = encoded_with_exif(&upright, ImageFormat::Png, exif(orientation, true));
        let picture = Picture::from_bytes(&bytes).unwrap();
        assert_eq!((picture.orientation(), picture.as_rgb8()), (1, &upright), "{orientation}");
    }
}

/// The only pixel of a 1 x 1 picture that goes through a PNG.
fn through_png(image: impl Into<DynamicImage>) -> [u8; 3] {
    Picture::from_bytes(&encoded(&image.into(), ImageFormat::Png)).unwrap().as_rgb8().get_pixel(0, 0).0
}

#[test]
fn alpha_goes_over_white() {
    let rgba = |pixel| through_png(ImageBuffer::from_pixel(1, 1, Rgba::<u8>(pixel)));
    assert_eq!(rgba([10, 200, 30, 255]), [10, 200, 30]);
    assert_eq!(rgba([10, 200, 30, 0]), [255, 255, 255]);
    // 0.4 of the colour and 0.6 of white.
    assert_eq!(rgba([10, 200, 30, 102]), [157, 233, 165]);
    assert_eq!(through_png(ImageBuffer::from_pixel(1, 1, LumaA::<u8>([10, 102]))), [157; 3]);
    assert_eq!(through_png(ImageBuffer::from_pixel(1, 1, Rgba::<u16>([2570, 51400, 7710, 26214]))), [157, 233, 165]);
    assert_eq!(through_png(ImageBuffer::from_pixel(1, 1, LumaA::<u16>([2570, 26214]))), [157; 3]);
}

#[test]
fn grey_and_16_bit_samples_become_8_bit_rgb() {
    assert_eq!(through_png(ImageBuffer::from_pixel(1, 1, Luma::<u8>([77]))), [77; 3]);
    assert_eq!(through_png(ImageBuffer::from_pixel(1, 1, Luma::<u16>([77 * 257 + 100]))), [77; 3]);
    assert_eq!(through_png(ImageBuffer::from_pixel(1, 1, Luma::<u16>([77 * 257 + 129]))), [78; 3]);
    assert_eq!(through_png(ImageBuffer::from_pixel(1, 1, Rgb::<u16>([0, 65535, 32896]))), [0, 255, 128]);
}

#[test]
fn floats_are_clamped_and_not_a_number_is_black() {
    let image = Rgb32FImage::from_pixel(1, 1, Rgb([f32::NAN, 7.0, 0.5]));
    let from_memory = Picture::from_dynamic_image(image.clone().into()).unwrap();
    assert_eq!(from_memory.as_rgb8().get_pixel(0, 0).0, [0, 255, 128]);
    let from_tiff = Picture::from_bytes(&encoded(&image.into(), ImageFormat::Tiff)).unwrap();
    assert_eq!(from_tiff.as_rgb8().get_pixel(0, 0).0, [0, 255, 128]);
}

#[test]
fn a_picture_in_memory_needs_a_pixel() {
    for (width, height) in [(0, 0), (1, 0), (0, 1)] {
        let error = Picture::from_dynamic_image(DynamicImage::new_rgb8(width, height)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Empty);
    }
}

#[test]
fn extreme_proportions_are_read() {
    for (width, height) in [(1, 1), (1, 30_000), (30_000, 1)] {
        let bytes = encoded(&DynamicImage::new_rgb8(width, height), ImageFormat::Png);
        let picture = Picture::from_bytes(&bytes).unwrap();
        assert_eq!((picture.width(), picture.height()), (width, height));
    }
}

#[test]
fn a_stream_is_read_to_its_end() {
    let bytes = encoded(&quadrants(8, 6).into(), ImageFormat::Png);
    let picture = Picture::from_reader(&bytes[..], "standard input", &Limits::default()).unwrap();
    assert_eq!((picture.width(), picture.height()), (8, 6));
}
