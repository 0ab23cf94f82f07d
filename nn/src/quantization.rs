//! `quantization_config`: which matrices of a model are packed, and how (`docs/format.md`).

use serde::{Deserialize, Serialize};

use crate::Error;

/// The only `format_version` there is.
pub const FORMAT_VERSION: u32 = 1;

/// `quantization_config` of config.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantizationConfig {
    /// Always `ocelli`.
    pub quant_method: String,
    /// Version of the order of the bytes; see [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The packed parts of the model.
    pub parts: Vec<QuantizedPart>,
}

/// How the matrices under a prefix are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantizedPart {
    /// A whole number of the components of a tensor's name, such as `vision` or `layers.segment_0`.
    pub prefix: String,
    /// 2, 4 or 8.
    pub bits: u32,
    /// Weights that share a scale: 32, 64 or 128; `null` for one scale a row.
    #[serde(default)]
    pub group_size: Option<usize>,
    /// The code of the value 0: 8, for weights of 4 bits, with scales that may be negative; absent for balanced levels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero_point: Option<u8>,
    /// Bits of the activations that meet these weights: 8, for integer products (the default), or 32, for f32 products with the unpacked weights.
    #[serde(default = "eight")]
    pub activation_bits: u32,
}

fn eight() -> u32 {
    8
}

impl QuantizationConfig {
    /// Checks method, version and every part.
    ///
    /// # Errors
    /// [`Error::Config`], naming the field.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |field: String, expected: String, found: String| {
            Err(Error::Config { field: format!("quantization_config.{field}"), expected, found })
        };
        if self.quant_method != "ocelli" {
            return wrong("quant_method".into(), "`ocelli`".into(), format!("`{}`", self.quant_method));
        }
        if self.format_version != FORMAT_VERSION {
            let expected = format!("{FORMAT_VERSION}, the only one that this version knows");
            return wrong("format_version".into(), expected, self.format_version.to_string());
        }
        for (index, part) in self.parts.iter().enumerate() {
            if ![2, 4, 8].contains(&part.bits) {
                return wrong(format!("parts[{index}].bits"), "2, 4 or 8".into(), part.bits.to_string());
            }
            if let Some(group_size) = part.group_size
                && ![32, 64, 128].contains(&group_size)
            {
                let expected = "32, 64, 128 or null".into();
                return wrong(format!("parts[{index}].group_size"), expected, group_size.to_string());
            }
            if let Some(zero_point) = part.zero_point
                && (part.bits, zero_point) != (4, 8)
            {
                let expected = "8 with 4 bits, or null (balanced levels)".into();
                let found = format!("{zero_point} with {} bits", part.bits);
                return wrong(format!("parts[{index}].zero_point"), expected, found);
            }
            if ![8, 32].contains(&part.activation_bits) {
                let (field, found) = (format!("parts[{index}].activation_bits"), part.activation_bits.to_string());
                return wrong(field, "8 or 32".into(), found);
            }
        }
        Ok(())
    }

    /// The part with the longest prefix of `name`; prefixes end where a component of the name ends.
    pub fn part_for(&self, name: &str) -> Option<&QuantizedPart> {
        let matches = self.parts.iter().filter(|part| {
            name.strip_prefix(&part.prefix)
                .is_some_and(|rest| part.prefix.is_empty() || rest.is_empty() || rest.starts_with('.'))
        });
        matches.max_by_key(|part| part.prefix.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(parts: &[(&str, u32, Option<usize>)]) -> QuantizationConfig {
        let part = |&(prefix, bits, group_size): &(&str, u32, Option<usize>)| QuantizedPart {
            prefix: prefix.to_owned(),
            bits,
            group_size,
            zero_point: None,
            activation_bits: 8,
        };
        QuantizationConfig { quant_method: "ocelli".into(), format_version: 1, parts: parts.iter().map(part).collect() }
    }

    #[test]
    fn the_longest_prefix_wins_and_ends_at_a_component() {
        let config = config(&[("layers", 2, None), ("layers.segment_1", 4, Some(32)), ("", 8, None)]);
        let bits = |name: &str| config.part_for(name).map(|part| part.bits);
        assert_eq!(bits("layers.segment_0.layer_0.x.weight"), Some(2));
        assert_eq!(bits("layers.segment_1.layer_0.x.weight"), Some(4));
        assert_eq!(bits("layers.segment_10.layer_0.x.weight"), Some(2));
        assert_eq!(bits("layers_norm.weight"), Some(8));
    }

    #[test]
    fn a_method_version_or_part_that_is_not_known_is_refused_by_name() {
        let mut future = config(&[]);
        future.format_version = 2;
        let mut other = config(&[]);
        other.quant_method = "gptq".into();
        let mut sixteen = config(&[("a", 8, None)]);
        sixteen.parts[0].activation_bits = 16;
        let zero_point = |bits, zero_point| {
            let mut config = config(&[("a", bits, None)]);
            config.parts[0].zero_point = Some(zero_point);
            config
        };
        assert!(zero_point(4, 8).validate().is_ok());
        let cases = [
            (future, "quantization_config.format_version is 2"),
            (other, "quantization_config.quant_method is `gptq`"),
            (config(&[("a", 8, None), ("b", 3, None)]), "quantization_config.parts[1].bits is 3"),
            (config(&[("a", 8, Some(48))]), "quantization_config.parts[0].group_size is 48"),
            (sixteen, "quantization_config.parts[0].activation_bits is 16"),
            (zero_point(4, 7), "quantization_config.parts[0].zero_point is 7 with 4 bits, expected 8 with 4 bits"),
            (zero_point(2, 8), "quantization_config.parts[0].zero_point is 8 with 2 bits"),
            (zero_point(8, 8), "quantization_config.parts[0].zero_point is 8 with 8 bits"),
        ];
        for (config, expected) in cases {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn the_json_of_the_format_page_is_read() {
        let json = r#"{"quant_method": "ocelli", "format_version": 1, "unknown": 1,
            "parts": [{"prefix": "vision", "bits": 8, "group_size": null}, {"prefix": "layers", "bits": 2, "group_size": 32}]}"#;
        let read: QuantizationConfig = serde_json::from_str(json).unwrap();
        let mut expected = config(&[("vision", 8, None), ("layers", 2, Some(32))]);
        assert_eq!(read, expected);
        assert!(!serde_json::to_string(&expected).unwrap().contains("zero_point"), "balanced levels have no such key");

        let json = json.replace(r#""bits": 2"#, r#""bits": 4, "zero_point": 8"#);
        let read: QuantizationConfig = serde_json::from_str(&json).unwrap();
        (expected.parts[1].bits, expected.parts[1].zero_point) = (4, Some(8));
        assert_eq!(read, expected);
        let written = serde_json::to_string(&expected).unwrap();
        assert_eq!(serde_json::from_str::<QuantizationConfig>(&written).unwrap(), expected);
    }
}
