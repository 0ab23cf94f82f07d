//! Fields of a configuration file, read one by one, so that an error can name the field as the file spells it.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// An object of a configuration file.
pub(crate) struct JsonFields<'a> {
    file: &'static str,
    object: &'a Map<String, Value>,
}

impl<'a> JsonFields<'a> {
    /// The fields of `value`, which must be an object.
    pub(crate) fn new(file: &'static str, value: &'a Value) -> Result<Self> {
        match value.as_object() {
            Some(object) => Ok(Self { file, object }),
            None => Err(Error::Config {
                file,
                field: "(the whole)".into(),
                found: kind_of(value),
                expected: "an object".into(),
            }),
        }
    }

    /// The fields of an object inside this one.
    pub(crate) fn object(&self, name: &'static str) -> Result<Option<JsonFields<'a>>> {
        match self.find(&[name]) {
            None => Ok(None),
            Some((_, Value::Object(object))) => Ok(Some(JsonFields { file: self.file, object })),
            Some((_, value)) => Err(self.error(name, value_text(value), "an object")),
        }
    }

    /// The first of `names` (our name, then the aliases) that is there and not null.
    pub(crate) fn find(&self, names: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        names.iter().find_map(|&name| self.object.get(name).filter(|value| !value.is_null()).map(|value| (name, value)))
    }

    /// An error about a field of this file.
    pub(crate) fn error(&self, field: &str, found: impl ToString, expected: impl ToString) -> Error {
        Error::Config {
            file: self.file,
            field: field.to_string(),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    /// An error about a field that has to be there.
    pub(crate) fn missing(&self, field: &str, expected: impl ToString) -> Error {
        self.error(field, "missing", expected)
    }

    /// A whole number of a range.
    pub(crate) fn integer(&self, names: &[&'static str], min: usize, max: usize) -> Result<Option<usize>> {
        let Some((name, value)) = self.find(names) else { return Ok(None) };
        match value.as_u64().and_then(|number| usize::try_from(number).ok()) {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(self.error(name, value_text(value), format!("a whole number from {min} to {max}"))),
        }
    }

    /// A number of a range.
    pub(crate) fn number(&self, names: &[&'static str], min: f64, max: f64) -> Result<Option<f64>> {
        let Some((name, value)) = self.find(names) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(self.error(name, value_text(value), format!("a number from {min} to {max}"))),
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, names: &[&'static str]) -> Result<Option<bool>> {
        let Some((name, value)) = self.find(names) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.error(name, value_text(value), "true or false"))
    }

    /// A string.
    pub(crate) fn string(&self, names: &[&'static str]) -> Result<Option<&'a str>> {
        let Some((name, value)) = self.find(names) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.error(name, value_text(value), "a string"))
    }
}

/// A value as an error shows it: numbers, words and short strings themselves, the rest by kind.
pub(crate) fn value_text(value: &Value) -> String {
    const LONGEST: usize = 60;
    match value {
        Value::String(text) if text.len() > LONGEST => "a long string".into(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Null => value.to_string(),
        Value::Array(_) | Value::Object(_) => kind_of(value),
    }
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
    .into()
}
