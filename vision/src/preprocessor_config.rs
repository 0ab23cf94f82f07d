//! `preprocessor_config.json`: modes, sizes, mean and standard deviation, resampling, aspect policy, tiles.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const FILE: &str = "preprocessor_config.json";
/// The largest side of a view in pixels.
const MAX_SIZE: usize = 4096;
/// The most pixels of all views of a mode: 12 bytes each as f32. The report's largest mode has 2.3 million.
const MAX_VIEW_PIXELS: usize = 20_000_000;
/// The most tiles in a row or column.
const MAX_GRID: usize = 8;

/// How closely a picture is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One small view, few image tokens.
    Rapid,
    /// One view.
    Balanced,
    /// An overview and tiles.
    High,
}

impl Mode {
    /// All modes, from the fastest to the closest.
    pub const ALL: [Self; 3] = [Self::Rapid, Self::Balanced, Self::High];

    /// `rapid`, `balanced` or `high`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rapid => "rapid",
            Self::Balanced => "balanced",
            Self::High => "high",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| format!("unknown mode `{text}`, expected rapid, balanced or high"))
    }
}

/// What a picture that is not square becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// It is stretched to the square.
    #[default]
    Stretch,
    /// It keeps its proportions, centred on the mean colour.
    Pad,
    /// It keeps its proportions, its shortest side becomes `resize`, and the centre is cut out (CLIP, DINOv2). What lies
    /// outside the picture is black. Only without tiles.
    Crop,
}

/// Where the overview stands among the views of a picture with tiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overview {
    /// Before the tiles.
    #[default]
    First,
    /// After the tiles (Idefics3, SmolVLM).
    Last,
}

/// The views of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeConfig {
    /// Side of each view in pixels.
    pub size: usize,
    /// Rows and columns of tiles; `[1, 1]`, the default, is a single view, any other grid an overview and its tiles.
    #[serde(default = "single_view")]
    pub grid: [usize; 2],
    /// Tiles that follow the picture, in place of `grid`: its longest side becomes this, then its sides become whole tiles
    /// of `size` (Idefics3, SmolVLM). See [`ModeConfig::tile_grid`]. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_edge: Option<usize>,
    /// With `longest_edge`: whether tiles are cut. If not, the picture is resized to `longest_edge` and then to a single
    /// view, as Idefics3 does it. Default: true.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub do_image_splitting: bool,
    /// Rows and columns of image tokens of each view.
    pub pooled: [usize; 2],
}

impl ModeConfig {
    /// Rows and columns of tiles of a picture of `(width, height)` pixels, none of them 0; (1, 1) is a single view.
    ///
    /// With `longest_edge` L and `size` S, for a picture that is at least as wide as high (otherwise with the sides exchanged):
    ///
    /// ```text
    /// width, height  <- L, the next even number of floor(L / (width / height)), at least 1
    /// columns, rows  <- ceil(width / S), ceil(floor(columns * S / (width / height)) / S)
    /// ```
    ///
    /// Source: `Idefics3ImageProcessor` of Hugging Face transformers 5.23 (`SmolVLMImageProcessor` is the same), with its roundings.
    ///
    /// # Panics
    /// If `size` is 0, which [`PreprocessorConfig::validate`] refuses.
    pub fn tile_grid(&self, picture: (u32, u32)) -> (usize, usize) {
        match self.longest_edge {
            None => (self.grid[0], self.grid[1]),
            Some(_) if !self.do_image_splitting => (1, 1),
            Some(longest_edge) => {
                let (width, height) = fit_longest_edge(picture, longest_edge);
                let aspect_ratio = width as f64 / height as f64;
                let tiles = |side: usize| side.div_ceil(self.size).max(1);
                if width >= height {
                    let columns = tiles(width);
                    (tiles(((columns * self.size) as f64 / aspect_ratio) as usize), columns)
                } else {
                    let rows = tiles(height);
                    (rows, tiles(((rows * self.size) as f64 * aspect_ratio) as usize))
                }
            }
        }
    }

    /// The number of views of a picture of `(width, height)` pixels: 1, or the overview and each tile.
    pub fn num_views(&self, picture: (u32, u32)) -> usize {
        match self.tile_grid(picture) {
            (1, 1) => 1,
            (rows, columns) => 1 + rows * columns,
        }
    }

    /// Rows and columns of tiles that no picture exceeds.
    fn largest_grid(&self) -> [usize; 2] {
        match self.longest_edge {
            None => self.grid,
            Some(_) if !self.do_image_splitting => [1, 1],
            // The shorter side of a picture that is nearly square is rounded up to an even number.
            Some(longest_edge) => [longest_edge.next_multiple_of(2).div_ceil(self.size); 2],
        }
    }
}

/// Width and height of a picture of `(width, height)` pixels whose longest side becomes `longest_edge`, the other an even number or 1;
/// see [`ModeConfig::tile_grid`].
pub(crate) fn fit_longest_edge((width, height): (u32, u32), longest_edge: usize) -> (usize, usize) {
    let aspect_ratio = f64::from(width) / f64::from(height);
    let even = |side: f64| (side as usize).next_multiple_of(2).max(1);
    if width >= height {
        (longest_edge, even(longest_edge as f64 / aspect_ratio))
    } else {
        (even(longest_edge as f64 * aspect_ratio), longest_edge)
    }
}

