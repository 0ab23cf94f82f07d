//! The decoder of a model directory.

use std::path::Path;

use ocelli_language::{Decoder, TextConfig};
use ocelli_nn::Weights;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The decoder of the model directory `dir`, and what it was made of.
pub fn load(dir: &Path) -> Result<(Weights, TextConfig, Decoder)> {
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("config.json"))?)?;
    let quantization = serde_json::from_value(config["quantization_config"].clone())?;
    let weights = Weights::open(dir)?.with_quantization(quantization)?;
    let config = TextConfig::from_config_json(&config)?;
    let decoder = Decoder::load(&weights, &config)?;
    Ok((weights, config, decoder))
}
