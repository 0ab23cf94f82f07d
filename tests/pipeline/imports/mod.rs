//! Imports of checkpoints (`tests/golden/hf`, `tests/golden/afm_*`): what is refused, what packing costs, and that the result works.

mod afm;
mod packing;
mod refused_configurations;
mod refused_files;
mod running;

use crate::hugging_face::{floats, golden, json as read_json, lossless, picture, traced};
use ocelli::{
    CaptionOptions, Error, ErrorKind, GenerationOptions, ImportOptions, ImportReport, Mode, Model, PictureEncoder,
    TracedLayers, import, prompt, trace,
};
use ocelli_nn::Weights;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const WEIGHTS: &str = "model.safetensors";

const INDEX: &str = "model.safetensors.index.json";

/// A tensor as it lies in a file.
#[derive(Clone)]
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn read_tensors(path: &Path) -> Vec<Tensor> {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<Tensor> = tensors
        .tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let (dtype, shape, bytes) = (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec());
            Tensor { name, dtype, shape, bytes }
        })
        .collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors
}

fn write_tensors(path: &Path, tensors: &[Tensor]) {
    let views = tensors
        .iter()
        .map(|tensor| (&tensor.name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A copy of a checkpoint, `source`, that a test may break, alone in a folder that imports go to.
struct Checkpoint {
    folder: TempDir,
}

impl Checkpoint {
    fn new(golden: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir(&source).unwrap();
        for entry in fs::read_dir(golden).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, source.join(path.file_name().unwrap())).unwrap();
        }
        Self { folder }
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn destination(&self) -> PathBuf {
        self.folder.path().join("destination")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.source().join(name)
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    /// Changes a JSON file.
    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = read_json(&self.file(name));
        change(&mut value);
        fs::write(self.file(name), value.to_string()).unwrap();
    }

    /// Sets a field of config.json, in a section if its name is not empty.
    fn set(&self, section: &str, field: &str, value: Value) {
        self.edit("config.json", |config| match section {
            "" => config[field] = value,
            _ => config[section][field] = value,
        });
    }

    /// Writes the weights again, changed.
    fn rewrite(&self, change: impl FnOnce(&mut Vec<Tensor>)) {
        let mut tensors = read_tensors(&self.file(WEIGHTS));
        change(&mut tensors);
        write_tensors(&self.file(WEIGHTS), &tensors);
    }

    /// Makes the last value of a tensor infinite or, in f32, not a number.
    fn spoil(&self, name: &str) {
        self.rewrite(|tensors| {
            let tensor = tensors.iter_mut().find(|tensor| tensor.name == name).unwrap();
            let value: &[u8] = match tensor.dtype {
                Dtype::F32 => &[0, 0, 0xc0, 0x7f],
                Dtype::BF16 => &[0x80, 0x7f],
                _ => &[0, 0x7c],
            };
            let start = tensor.bytes.len() - value.len();
            tensor.bytes[start..].copy_from_slice(value);
        });
    }

    fn import(&self, options: &ImportOptions) -> Result<ImportReport, Error> {
        import(self.source(), self.destination(), options, &mut |_, _| ())
    }

    /// What is in the folder besides the source.
    fn others(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|name| name != "source").collect()
    }
}

#[track_caller]
fn assert_same_tensors(found: &[Tensor], expected: &[Tensor]) {
    let names = |tensors: &[Tensor]| tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.shape == expected.shape && found.bytes == expected.bytes, "{} differs", found.name);
    }
}

type Case<'a> = (&'a str, &'a str, fn(&Checkpoint), ErrorKind, &'a [&'a str]);

/// Imports each broken checkpoint: (what is broken, family, how, kind of the error, parts of its message).
fn assert_refused(cases: &[Case<'_>]) {
    let mut wrong = Vec::new();
    for (name, family, change, kind, parts) in cases {
        let checkpoint = Checkpoint::new(&golden(family));
        change(&checkpoint);
        match checkpoint.import(&ImportOptions::default()) {
            Ok(_) => wrong.push(format!("{name}: imported")),
            Err(error) => {
                let message = error.to_string();
                if error.kind() != *kind || parts.iter().any(|part| !message.contains(part)) {
                    wrong.push(format!("{name}: expected {kind} and {parts:?}, found {}: {message}", error.kind()));
                }
                if checkpoint.others() != [""; 0] {
                    wrong.push(format!("{name}: left {:?}", checkpoint.others()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
