//! Views of pictures against Pillow and against their definition.

use image::{DynamicImage, Rgb, RgbImage};
use ndarray::{Axis, Slice};
use ocelli_vision::{
    Aspect, ErrorKind, ImageProcessor, Mode, ModeConfig, Overview, Picture, PreprocessorConfig, ViewKind, VisionConfig,
};
use proptest::prelude::*;
use serde_json::json;

use crate::golden;

/// The report's modes with `size` divided by `scale`, so that tests are quick.
fn config(scale: usize) -> PreprocessorConfig {
    serde_json::from_value(json!({
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3, "aspect": "stretch",
        "modes": {
            "rapid": {"size": 224 / scale, "grid": [1, 1], "pooled": [3, 3]},
            "balanced": {"size": 672 / scale, "grid": [1, 1], "pooled": [12, 12]},
            "high": {"size": 672 / scale, "grid": [2, 2], "pooled": [12, 12]}
        }
    }))
    .unwrap()
}

/// One rapid view of `size` pixels.
fn one_view(size: usize) -> ImageProcessor {
    let mut config = config(1);
    config.modes.get_mut(&Mode::Rapid).unwrap().size = size;
    ImageProcessor::new(config).unwrap()
}

fn picture(width: u32, height: u32, color: impl Fn(u32, u32) -> [u8; 3]) -> Picture {
    let image = RgbImage::from_fn(width, height, |x, y| Rgb(color(x, y)));
    Picture::from_dynamic_image(DynamicImage::ImageRgb8(image)).unwrap()
}

/// The pixel values of the first view back as 0..=255.
fn levels(processor: &ImageProcessor, picture: &Picture, mode: Mode) -> Vec<f32> {
    let views = processor.views(picture, mode).unwrap();
    views.pixel_values.index_axis(Axis(0), 0).iter().map(|value| (value * 0.5 + 0.5) * 255.0).collect()
}

#[test]
fn bicubic_resizing_is_within_two_levels_of_pillow() {
    let source = Picture::open(golden("pictures/source.png")).unwrap();
    for side in [28, 56, 140] {
        let expected = image::open(golden(&format!("pictures/bicubic_{side}.png"))).unwrap().into_rgb8();
        let found = levels(&one_view(side), &source, Mode::Rapid);
        for (x, y, pixel) in expected.enumerate_pixels() {
            for channel in 0..3 {
                let found = found[(channel * side + y as usize) * side + x as usize];
                let difference = (found - f32::from(pixel.0[channel])).abs();
                assert!(difference < 2.01, "side {side}, ({x}, {y}), channel {channel}: {found}, expected {pixel:?}");
            }
        }
    }
}

#[test]
fn rapid_gives_one_view_and_nine_tokens_balanced_144_and_high_five_views_and_720() {
    let processor = ImageProcessor::new(config(1)).unwrap();
    let picture = picture(300, 200, |x, y| [x as u8, y as u8, 7]);
    for (mode, num_views, size, num_tokens) in
        [(Mode::Rapid, 1, 224, 9), (Mode::Balanced, 1, 672, 144), (Mode::High, 5, 672, 720)]
    {
        let views = processor.views(&picture, mode).unwrap();
        assert_eq!(views.pixel_values.dim(), (num_views, 3, size, size), "{mode}");
        assert_eq!(views.num_image_tokens(), num_tokens, "{mode}");
        assert_eq!(processor.config().mode(mode).unwrap().num_views((300, 200)), num_views, "{mode}");
    }
}

#[test]
fn high_shows_the_overview_then_the_tiles_in_reading_order() {
    // Each quadrant has its own red level; no resampling blurs a tile's middle.
    let quadrants = picture(96, 96, |x, y| [(x / 48 * 50 + y / 48 * 100) as u8, 0, 0]);
    let views = ImageProcessor::new(config(14)).unwrap().views(&quadrants, Mode::High).unwrap();
    let tile = |row, column| ViewKind::Tile { row, column };
    assert_eq!(views.kinds, [ViewKind::Overview, tile(0, 0), tile(0, 1), tile(1, 0), tile(1, 1)]);
    let red = |view: usize, y: usize, x: usize| ((views.pixel_values[[view, 0, y, x]] * 0.5 + 0.5) * 255.0).round();
    assert_eq!([red(0, 4, 4), red(0, 4, 40), red(0, 40, 4), red(0, 40, 40)], [0.0, 50.0, 100.0, 150.0]);
    for (view, expected) in [(1, 0.0), (2, 50.0), (3, 100.0), (4, 150.0)] {
        assert_eq!(red(view, 24, 24), expected, "view {view}");
    }
}

