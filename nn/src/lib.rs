//! Tensors by name out of a memory map, linear layers of any bits, norms, the encoder layer.
//!
//! [`Weights`] maps the safetensors file (or shards) of a model directory; layers are read from it by name and share its memory. What
//! kind of weights a layer has is settled when it is loaded, by the file: the code that uses a [`Linear`] does not see it.
//! bf16 and f16 tensors become f32 when they are loaded.

#![deny(unsafe_code)]

mod activation;
mod embedding;
mod encoder_layer;
mod error;
mod layer_norm;
mod linear;
mod matrix;
mod quantization;
mod rms_norm;
#[cfg(test)]
mod testing;
mod values;
mod weight_file;
mod weights;
mod weights_file_writer;
mod writer;

pub use activation::Activation;
pub use embedding::Embedding;
pub use encoder_layer::{EncoderLayer, EncoderLayerConfig};
pub use error::{Error, ErrorKind};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use quantization::{FORMAT_VERSION, QuantizationConfig, QuantizedPart};
pub use rms_norm::RmsNorm;
pub use weights::Weights;
pub use weights_file_writer::{PlannedTensor, TensorType, WeightsFileWriter};
pub use writer::WeightsWriter;

pub use ocelli_kernels::{
    Bits, Error as PackError, Isa, MachineLimits, PackedMatrix, PackedShape, map, on_pool, pack_matrix,
};

/// Calls `body` with the rows of `x` one after the other in memory.
fn with_rows(x: &mut ndarray::Array2<f32>, body: impl FnOnce(&mut [f32])) {
    if !x.is_standard_layout() {
        *x = x.as_standard_layout().into_owned();
    }
    body(x.as_slice_mut().expect("standard layout"));
}
