//! The views of a picture: one, or an overview and its tiles, as normalised pixel values.
//!
//! ```text
//! rapid, balanced: the picture at S x S
//! high:            the picture at S x S, then the picture at (columns * S) x (rows * S) cut into rows x columns tiles
//! ```
//!
//! With `longest_edge` the grid follows the picture, which is resized three times: to `longest_edge`, from that to whole tiles, and from
//! that to the overview. Without tiles it is resized to `longest_edge` and then to the view.
//!
//! Source: our reading of the AFM 2025 report (arXiv 2507.13575), defined in `docs/architecture.md`; `longest_edge`:
//! `Idefics3ImageProcessor` of Hugging Face transformers.

use image::RgbImage;
use ndarray::{Array4, ArrayViewMut3, Axis};
use serde::Serialize;

use crate::config::VisionConfig;
use crate::error::Result;
use crate::picture::Picture;
use crate::preprocessor_config::{Aspect, Mode, Overview, PreprocessorConfig, fit_longest_edge};
use crate::resize::{crop, pad, stretch};

/// Which part of the picture a view shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ViewKind {
    /// The whole picture, the only view.
    Whole,
    /// The whole picture, beside its tiles.
    Overview,
    /// One tile of the picture, by row and column from the top left.
    Tile {
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        column: usize,
    },
}

/// The views of one picture in one mode.
#[derive(Clone, Debug)]
pub struct Views {
    /// The mode.
    pub mode: Mode,
    /// `[num_views, 3, size, size]`: `(value / 255 - image_mean) / image_std`, channels red, green, blue.
    pub pixel_values: Array4<f32>,
    /// What each view shows, in order.
    pub kinds: Vec<ViewKind>,
    /// Rows and columns of tiles; (1, 1) for a single view.
    pub grid: (usize, usize),
    /// Rows and columns of image tokens of each view.
    pub pooled: (usize, usize),
}

impl Views {
    /// The number of image tokens that these views become.
    pub fn num_image_tokens(&self) -> usize {
        self.kinds.len() * self.pooled.0 * self.pooled.1
    }
}

/// What preprocessing does to a picture in one mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModeDescription {
    /// The mode.
    pub mode: Mode,
    /// What each view shows, in order.
    pub views: Vec<ViewKind>,
    /// Side of each view in pixels.
    pub size: usize,
    /// Rows and columns of patches of each view.
    pub patch_grid: [usize; 2],
    /// Rows and columns of attention windows of each view; `[1, 1]` for an encoder without windows.
    pub windows: [usize; 2],
    /// Rows and columns of image tokens of each view.
    pub pooled: [usize; 2],
    /// Image tokens of all views together.
    pub image_tokens: usize,
}

/// Makes views of pictures.
#[derive(Clone, Debug)]
pub struct ImageProcessor {
    config: PreprocessorConfig,
}

impl ImageProcessor {
    /// A processor for `config`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] when a field makes no sense.
    pub fn new(config: PreprocessorConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }

    /// The configuration.
    pub fn config(&self) -> &PreprocessorConfig {
        &self.config
    }

    /// The views of `picture` in `mode`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] when the model does not have this mode.
    pub fn views(&self, picture: &Picture, mode: Mode) -> Result<Views> {
        let mode_config = self.config.mode(mode)?;
        let (size, resample) = (mode_config.size, self.config.resample);
        let picture = picture.as_rgb8();
        let grid = mode_config.tile_grid(picture.dimensions());
        let [height, width] = [grid.0 * size, grid.1 * size];
        let (whole, large);
        if let Some(longest_edge) = mode_config.longest_edge {
            let fitted = fit_longest_edge(picture.dimensions(), longest_edge);
            large = stretch(&stretch(picture, fitted.0, fitted.1, resample), width, height, resample);
            whole = stretch(&large, size, size, resample);
        } else {
            whole = self.resized(picture, size, size);
            large = if grid == (1, 1) { RgbImage::default() } else { self.resized(picture, width, height) };
        }
        let kinds = view_kinds(grid, self.config.overview);
        let mut pixel_values = Array4::zeros((kinds.len(), 3, size, size));
        for (kind, output) in kinds.iter().zip(pixel_values.axis_iter_mut(Axis(0))) {
            match *kind {
                ViewKind::Whole | ViewKind::Overview => self.normalize(&whole, 0, 0, output),
                ViewKind::Tile { row, column } => self.normalize(&large, row * size, column * size, output),
            }
        }
        let [rows, columns] = mode_config.pooled;
        Ok(Views { mode, pixel_values, kinds, grid, pooled: (rows, columns) })
    }

