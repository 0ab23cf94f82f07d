//! The whole pipeline through the library: pictures to text, conversations, and models that are broken.

mod batch;
mod captions;
mod hostile_models;
mod hugging_face;
mod imports;
mod layout;
mod picture_cache;
mod sessions;
#[path = "../support/mod.rs"]
mod support;

use ocelli::Picture;

/// A picture of a few coloured squares, 240 x 160 pixels; `shift` moves the colours.
fn picture(shift: u32) -> Picture {
    let pixel = |x: u32, y: u32| {
        let square = (x / 60 + 3 * (y / 40) + shift) % 7;
        image::Rgb([40 * square as u8, 255 - 30 * square as u8, 90 + 20 * square as u8])
    };
    Picture::from_dynamic_image(image::RgbImage::from_fn(240, 160, pixel).into()).unwrap()
}
