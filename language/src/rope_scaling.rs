//! Changed rotary frequencies of models that were made for longer contexts than they were first trained on.

use std::f32::consts::PI;

use serde::Serialize;

/// `rope_scaling` (or, in newer files, `rope_parameters`) of a config.json.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "rope_type", rename_all = "snake_case")]
pub enum RopeScaling {
    /// Every frequency divided by `factor`: position interpolation (arXiv 2306.15595).
    Linear {
        /// At least 1.
        factor: f32,
    },
    /// Llama 3.1: low frequencies are divided by `factor`, high ones stay, those between are blended.
    Llama3 {
        /// At least 1.
        factor: f32,
        /// Waves longer than `original_max_position_embeddings / low_freq_factor` are low.
        low_freq_factor: f32,
        /// Waves shorter than `original_max_position_embeddings / high_freq_factor` are high.
        high_freq_factor: f32,
        /// Tokens of context before the change.
        original_max_position_embeddings: usize,
    },
}

impl RopeScaling {
    /// The changed frequency (transformers, `modeling_rope_utils.py`).
    pub(crate) fn scale(self, frequency: f32) -> f32 {
        match self {
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let waves = original_max_position_embeddings as f32 * frequency / (2.0 * PI);
                if waves < low_freq_factor {
                    frequency / factor
                } else if waves > high_freq_factor {
                    frequency
                } else {
                    let smooth = (waves - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_3_changes_low_frequencies_and_blends_those_between() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        let of_waves = |waves: f32| waves * 2.0 * PI / 8192.0;
        assert_eq!(scaling.scale(of_waves(5.0)), of_waves(5.0));
        assert_eq!(scaling.scale(of_waves(0.5)), of_waves(0.5) / 8.0);
        let between = scaling.scale(of_waves(2.5)) / of_waves(2.5);
        assert!((between - (0.5 / 8.0 + 0.5)).abs() < 1e-6, "{between}");
    }
}