#[test]
fn pixel_values_are_normalised_by_mean_and_deviation() {
    let mut config = config(14);
    config.image_mean = [0.1, 0.2, 0.3];
    config.image_std = [0.5, 0.25, 2.0];
    let picture = picture(16, 16, |_, _| [51, 102, 255]);
    let views = ImageProcessor::new(config).unwrap().views(&picture, Mode::Rapid).unwrap();
    for (channel, expected) in [(0, (0.2 - 0.1) / 0.5), (1, (0.4 - 0.2) / 0.25), (2, (1.0 - 0.3) / 2.0)] {
        assert!((views.pixel_values[[0, channel, 3, 5]] - expected).abs() < 1e-6, "channel {channel}");
    }
}

#[test]
fn padding_keeps_the_proportions_on_the_mean_colour() {
    let mut config = config(14);
    config.aspect = Aspect::Pad;
    let processor = ImageProcessor::new(config).unwrap();
    let wide = picture(64, 32, |_, _| [255, 255, 255]);
    let views = processor.views(&wide, Mode::Rapid).unwrap();
    let column: Vec<f32> = (0..16).map(|y| views.pixel_values[[0, 0, y, 8]]).collect();
    let expected: Vec<f32> =
        (0..16).map(|y| if (4..12).contains(&y) { 1.0 } else { 128.0 / 255.0 * 2.0 - 1.0 }).collect();
    assert_eq!(column, expected);
}

#[test]
fn a_description_has_the_numbers_of_the_report() {
    let processor = ImageProcessor::new(config(1)).unwrap();
    let description = processor.describe(Mode::High, &VisionConfig::vitdet_l(), (300, 200)).unwrap();
    assert_eq!(
        serde_json::to_value(&description).unwrap(),
        json!({
            "mode": "high",
            "views": [
                {"kind": "overview"},
                {"kind": "tile", "row": 0, "column": 0}, {"kind": "tile", "row": 0, "column": 1},
                {"kind": "tile", "row": 1, "column": 0}, {"kind": "tile", "row": 1, "column": 1}
            ],
            "size": 672, "patch_grid": [48, 48], "windows": [3, 3], "pooled": [12, 12], "image_tokens": 720
        })
    );
}

#[test]
fn a_mode_that_the_model_does_not_have_is_an_error_that_lists_those_it_has() {
    let mut config = config(1);
    config.modes.remove(&Mode::High);
    let processor = ImageProcessor::new(config).unwrap();
    let error = processor.views(&picture(4, 4, |_, _| [0; 3]), Mode::High).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.to_string(), "the model has no mode `high` (preprocessor_config.json has: rapid, balanced)");
}

#[test]
fn impossible_preprocessing_is_an_error_that_names_the_field() {
    type Change = fn(&mut PreprocessorConfig);
    fn high(config: &mut PreprocessorConfig) -> &mut ModeConfig {
        config.modes.get_mut(&Mode::High).unwrap()
    }
    let cases: [(&str, Change); 17] = [
        ("image_mean", |config| config.image_mean[1] = f32::NAN),
        ("image_std", |config| config.image_std[2] = 0.0),
        ("resample", |config| config.resample = 9),
        ("modes", |config| config.modes.clear()),
        ("modes.rapid.size", |config| config.modes.get_mut(&Mode::Rapid).unwrap().size = 0),
        ("modes.high.size", |config| config.modes.get_mut(&Mode::High).unwrap().size = 4096),
        ("modes.high.grid", |config| config.modes.get_mut(&Mode::High).unwrap().grid = [2, usize::MAX]),
        ("resize", |config| config.resize = Some(224)),
        ("resize", |config| (config.aspect, config.resize) = (Aspect::Crop, Some(0))),
        ("resize", |config| (config.aspect, config.resize) = (Aspect::Crop, Some(1 << 40))),
        ("modes.high.grid", |config| config.aspect = Aspect::Crop),
        ("modes.high.longest_edge", |config| high(config).longest_edge = Some(1344)),
        ("modes.high.longest_edge", |config| (high(config).grid, high(config).longest_edge) = ([1, 1], Some(0))),
        ("modes.high.longest_edge", |config| {
            (high(config).size, high(config).grid, high(config).longest_edge) = (64, [1, 1], Some(513));
        }),
        ("modes.high.longest_edge", |config| {
            config.aspect = Aspect::Pad;
            (high(config).grid, high(config).longest_edge) = ([1, 1], Some(1344));
        }),
        ("modes.high.do_image_splitting", |config| high(config).do_image_splitting = false),
        ("modes.balanced.pooled", |config| config.modes.get_mut(&Mode::Balanced).unwrap().pooled = [0, 12]),
    ];
    for (field, change) in cases {
        let mut config = config(1);
        change(&mut config);
        let error = ImageProcessor::new(config).expect_err(field);
        assert_eq!(error.kind(), ErrorKind::Config, "{field}");
        assert!(error.to_string().starts_with(&format!("preprocessor_config.json: `{field}` is ")), "{error}");
    }
}

