//! `preprocessor_config.json` of Hugging Face's image processors in the form of `docs/format.md`.

use serde_json::{Value, json};

use super::fields::Fields;
use crate::error::Result;

const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];
const LANCZOS: u64 = 1;
const BICUBIC: u64 = 3;

/// Colours and resampling: what all processors have.
fn common(fields: &Fields<'_>, resample: u64, mean: [f64; 3], std: [f64; 3]) -> Result<Value> {
    for name in ["do_resize", "do_rescale"] {
        if fields.flag(name)? == Some(false) {
            return Err(fields.unsupported(name, false, "true"));
        }
    }
    if let Some(factor) = fields.number("rescale_factor")?
        && (factor * 255.0 - 1.0).abs() > 1e-6
    {
        return Err(fields.unsupported("rescale_factor", factor, "1/255"));
    }
    let is_normalized = fields.flag("do_normalize")?.unwrap_or(true);
    let colour = |name: &str, default: [f64; 3], neutral: [f64; 3]| {
        if is_normalized { fields.find(name).cloned().unwrap_or(json!(default)) } else { json!(neutral) }
    };
    Ok(json!({
        "image_mean": colour("image_mean", mean, [0.0; 3]),
        "image_std": colour("image_std", std, [1.0; 3]),
        "resample": fields.find("resample").cloned().unwrap_or(json!(resample)),
    }))
}

/// One square view: CLIP, SigLIP, DINOv2, LLaVA. `fixed_size`: the side that the encoder needs, if its positions are not resampled.
pub(super) fn one_view(
    fields: &Fields<'_>,
    patch_size: usize,
    fixed_size: Option<usize>,
    is_siglip: bool,
) -> Result<Value> {
    let (mean, std) = if is_siglip { ([0.5; 3], [0.5; 3]) } else { (CLIP_MEAN, CLIP_STD) };
    let mut config = common(fields, BICUBIC, mean, std)?;
    let size = SizeField::read(fields, "size")?;
    let crop = match fields.flag("do_center_crop")?.unwrap_or(!is_siglip) {
        true => SizeField::read(fields, "crop_size")?,
        false => None,
    };
    let side = match (size, crop) {
        (Some(SizeField::Shortest(resize)), Some(crop)) => {
            config["aspect"] = json!("crop");
            config["resize"] = json!(resize);
            crop.side()
        }
        (None, Some(crop)) => {
            config["aspect"] = json!("crop");
            crop.side()
        }
        (Some(SizeField::Square(side)), Some(crop)) if crop.side() == side => side,
        (Some(SizeField::Square(side)), None) => side,
        (None, None) => fixed_size.unwrap_or(224),
        (Some(size), _) => {
            let supported = "a square, or a shortest edge with a centre cut out";
            return Err(fields.unsupported("size", size.side(), supported));
        }
    };
    if let Some(fixed_size) = fixed_size
        && side != fixed_size
    {
        return Err(fields.error("size", side, format!("image_size of vision_config, {fixed_size}")));
    }
    // What is less than a patch is left out.
    let grid = side / patch_size.max(1);
    if grid == 0 {
        return Err(fields.error("size", side, format!("at least the patch_size of vision_config, {patch_size}")));
    }
    config["modes"] = json!({"balanced": {"size": side, "pooled": [grid, grid]}});
    Ok(config)
}

/// Tiles and an overview after them: Idefics3 and SmolVLM. high is the processor's own way, balanced the overview alone, and rapid the overview at
/// half the side, for which the encoder picks every other position.
pub(super) fn tiled(fields: &Fields<'_>, patch_size: usize, scale_factor: usize) -> Result<Value> {
    let mut config = common(fields, LANCZOS, [0.5; 3], [0.5; 3])?;
    let longest_edge = |name: &str, default: usize| -> Result<usize> {
        match SizeField::read(fields, name)? {
            None => Ok(default),
            Some(SizeField::Longest(side)) => Ok(side),
            Some(size) => Err(fields.unsupported(name, size.side(), "a longest_edge")),
        }
    };
    let (edge, size) = (longest_edge("size", 4 * 364)?, longest_edge("max_image_size", 364)?);
    // What is less than a patch is left out.
    let patches = size / patch_size.max(1);
    if patches == 0 || !patches.is_multiple_of(scale_factor.max(1)) {
        let expected = format!("so many patches of {patch_size} that scale_factor {scale_factor} divides them");
        return Err(fields.error("max_image_size", size, expected));
    }
    let pooled = patches / scale_factor.max(1);
    config["overview"] = json!("last");
    config["modes"] = json!({
        "balanced": {"size": size, "longest_edge": edge, "do_image_splitting": false, "pooled": [pooled, pooled]},
        "high": {"size": size, "longest_edge": edge, "pooled": [pooled, pooled]},
    });
    if pooled.is_multiple_of(2) && size.is_multiple_of(2 * patch_size) {
        let pooled = pooled / 2;
        config["modes"]["rapid"] = json!({"size": size / 2, "pooled": [pooled, pooled]});
    }
    Ok(config)
}

/// A size in one of the forms of image processors.
#[derive(Clone, Copy)]
enum SizeField {
    Square(usize),
    Shortest(usize),
    Longest(usize),
}

impl SizeField {
    /// `{"height", "width"}`, `{"shortest_edge"}`, `{"longest_edge"}`, or a number: in old files the shortest edge.
    fn read(fields: &Fields<'_>, name: &str) -> Result<Option<Self>> {
        match fields.find(name) {
            None => return Ok(None),
            Some(Value::Number(_)) => return Ok(fields.integer(name)?.map(Self::Shortest)),
            Some(_) => {}
        }
        let size = fields.section(name)?;
        if let Some(side) = size.integer("shortest_edge")? {
            return Ok(Some(Self::Shortest(side)));
        }
        if let Some(side) = size.integer("longest_edge")? {
            return Ok(Some(Self::Longest(side)));
        }
        match (size.integer("height")?, size.integer("width")?) {
            (Some(height), Some(width)) if height == width => Ok(Some(Self::Square(height))),
            (Some(height), Some(width)) => Err(fields.unsupported(name, format!("{height} x {width}"), "a square")),
            _ => Err(fields.error(
                name,
                "an object without a size",
                "height and width, or shortest_edge or longest_edge",
            )),
        }
    }

    fn side(self) -> usize {
        let (Self::Square(side) | Self::Shortest(side) | Self::Longest(side)) = self;
        side
    }
}
