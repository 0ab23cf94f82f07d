//! A decoder on given tensors, for people who compare with another framework.

use std::path::Path;

use crate::error::Result;

/// Runs the decoder of the model directory `model` on the tensors of the safetensors file `inputs`, and writes what happened
/// inside to the safetensors file `outputs`. Names and shapes of the tensors: [`ocelli_language::trace()`].
///
/// # Errors
/// Names the file, and the field or tensor, that is missing, broken or does not fit.
pub fn trace(model: impl AsRef<Path>, inputs: impl AsRef<Path>, outputs: impl AsRef<Path>) -> Result<()> {
    Ok(ocelli_language::trace(model.as_ref(), inputs.as_ref())?.write(outputs)?)
}
