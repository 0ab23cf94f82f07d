//! Resampling in 8 bits, antialiased as PIL does it: the kernel is widened by the scale when a picture shrinks.
//!
//! Bicubic is Catmull-Rom (a = -0.5), PIL's `BICUBIC`. The full picture is never copied as floats.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use crate::preprocessor_config::Aspect;

/// 100 MB of RGB.
const MAX_PIXELS_BETWEEN_PASSES: u64 = 1 << 25;

/// `picture` at `width` x `height`. With [`Aspect::Pad`] it keeps its proportions, centred on `background`.
///
/// `resample`: PIL's number, checked by the configuration (1 Lanczos, 2 bilinear, 3 bicubic).
pub(crate) fn resize(
    picture: &RgbImage,
    width: u32,
    height: u32,
    resample: u32,
    aspect: Aspect,
    background: [u8; 3],
) -> RgbImage {
    match aspect {
        Aspect::Stretch => stretch(picture, width, height, resample),
        Aspect::Pad => {
            let (inner_width, inner_height) = fitted_size(picture.dimensions(), (width, height));
            let inner = stretch(picture, inner_width, inner_height, resample);
            let mut canvas = RgbImage::from_pixel(width, height, image::Rgb(background));
            let (left, top) = ((width - inner_width) / 2, (height - inner_height) / 2);
            image::imageops::replace(&mut canvas, &inner, left.into(), top.into());
            canvas
        }
    }
}

/// The largest size with the proportions of `size` inside `frame`, at least one pixel.
fn fitted_size(size: (u32, u32), frame: (u32, u32)) -> (u32, u32) {
    let scale = (f64::from(frame.0) / f64::from(size.0)).min(f64::from(frame.1) / f64::from(size.1));
    let side = |from: u32, most: u32| ((f64::from(from) * scale).round() as u32).clamp(1, most);
    (side(size.0, frame.0), side(size.1, frame.1))
}

fn stretch(picture: &RgbImage, width: u32, height: u32, resample: u32) -> RgbImage {
    let (source_width, source_height) = picture.dimensions();
    // PIL resamples across, then down, with 8 bits between the passes; so do we, for equal results. Only a narrow
    // picture that is very high would become huge in between.
    let between = u64::from(width) * u64::from(source_height);
    if width <= source_width || between <= MAX_PIXELS_BETWEEN_PASSES {
        pass(&pass(picture, width, source_height, resample), width, height, resample)
    } else {
        pass(&pass(picture, source_width, height, resample), width, height, resample)
    }
}

/// Resamples along one axis, the other side being that of `picture` already.
fn pass(picture: &RgbImage, width: u32, height: u32, resample: u32) -> RgbImage {
    let filter = match resample {
        1 => FilterType::Lanczos3,
        2 => FilterType::Bilinear,
        _ => FilterType::CatmullRom,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    let mut resized = RgbImage::new(width, height);
    // Typed pictures: `Resizer::resize` would bring the code of every other pixel type with it (minutes of compiling).
    let source = TypedImageRef::<U8x3>::from_buffer(picture.width(), picture.height(), picture.as_raw())
        .expect("an RGB picture has three bytes a pixel");
    let mut target =
        TypedImage::<U8x3>::from_buffer(width, height, &mut resized).expect("an RGB picture has three bytes a pixel");
    Resizer::new().resize_typed(&source, &mut target, &options).expect("the whole picture is resized");
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
        let padded = resize(&picture, 8, 8, 3, Aspect::Pad, [1, 2, 3]);
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
                let resized = resize(&picture, width, height, 3, Aspect::Stretch, [0; 3]);
                assert_eq!(resized.dimensions(), (width, height));
                assert!(resized.pixels().all(|pixel| pixel.0 == [9, 99, 199]), "from {size:?} to {width} x {height}");
            }
        }
    }
}