/// `preprocessor_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreprocessorConfig {
    /// Mean of each channel (red, green, blue) on the scale 0..=1.
    pub image_mean: [f32; 3],
    /// Standard deviation of each channel on the scale 0..=1.
    pub image_std: [f32; 3],
    /// Resampling by PIL's numbers: 1 Lanczos, 2 bilinear, 3 bicubic; all antialiased. Default: 3.
    #[serde(default = "bicubic")]
    pub resample: u32,
    /// What becomes of a picture that is not square. Default: `stretch`.
    #[serde(default)]
    pub aspect: Aspect,
    /// With `"aspect": "crop"`: what the shortest side of a picture becomes, in pixels. Default: the mode's `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<usize>,
    /// Where the overview stands among the views of a picture with tiles. Default: `first`.
    #[serde(default)]
    pub overview: Overview,
    /// The modes that the model has.
    pub modes: BTreeMap<Mode, ModeConfig>,
}

fn bicubic() -> u32 {
    3
}

fn single_view() -> [usize; 2] {
    [1, 1]
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

impl PreprocessorConfig {
    /// Checks that every field makes sense.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] names the field.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, field: &str, found: String, expected: String| {
            if ok {
                return Ok(());
            }
            Err(Error::Config { file: FILE, field: field.to_owned(), found, expected })
        };
        let (mean, std) = (self.image_mean, self.image_std);
        let in_range = mean.iter().all(|m| (0.0..=1.0).contains(m));
        check(in_range, "image_mean", format!("{mean:?}"), "three numbers from 0 to 1".to_owned())?;
        let positive = std.iter().all(|s| (1e-3..=1e3).contains(s));
        check(positive, "image_std", format!("{std:?}"), "three numbers from 0.001 to 1000".to_owned())?;
        let resample = self.resample.to_string();
        let expected = "1 (Lanczos), 2 (bilinear) or 3 (bicubic)".to_owned();
        check((1..=3).contains(&self.resample), "resample", resample, expected)?;
        check(!self.modes.is_empty(), "modes", "empty".to_owned(), "at least one mode".to_owned())?;
        if let Some(resize) = self.resize {
            let expected = format!("1 to {MAX_SIZE} pixels, with `\"aspect\": \"crop\"`");
            let is_used = self.aspect == Aspect::Crop;
            check(is_used && (1..=MAX_SIZE).contains(&resize), "resize", resize.to_string(), expected)?;
        }
        for (mode, mode_config) in &self.modes {
            let ModeConfig { size, grid, longest_edge, do_image_splitting, pooled } = mode_config;
            let field = |name: &str| format!("modes.{mode}.{name}");
            let sizes = 1..=MAX_SIZE;
            check(sizes.contains(size), &field("size"), size.to_string(), format!("1 to {MAX_SIZE} pixels"))?;
            let cells_fit = grid.iter().all(|n| (1..=MAX_GRID).contains(n));
            check(cells_fit, &field("grid"), format!("{grid:?}"), format!("rows and columns from 1 to {MAX_GRID}"))?;
            if let Some(longest_edge) = longest_edge {
                let found = longest_edge.to_string();
                let expected = format!("1 to {MAX_SIZE} pixels and at most {MAX_GRID} tiles of `size` {size}");
                let in_range = (1..=MAX_SIZE).contains(longest_edge) && mode_config.largest_grid()[0] <= MAX_GRID;
                check(in_range, &field("longest_edge"), found.clone(), expected)?;
                let is_alone = *grid == [1, 1] && self.aspect == Aspect::Stretch;
                let expected = "no `grid` and `\"aspect\": \"stretch\"` beside it".to_owned();
                check(is_alone, &field("longest_edge"), found, expected)?;
            }
            let has_splitting = *do_image_splitting || longest_edge.is_some();
            let expected = "true without `longest_edge`".to_owned();
            check(has_splitting, &field("do_image_splitting"), do_image_splitting.to_string(), expected)?;
            let can_be_cut = self.aspect != Aspect::Crop || *grid == [1, 1];
            let expected = "[1, 1] with `\"aspect\": \"crop\"`".to_owned();
            check(can_be_cut, &field("grid"), format!("{grid:?}"), expected)?;
            let [rows, columns] = mode_config.largest_grid();
            let view_pixels = size * size * (1 + rows * columns);
            let expected = format!("at most {MAX_VIEW_PIXELS} pixels in all views");
            check(view_pixels <= MAX_VIEW_PIXELS, &field("size"), view_pixels.to_string(), expected)?;
            let tokens_fit = pooled.iter().all(|n| (1..=*size).contains(n));
            check(tokens_fit, &field("pooled"), format!("{pooled:?}"), format!("rows and columns from 1 to {size}"))?;
        }
        Ok(())
    }

    /// The views of `mode`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] when the model does not have this mode.
    pub fn mode(&self, mode: Mode) -> Result<&ModeConfig> {
        self.modes.get(&mode).ok_or_else(|| {
            let available: Vec<&str> = self.modes.keys().map(|mode| mode.as_str()).collect();
            Error::NoSuchMode { mode: mode.as_str(), available: available.join(", ") }
        })
    }
}
