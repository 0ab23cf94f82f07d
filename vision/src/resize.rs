//! Resampling in 8 bits, antialiased as PIL does it: the kernel is widened by the scale when a picture shrinks.
//!
//! Bicubic is Catmull-Rom (a = -0.5), PIL's `BICUBIC`. The full picture is never copied as floats.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

/// 100 MB of RGB.
const MAX_PIXELS_BETWEEN_PASSES: i64 = 1 << 25;

/// What is kept of one axis of a resized picture, in pixels.
#[derive(Clone, Copy)]
struct Cut {
    /// Length of the whole axis, resized.
    side: usize,
    /// The first pixel that is kept.
    first: usize,
    /// How many are kept.
    kept: usize,
}

impl Cut {
    fn whole(side: usize) -> Self {
        Self { side, first: 0, kept: side }
    }

    /// Start and length of the kept part on the axis before resizing, of `source` pixels.
    fn span(self, source: u32) -> (f64, f64) {
        let source = f64::from(source);
        let before = |pixels: usize| pixels as f64 * source / self.side as f64;
        let start = before(self.first);
        // Rounding must not lead out of the picture.
        (start, before(self.kept).min(source - start))
    }
}

/// `picture` at `width` x `height`.
///
/// `resample`: PIL's number, checked by the configuration (1 Lanczos, 2 bilinear, 3 bicubic).
pub(crate) fn stretch(picture: &RgbImage, width: usize, height: usize, resample: u32) -> RgbImage {
    stretch_part(picture, Cut::whole(width), Cut::whole(height), resample)
}

/// `picture` with its proportions, as large as `width` x `height` allow, centred on `background`.
pub(crate) fn pad(picture: &RgbImage, width: usize, height: usize, resample: u32, background: [u8; 3]) -> RgbImage {
    let (inner_width, inner_height) = fitted_size(picture.dimensions(), (width as u32, height as u32));
    let inner = stretch(picture, inner_width as usize, inner_height as usize, resample);
    let mut canvas = RgbImage::from_pixel(width as u32, height as u32, image::Rgb(background));
    let (left, top) = ((width as u32 - inner_width) / 2, (height as u32 - inner_height) / 2);
    image::imageops::replace(&mut canvas, &inner, left.into(), top.into());
    canvas
}

/// The centre `size` x `size` of `picture` with `shortest` as its shortest side, black outside the picture.
///
/// ```text
/// long side      floor(shortest * long / short)
/// cut from       floor((side - size) / 2) where the side is longer than size
/// placed at      ceil((size - side) / 2)  where it is shorter
/// ```
///
/// Source: `CLIPImageProcessor` and `BitImageProcessor` of Hugging Face transformers 5.23 (`get_resize_output_image_size`, `center_crop`).
/// Only what is kept is computed: a picture of 65535 x 1 pixels would be millions of pixels long.
pub(crate) fn crop(picture: &RgbImage, shortest: usize, size: usize, resample: u32) -> RgbImage {
    let (source_width, source_height) = picture.dimensions();
    let short = u64::from(source_width.min(source_height));
    let cut = |source: u32| {
        let side = (shortest as u64 * u64::from(source) / short) as usize;
        let kept = side.min(size);
        Cut { side, first: (side - kept) / 2, kept }
    };
    let (across, down) = (cut(source_width), cut(source_height));
    let kept = stretch_part(picture, across, down, resample);
    if [across.kept, down.kept] == [size, size] {
        return kept;
    }
    let [left, top] = [across, down].map(|cut| (size - cut.kept).div_ceil(2) as i64);
    let mut canvas = RgbImage::new(size as u32, size as u32);
    image::imageops::replace(&mut canvas, &kept, left, top);
    canvas
}

/// The largest size with the proportions of `size` inside `frame`, at least one pixel.
fn fitted_size(size: (u32, u32), frame: (u32, u32)) -> (u32, u32) {
    let scale = (f64::from(frame.0) / f64::from(size.0)).min(f64::from(frame.1) / f64::from(size.1));
    let side = |from: u32, most: u32| ((f64::from(from) * scale).round() as u32).clamp(1, most);
    (side(size.0, frame.0), side(size.1, frame.1))
}

/// What is kept of `picture` resized to `across.side` x `down.side`.
fn stretch_part(picture: &RgbImage, across: Cut, down: Cut, resample: u32) -> RgbImage {
    let (source_width, source_height) = picture.dimensions();
    let (width, height) = (across.kept as u32, down.kept as u32);
    let (across_span, down_span) = (across.span(source_width), down.span(source_height));
    let whole = |side: u32| (0.0, f64::from(side));
    if down_first([source_width, source_height].map(i64::from), [across, down]) {
        let resized = pass(picture, [whole(source_width), down_span], source_width, height, resample);
        pass(&resized, [across_span, whole(height)], width, height, resample)
    } else {
        let resized = pass(picture, [across_span, whole(source_height)], width, source_height, resample);
        pass(&resized, [whole(width), down_span], width, height, resample)
    }
}

