//! `preprocessor_config.json`: modes, sizes, mean and standard deviation, resampling, aspect policy.

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
}

/// The views of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeConfig {
    /// Side of each view in pixels.
    pub size: usize,
    /// Rows and columns of tiles; `[1, 1]` is a single view, any other grid an overview and its tiles.
    pub grid: [usize; 2],
    /// Rows and columns of image tokens of each view.
    pub pooled: [usize; 2],
}

impl ModeConfig {
    /// True when the picture is cut into tiles.
    pub fn is_tiled(&self) -> bool {
        self.grid != [1, 1]
    }

    /// The number of views: 1, or the overview and each tile.
    pub fn num_views(&self) -> usize {
        if self.is_tiled() { 1 + self.grid[0] * self.grid[1] } else { 1 }
    }

    /// The number of image tokens of all views.
    pub fn num_image_tokens(&self) -> usize {
        self.num_views() * self.pooled[0] * self.pooled[1]
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
    /// The modes that the model has.
    pub modes: BTreeMap<Mode, ModeConfig>,
}

fn bicubic() -> u32 {
    3
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
        for (mode, ModeConfig { size, grid, pooled }) in &self.modes {
            let field = |name: &str| format!("modes.{mode}.{name}");
            let sizes = 1..=MAX_SIZE;
            check(sizes.contains(size), &field("size"), size.to_string(), format!("1 to {MAX_SIZE} pixels"))?;
            let cells_fit = grid.iter().all(|n| (1..=MAX_GRID).contains(n));
            check(cells_fit, &field("grid"), format!("{grid:?}"), format!("rows and columns from 1 to {MAX_GRID}"))?;
            let view_pixels = size * size * (1 + grid[0] * grid[1]);
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