#[test]
fn modes_are_read_and_written_by_name() {
    for mode in Mode::ALL {
        assert_eq!(mode.to_string().parse(), Ok(mode));
        assert_eq!(serde_json::to_value(mode).unwrap(), json!(mode.as_str()));
    }
    assert!("fast".parse::<Mode>().unwrap_err().contains("rapid, balanced or high"));
}

#[test]
fn tiles_of_a_grid_that_is_not_square_are_in_reading_order() {
    let mut config = config(14);
    config.modes.get_mut(&Mode::High).unwrap().grid = [2, 3];
    let blocks = picture(96, 96, |x, y| [(x / 32 * 20 + y / 48 * 100) as u8, 0, 0]);
    let views = ImageProcessor::new(config).unwrap().views(&blocks, Mode::High).unwrap();
    for (index, kind) in views.kinds.iter().enumerate().skip(1) {
        let &ViewKind::Tile { row, column } = kind else { panic!("{kind:?}") };
        assert_eq!(index, 1 + row * 3 + column);
        let red = ((views.pixel_values[[index, 0, 24, 24]] * 0.5 + 0.5) * 255.0).round();
        assert_eq!(red, (column * 20 + row * 100) as f32, "{kind:?}");
    }
}

/// Compares the views of every picture in every mode with those of an image processor of transformers, within two levels of 0..=255;
/// they stand one below the other in the file.
fn check_processor(name: &str) {
    let json = std::fs::read(golden(&format!("processors/{name}.json"))).unwrap();
    let processor = ImageProcessor::new(serde_json::from_slice(&json).unwrap()).unwrap();
    for source in ["wide", "tall", "small", "square", "strip"] {
        let picture = Picture::open(golden(&format!("processors/{source}.png"))).unwrap();
        for (&mode, mode_config) in &processor.config().modes {
            let what = format!("{name}, {mode}, {source}");
            let expected = golden(&format!("processors/{name}_{mode}_{source}.png"));
            let expected = image::open(expected).unwrap().into_rgb8();
            let views = processor.views(&picture, mode).unwrap();
            let size = mode_config.size;
            assert_eq!((size as u32, (views.kinds.len() * size) as u32), expected.dimensions(), "{what}");
            assert_eq!(views.kinds.len(), mode_config.num_views((picture.width(), picture.height())), "{what}");
            for (x, y, pixel) in expected.enumerate_pixels() {
                for channel in 0..3 {
                    let index = [y as usize / size, channel, y as usize % size, x as usize];
                    let found = (views.pixel_values[index] * 0.5 + 0.5) * 255.0;
                    let difference = (found - f32::from(pixel.0[channel])).abs();
                    assert!(difference < 2.01, "{what}, {index:?}: {found}, expected {pixel:?}");
                }
            }
        }
    }
}

#[test]
fn tiles_that_follow_the_picture_are_within_two_levels_of_idefics3_and_smolvlm() {
    check_processor("smolvlm");
    check_processor("idefics3");
}

#[test]
fn crops_are_within_two_levels_of_clip_and_dinov2() {
    check_processor("clip");
    check_processor("bit");
    check_processor("clip_beyond");
}