/// Whether the pass down comes before the pass across.
///
/// PIL keeps 8 bits between the passes, and so do we, for equal results. From Pillow 13 it goes down first where the height shrinks, by more
/// than twice what the width does (found by comparing its results with those of single passes); before, it always went across first.
fn down_first([source_width, source_height]: [i64; 2], [across, down]: [Cut; 2]) -> bool {
    let [narrowed, lowered] = [source_width - across.side as i64, source_height - down.side as i64];
    let like_pillow = lowered > 0 && lowered > 2 * narrowed;
    // Where a small part of a narrow, very high picture is enlarged, what is between would be huge.
    let widened = across.kept as i64 > source_width;
    like_pillow || widened && across.kept as i64 * source_height > MAX_PIXELS_BETWEEN_PASSES
}

/// Resamples these spans (start, length) along one axis, the other side being that of `picture` already.
fn pass(picture: &RgbImage, [across, down]: [(f64, f64); 2], width: u32, height: u32, resample: u32) -> RgbImage {
    let filter = match resample {
        1 => FilterType::Lanczos3,
        2 => FilterType::Bilinear,
        _ => FilterType::CatmullRom,
    };
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(across.0, down.0, across.1, down.1);
    let mut resized = RgbImage::new(width, height);
    // Typed pictures: `Resizer::resize` would bring the code of every other pixel type with it (minutes of compiling).
    let source = TypedImageRef::<U8x3>::from_buffer(picture.width(), picture.height(), picture.as_raw())
        .expect("an RGB picture has three bytes a pixel");
    let mut target =
        TypedImage::<U8x3>::from_buffer(width, height, &mut resized).expect("an RGB picture has three bytes a pixel");
    Resizer::new().resize_typed(&source, &mut target, &options).expect("the part is inside the picture");
    resized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fitted_size_fills_one_side_and_is_never_zero() {
        assert_eq!(fitted_size((200, 100), (50, 50)), (50, 25));
        assert_eq!(fitted_size((100, 200), (50, 50)), (25, 50));
        assert_eq!(fitted_size((30000, 1), (224, 224)), (224, 1));
        assert_eq!(fitted_size((1, 1), (224, 224)), (224, 224));
    }

    #[test]
    fn padding_centres_the_picture_on_the_background() {
        let picture = RgbImage::from_pixel(4, 2, image::Rgb([200, 10, 20]));
        let padded = pad(&picture, 8, 8, 3, [1, 2, 3]);
        for (x, y, pixel) in padded.enumerate_pixels() {
            let expected = if (2..6).contains(&y) { [200, 10, 20] } else { [1, 2, 3] };
            assert_eq!(pixel.0, expected, "at ({x}, {y})");
        }
    }

    #[test]
    fn every_source_size_can_be_stretched() {
        for size in [(1, 1), (1, 3000), (3000, 1), (7, 5), (225, 223), (1, 65_535), (65_535, 1)] {
            let picture = RgbImage::from_pixel(size.0, size.1, image::Rgb([9, 99, 199]));
            // The second is wide enough for the passes to change places where the picture is high and narrow.
            for (width, height) in [(28, 28), (600, 14)] {
                let resized = stretch(&picture, width, height, 3);
                assert_eq!(resized.dimensions(), (width as u32, height as u32));
                assert!(resized.pixels().all(|pixel| pixel.0 == [9, 99, 199]), "from {size:?} to {width} x {height}");
            }
        }
    }

    #[test]
    fn every_source_size_can_be_cropped() {
        for size in [(1, 1), (1, 3000), (3000, 1), (7, 5), (225, 223), (1, 65_535), (65_535, 1), (65_535, 3)] {
            let picture = RgbImage::from_pixel(size.0, size.1, image::Rgb([9, 99, 199]));
            for shortest in [28, 29, 4096] {
                let cropped = crop(&picture, shortest, 28, 3);
                assert_eq!(cropped.dimensions(), (28, 28));
                assert!(cropped.pixels().all(|pixel| pixel.0 == [9, 99, 199]), "from {size:?} by way of {shortest}");
            }
        }
    }

    #[test]
    fn a_crop_is_the_centre_of_the_whole_resized_picture() {
        let picture = RgbImage::from_fn(90, 41, |x, y| image::Rgb([(x * 2) as u8, (y * 6) as u8, (x * y % 251) as u8]));
        for (shortest, width) in [(32, 70), (57, 125), (28, 61), (41, 90)] {
            let whole = stretch(&picture, width, shortest, 3);
            let [left, top] = [width as u32 - 28, shortest as u32 - 28].map(|around| around / 2);
            for (x, y, pixel) in crop(&picture, shortest, 28, 3).enumerate_pixels() {
                let expected = whole.get_pixel(left + x, top + y);
                let differs = |c: usize| pixel.0[c].abs_diff(expected.0[c]) > 1;
                assert!(!(0..3).any(differs), "{shortest} at ({x}, {y}): {pixel:?}, expected {expected:?}");
            }
        }
    }

    #[test]
    fn a_crop_larger_than_the_picture_is_black_around_it() {
        // 4 x 2 becomes 10 x 5, of which 8 columns are cut out; 5 rows stand at ceil((8 - 5) / 2).
        let picture = RgbImage::from_pixel(4, 2, image::Rgb([200, 10, 20]));
        for (x, y, pixel) in crop(&picture, 5, 8, 3).enumerate_pixels() {
            let expected = if (2..7).contains(&y) { [200, 10, 20] } else { [0, 0, 0] };
            assert_eq!(pixel.0, expected, "at ({x}, {y})");
        }
    }
}
