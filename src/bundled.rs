//! The bundled model: the files of `assets/nano` inside the library, so that it works offline, from any folder.

use ocelli_nn::Weights;

use crate::error::Result;
use crate::model_dir::{self, Files, ModelDir};

const NAME: &str = "nano";

/// Bytes at an address that is a multiple of 64: kernels read packed weights in blocks of 64 bytes.
#[repr(C, align(64))]
struct Aligned<B: ?Sized>(B);

static WEIGHTS: &Aligned<[u8]> = &Aligned(*include_bytes!("../assets/nano/model.safetensors"));

/// The files beside the weights.
pub(crate) static FILES: &[(&str, &[u8])] = &[
    (model_dir::CONFIG, include_bytes!("../assets/nano/config.json")),
    (model_dir::PREPROCESSOR, include_bytes!("../assets/nano/preprocessor_config.json")),
    (model_dir::GENERATION, include_bytes!("../assets/nano/generation_config.json")),
    (model_dir::TOKENIZER, include_bytes!("../assets/nano/tokenizer.json")),
    (model_dir::TEMPLATE, include_bytes!("../assets/nano/chat_template.jinja")),
];

/// Reads the bundled model.
pub(crate) fn open() -> Result<ModelDir> {
    let label = format!("(bundled)/{}", model_dir::WEIGHTS);
    ModelDir::from_files(NAME.to_owned(), &Files::Embedded(FILES), || Weights::from_static(&label, &WEIGHTS.0))
}
