//! The activation functions by the names of Hugging Face's `hidden_act`.

use ndarray::Array2;
use ocelli_kernels::{Isa, activation};
use serde::{Deserialize, Serialize};

/// `hidden_act` of a config.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// With the exact error function.
    Gelu,
    /// By the tanh approximation.
    #[serde(alias = "gelu_new", alias = "gelu_tanh")]
    GeluPytorchTanh,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// `x * sigmoid(x)`.
    #[serde(alias = "swish")]
    Silu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// Applies the function to each element of `x` in place.
    pub fn forward_in_place(self, x: &mut Array2<f32>) {
        crate::with_rows(x, |values| self.forward_slice(values));
    }

    /// Applies the function to each element in place.
    pub fn forward_slice(self, values: &mut [f32]) {
        let isa = Isa::active();
        match self {
            Activation::Gelu => activation::gelu(isa, values),
            Activation::GeluPytorchTanh => activation::gelu_tanh(isa, values),
            Activation::QuickGelu => activation::quick_gelu(isa, values),
            Activation::Silu => activation::silu(isa, values),
            Activation::Relu => activation::relu(isa, values),
        }
    }
}