#[test]
fn the_grid_of_tiles_is_that_of_idefics3_for_every_shape_of_picture() {
    let mode = |longest_edge, size| ModeConfig {
        size,
        grid: [1, 1],
        longest_edge: Some(longest_edge),
        do_image_splitting: true,
        pooled: [8, 8],
    };
    let cases = [
        ((640, 480), 2048, 512, (3, 4)),
        ((480, 640), 2048, 512, (4, 3)),
        ((1920, 1080), 2048, 512, (3, 4)),
        ((100, 100), 2048, 512, (4, 4)),
        ((4096, 1024), 2048, 512, (1, 4)),
        ((65535, 1), 2048, 512, (1, 4)),
        ((1, 65535), 2048, 512, (4, 1)),
        ((1000, 999), 1456, 364, (4, 4)),
        // An odd longest edge; sides that are just above two tiles; tiles that do not divide it; a single one.
        ((999, 1000), 1001, 500, (3, 3)),
        ((1000, 502), 1000, 251, (3, 4)),
        ((77, 150), 1777, 333, (6, 4)),
        ((300, 200), 512, 512, (1, 1)),
        ((300, 200), 364, 384, (1, 1)),
    ];
    for (picture, longest_edge, size, grid) in cases {
        let mode = mode(longest_edge, size);
        assert_eq!(mode.tile_grid(picture), grid, "{picture:?}, {longest_edge}, {size}");
        let num_views = if grid == (1, 1) { 1 } else { 1 + grid.0 * grid.1 };
        assert_eq!(mode.num_views(picture), num_views, "{picture:?}, {longest_edge}, {size}");
        assert_eq!(ModeConfig { do_image_splitting: false, ..mode }.tile_grid(picture), (1, 1));
    }
}

#[test]
fn the_overview_can_be_last_and_a_description_follows_the_picture() {
    let mut config = config(14);
    config.overview = Overview::Last;
    let mode = config.modes.get_mut(&Mode::High).unwrap();
    (mode.size, mode.grid, mode.longest_edge) = (28, [1, 1], Some(112));
    let processor = ImageProcessor::new(config).unwrap();
    // 112 x 56, so two rows of four; each tile has its own red level.
    let wide = picture(112, 56, |x, y| [(x / 28 * 20 + y / 28 * 100) as u8, 0, 0]);
    let views = processor.views(&wide, Mode::High).unwrap();
    assert_eq!((views.grid, views.kinds.len()), ((2, 4), 9));
    assert_eq!(views.kinds[8], ViewKind::Overview);
    for (index, kind) in views.kinds[..8].iter().enumerate() {
        assert_eq!(*kind, ViewKind::Tile { row: index / 4, column: index % 4 });
        let red = ((views.pixel_values[[index, 0, 14, 14]] * 0.5 + 0.5) * 255.0).round();
        assert_eq!(red, (index % 4 * 20 + index / 4 * 100) as f32, "{kind:?}");
    }
    let description = processor.describe(Mode::High, &VisionConfig::vitdet_l(), (112, 56)).unwrap();
    assert_eq!((description.views, description.image_tokens), (views.kinds, 9 * 144));
    let rapid = processor.views(&wide, Mode::Rapid).unwrap();
    assert_eq!((rapid.grid, rapid.kinds), ((1, 1), vec![ViewKind::Whole]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Put side by side, the tiles are the picture as one large view; the overview is the picture as one small view.
    #[test]
    fn tiles_cover_the_picture(tiles in 2..5usize, width in 1..80u32, height in 1..80u32) {
        let size = 16;
        let picture = picture(width, height, |x, y| [(x * 3) as u8, (y * 3) as u8, (x * y) as u8]);
        let mut tiled = config(1);
        let mode = tiled.modes.get_mut(&Mode::High).unwrap();
        (mode.size, mode.grid) = (size, [tiles, tiles]);
        let views = ImageProcessor::new(tiled).unwrap().views(&picture, Mode::High).unwrap();
        prop_assert_eq!(views.kinds.len(), 1 + tiles * tiles);

        let large = one_view(tiles * size).views(&picture, Mode::Rapid).unwrap().pixel_values;
        for (index, kind) in views.kinds.iter().enumerate().skip(1) {
            let ViewKind::Tile { row, column } = *kind else { panic!("{kind:?}") };
            let part = large
                .slice_axis(Axis(2), Slice::from(row * size..(row + 1) * size))
                .slice_axis(Axis(3), Slice::from(column * size..(column + 1) * size))
                .to_owned();
            prop_assert_eq!(views.pixel_values.slice_axis(Axis(0), Slice::from(index..index + 1)), part, "{:?}", kind);
        }
        let overview = views.pixel_values.slice_axis(Axis(0), Slice::from(..1));
        prop_assert_eq!(overview, one_view(size).views(&picture, Mode::Rapid).unwrap().pixel_values);
    }
}
