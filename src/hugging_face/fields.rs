//! Fields of a Hugging Face configuration, with the defaults of its class in transformers.

use std::path::PathBuf;

use serde_json::Value;

use crate::error::{Cause, Result};

/// The largest number of anything in a configuration.
const MAX: u64 = 1 << 24;

/// An object of a configuration file.
pub(super) struct Fields<'a> {
    path: PathBuf,
    /// `vision_config.`, or empty for the whole file.
    prefix: String,
    value: &'a Value,
}

impl<'a> Fields<'a> {
    pub(super) fn new(path: PathBuf, value: &'a Value) -> Self {
        Self { path, prefix: String::new(), value }
    }

    /// The object `name`; what is not there counts as empty.
    pub(super) fn section(&self, name: &str) -> Result<Fields<'a>> {
        let prefix = format!("{}{name}.", self.prefix);
        match self.find(name) {
            None => Ok(Self { path: self.path.clone(), prefix, value: &Value::Null }),
            Some(value) if value.is_object() => Ok(Self { path: self.path.clone(), prefix, value }),
            Some(value) => Err(self.refused(name, value, "an object")),
        }
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// A field that is there and not null.
    pub(super) fn find(&self, name: &str) -> Option<&'a Value> {
        self.value.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.find(name) else { return Ok(None) };
        match value.as_u64().filter(|number| *number <= MAX) {
            Some(number) => Ok(Some(number as usize)),
            None => Err(self.refused(name, value, "a whole number up to 16777216")),
        }
    }

    /// A number of pixels: a whole number, or a list of two that are equal.
    pub(super) fn side(&self, name: &str) -> Result<Option<usize>> {
        match self.find(name).and_then(Value::as_array).map(Vec::as_slice) {
            Some([height, width]) if height == width && height.as_u64().is_some_and(|side| side <= MAX) => {
                Ok(height.as_u64().map(|side| side as usize))
            }
            Some(_) => Err(self.error(name, "a list", "the same number of pixels for both sides")),
            None => self.integer(name),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.find(name) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.refused(name, value, "a number"))
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.find(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.refused(name, value, "true or false"))
    }

    pub(super) fn string(&self, name: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.find(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.refused(name, value, "a string"))
    }

    pub(super) fn error(&self, name: &str, found: impl ToString, expected: impl Into<String>) -> crate::Error {
        let field = format!("{}{name}", self.prefix);
        Cause::Config { path: self.path.clone(), field, found: found.to_string(), expected: expected.into() }.into()
    }

    /// The model computes something else than what is here.
    pub(super) fn unsupported(&self, name: &str, found: impl ToString, supported: impl Into<String>) -> crate::Error {
        let field = format!("{}{name}", self.prefix);
        let supported = supported.into();
        Cause::Unsupported { path: self.path.clone(), field, found: found.to_string(), supported }.into()
    }

    fn refused(&self, name: &str, value: &Value, expected: &str) -> crate::Error {
        let found = match value {
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            value => value.to_string().chars().take(60).collect(),
        };
        self.error(name, found, expected)
    }
}