    /// What preprocessing does in `mode` to a picture of `(width, height)` pixels, none of them 0, before `encoder` sees it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] when the model does not have this mode, [`crate::ErrorKind::Shape`] when the
    /// encoder's patches do not divide the view.
    pub fn describe(&self, mode: Mode, encoder: &VisionConfig, picture: (u32, u32)) -> Result<ModeDescription> {
        let mode_config = self.config.mode(mode)?;
        let views = view_kinds(mode_config.tile_grid(picture), self.config.overview);
        let [rows, columns] = mode_config.pooled;
        let (grid_height, grid_width) = encoder.patch_grid(mode_config.size, mode_config.size)?;
        let (window_rows, window_columns) = encoder.window_grid((grid_height, grid_width));
        Ok(ModeDescription {
            mode,
            image_tokens: views.len() * rows * columns,
            views,
            size: mode_config.size,
            patch_grid: [grid_height, grid_width],
            windows: [window_rows, window_columns],
            pooled: mode_config.pooled,
        })
    }

    /// `picture` at `width` x `height`, as `aspect` says; the two are equal for a crop.
    fn resized(&self, picture: &RgbImage, width: usize, height: usize) -> RgbImage {
        let PreprocessorConfig { image_mean, resample, aspect, resize, .. } = self.config;
        match aspect {
            Aspect::Stretch => stretch(picture, width, height, resample),
            Aspect::Pad => {
                let background = image_mean.map(|mean| (mean * 255.0).round() as u8);
                pad(picture, width, height, resample, background)
            }
            Aspect::Crop => crop(picture, resize.unwrap_or(width), width, resample),
        }
    }

    /// Normalises the square of `image` at (`top`, `left`) into `output`, `[3, size, size]`.
    fn normalize(&self, image: &RgbImage, top: usize, left: usize, mut output: ArrayViewMut3<f32>) {
        let (_, size, _) = output.dim();
        let row_stride = image.width() as usize * 3;
        let samples = image.as_raw();
        for (channel, mut plane) in output.axis_iter_mut(Axis(0)).enumerate() {
            let (mean, std) = (self.config.image_mean[channel], self.config.image_std[channel]);
            // An 8-bit sample has 256 values.
            let table: [f32; 256] = std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std);
            for (y, mut row) in plane.axis_iter_mut(Axis(0)).enumerate() {
                let start = (top + y) * row_stride + left * 3;
                let source = samples[start..start + size * 3].iter().skip(channel).step_by(3);
                for (value, &sample) in row.iter_mut().zip(source) {
                    *value = table[usize::from(sample)];
                }
            }
        }
    }
}

fn view_kinds((rows, columns): (usize, usize), overview: Overview) -> Vec<ViewKind> {
    if (rows, columns) == (1, 1) {
        return vec![ViewKind::Whole];
    }
    let mut kinds = Vec::with_capacity(1 + rows * columns);
    kinds.extend((0..rows).flat_map(|row| (0..columns).map(move |column| ViewKind::Tile { row, column })));
    match overview {
        Overview::First => kinds.insert(0, ViewKind::Overview),
        Overview::Last => kinds.push(ViewKind::Overview),
    }
    kinds
}
