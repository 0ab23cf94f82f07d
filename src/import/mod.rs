//! Checkpoints that others made, as model directories of this engine: packed, tensor by tensor.
//!
//! The weights are read some rows at a time and written where they belong in the new file, so that neither the checkpoint nor the
//! result is ever in memory as a whole; only a model that is not a Hugging Face checkpoint is loaded once, at the end, to see that it is whole.
//! Everything goes to a sibling of the destination first, which is then renamed.

mod card;
mod plan;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use ocelli_language::{Decoder, LoraDeltas, TextConfig};
use ocelli_nn::{PackedMatrix, PackedShape, Weights, WeightsFileWriter, pack_matrix};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use self::plan::{Plan, PlannedMatrix, Storage};
use crate::embed::PictureEncoder;
use crate::error::{Cause, Error, Result};
use crate::hugging_face::check_finite;
use crate::model::Model;
use crate::model_dir::{
    CONFIG, Files, GENERATION, LORA, ModelDir, PREPROCESSOR, Sources, TEMPLATE, TOKENIZER, TextSources, WEIGHTS,
    check_is_folder,
};

/// Weights that are read, packed and written together, at most: 16 MB in f32.
const CHUNK: usize = 1 << 22;

/// How a checkpoint is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// Bits of the decoder's weights: 2, 4, 8, 16 or 32.
    pub bits: u32,
    /// Weights that share a scale, where weights are packed in 2, 4 or 8 bits: 32, 64 or 128; none for one scale a row.
    pub group_size: Option<usize>,
    /// Bits of encoder and adapter. Default: 8, or `bits` where that is more.
    pub encoder_bits: Option<u32>,
    /// Bits of embedding and output layer. Default: 8, or `bits` where that is more.
    pub embedding_bits: Option<u32>,
    /// Whether a low-rank adapter beside the checkpoint is added to the weights; otherwise it stays beside them.
    pub merge_adapter: bool,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { bits: 8, group_size: Some(32), encoder_bits: None, embedding_bits: None, merge_adapter: false }
    }
}

impl ImportOptions {
    fn check(&self) -> Result<()> {
        let bits =
            [("bits", Some(self.bits)), ("encoder-bits", self.encoder_bits), ("embedding-bits", self.embedding_bits)];
        for (name, bits) in bits {
            if let Some(bits) = bits.filter(|bits| ![2, 4, 8, 16, 32].contains(bits)) {
                return Err(Error::options(name, bits, "2, 4, 8, 16 or 32"));
            }
        }
        match self.group_size {
            None | Some(32 | 64 | 128) => Ok(()),
            Some(size) => Err(Error::options("group-size", size, "32, 64, 128 or row")),
        }
    }

    /// Bits of the matrices under a name.
    fn bits_of(&self, name: &str) -> u32 {
        match name.split('.').next() {
            Some("vision" | "adapter") => self.encoder_bits.unwrap_or(self.bits.max(8)),
            Some("embedding" | "output_transform") => self.embedding_bits.unwrap_or(self.bits.max(8)),
            _ => self.bits,
        }
    }
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// `architectures` of the checkpoint.
    pub architecture: String,
    /// The matrices of each part, by kind.
    pub kinds: Vec<ImportedKind>,
    /// Bytes of the checkpoint's tensors that the model has.
    pub source_bytes: u64,
    /// Bytes of the tensors that were written.
    pub bytes: u64,
}

/// Matrices of one kind: those whose names differ in their layer alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ImportedKind {
    /// Their name here, with `*` for the layer.
    pub name: String,
    /// How many they are.
    pub tensors: usize,
    /// Weights of all of them.
    pub parameters: u64,
    /// Bits of a weight, without its scale.
    pub bits: u32,
    /// Weights that share a scale; none for one a row, or without scales.
    pub group_size: Option<usize>,
    /// The root of the sum of squares of the errors, over that of the weights.
    pub relative_error: f64,
}

impl ImportedKind {
    /// What shares a scale, for people: `32`, `row`, or `-` where there are no scales.
    pub fn group(&self) -> String {
        match (self.bits, self.group_size) {
            (16.., _) => "-".to_owned(),
            (_, None) => "row".to_owned(),
            (_, Some(size)) => size.to_string(),
        }
    }
}

/// Sums of squares over the matrices of a kind.
#[derive(Default)]
struct Sums {
    tensors: usize,
    parameters: u64,
    weights: f64,
    errors: f64,
}

/// Reads the checkpoint `source` and writes the model directory `destination`, which must not be there yet. `progress` is told how many of
/// how many weights are done.
///
/// # Errors
/// Names the file, and the field or tensor, that is missing, broken, does not fit or is not supported;
/// [`ErrorKind::Io`](crate::ErrorKind::Io) when something cannot be written. Nothing is at `destination` then.
pub fn import(
    source: impl AsRef<Path>,
    destination: impl AsRef<Path>,
    options: &ImportOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ImportReport> {
    let (source, destination) = (source.as_ref(), destination.as_ref());
    options.check()?;
    if destination.symlink_metadata().is_ok() {
        let (found, expected) = ("there already".to_owned(), "a name that is free: import writes a new directory");
        return Err(Cause::ModelFile { path: destination.to_owned(), found, expected }.into());
    }
    check_is_folder(source)?;
    if let Some(parent) = destination.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::metadata(parent).map_err(|source| Cause::Write { path: parent.to_owned(), source })?;
    }
    // All that can be wrong with the configuration is found before the weights are read.
    let files = Files::Folder(source);
    let mut sources = Sources::open(&files, || Weights::open(source))?;
    if sources.config.get("quantization_config").is_some_and(|value| !value.is_null()) {
        let (path, field) = (source.join(CONFIG), "quantization_config".to_owned());
        let (found, supported) = ("there".to_owned(), "checkpoints whose weights are floats".to_owned());
        return Err(Cause::Unsupported { path, field, found, supported }.into());
    }
    let has_text = sources.config.get("text_config").is_some();
    let has_vision = sources.config.get("vision_config").is_some();
    let texts = if has_text && (has_vision || files.has(TOKENIZER)) { Some(sources.read_texts(&files)?) } else { None };
    ModelDir::open(source)?;

    let lora = match (has_text && files.has(LORA), options.merge_adapter) {
        (false, true) => {
            return Err(Error::options("merge-adapter", "given", format!("{LORA} in {}", source.display())));
        }
        (false, false) => None,
        (true, _) => Some(Weights::open(source.join(LORA))?),
    };
    let merged = match &lora {
        Some(lora) if options.merge_adapter => {
            let text: TextConfig = files.section(CONFIG, &sources.config, Some("text_config"))?;
            let deltas = LoraDeltas::new(lora, &text)?;
            deltas.check(&sources.weights)?;
            Some(deltas)
        }
        _ => None,
    };
    let partial = partial_sibling(destination);
    let importer = Importer { sources: &sources, options, merged: merged.as_ref(), folder: &partial };
    fs::create_dir(&partial).map_err(|source| Cause::Write { path: partial.clone(), source })?;
    let copy_adapter = || match lora.is_some() && merged.is_none() {
        true => copy(&source.join(LORA), &partial.join(LORA)),
        false => Ok(()),
    };
    let written = copy_adapter().and_then(|()| importer.write(&files, texts, progress)).and_then(|report| {
        fs::rename(&partial, destination)
            .map_err(|source| Cause::Write { path: destination.to_owned(), source }.into())
            .map(|()| report)
    });
    if written.is_err() {
        // What is left of a failed import is of no use to anyone; that it cannot be removed changes nothing.
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

/// Beside the destination, so that it can be renamed to it.
fn partial_sibling(destination: &Path) -> PathBuf {
    let mut name = destination.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    destination.with_file_name(name)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map_err(|source| Cause::Write { path: to.to_owned(), source })?;
    Ok(())
}

struct Importer<'a> {
    sources: &'a Sources,
    options: &'a ImportOptions,
    merged: Option<&'a LoraDeltas>,
    folder: &'a Path,
}

impl Importer<'_> {
    fn write(
        &self,
        files: &Files<'_>,
        texts: Option<TextSources>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ImportReport> {
        let weights = &self.sources.weights;
        let plan = Plan::new(weights, self.options)?;
        let mut writer = WeightsFileWriter::create(self.folder.join(WEIGHTS), plan.tensors())?;
        let (mut done, total) = (0, plan.num_weights());
        for name in &plan.floats {
            let (dtype, shape) = (weights.dtype(name).unwrap_or_default(), weights.shape(name).unwrap_or_default());
            let values = self.merge(name, 0, weights.tensor(name, shape)?)?;
            check_finite(self.sources.source_name(name), weights.label(), &values)?;
            writer.write(name, 0, &float_bytes(&values, &dtype))?;
        }
        let mut kinds: BTreeMap<(String, u32, Option<usize>), Sums> = BTreeMap::new();
        for matrix in &plan.matrices {
            let kind = (kind_of(&matrix.name), matrix.bits, matrix.storage.group_size());
            let sums = kinds.entry(kind).or_default();
            sums.tensors += 1;
            let source_name = self.sources.source_name(&matrix.name);
            let rows_at_once = (CHUNK / matrix.columns.max(1)).max(1);
            for first in (0..matrix.rows).step_by(rows_at_once) {
                let count = rows_at_once.min(matrix.rows - first);
                let values = self.merge(&matrix.name, first, weights.rows(&matrix.name, first, count)?)?;
                check_finite(source_name, weights.label(), &values)?;
                let errors = write_rows(&mut writer, matrix, source_name, first, &values)?;
                if !errors.is_finite() {
                    let found = format!("numbers that are too large for {} bits", matrix.bits);
                    let (tensor, file) = (source_name.to_owned(), weights.label().to_owned());
                    return Err(Cause::NotFinite { tensor, file, found }.into());
                }
                sums.errors += errors;
                sums.weights += values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
                sums.parameters += values.len() as u64;
                done += values.len() as u64;
                progress(done, total);
            }
        }
        writer.finish()?;

        let mut config = self.sources.config.clone();
        if let Some(quantization) = plan.quantization() {
            config["quantization_config"] = quantization;
        }
        let architecture = files.json(CONFIG)?["architectures"][0].as_str().unwrap_or("AFMTextV7").to_owned();
        let report = ImportReport {
            architecture,
            kinds: kinds.into_iter().map(|(kind, sums)| sums.report(kind)).collect(),
            source_bytes: weights.names().iter().filter_map(|name| weights.num_bytes(name)).sum::<usize>() as u64,
            bytes: plan.num_bytes(),
        };
        self.write_json(CONFIG, &config)?;
        if let Some(preprocessor) = &self.sources.preprocessor {
            self.write_json(PREPROCESSOR, preprocessor)?;
        }
        let card = card::text(files, &report, texts.is_some());
        if let Some(texts) = texts {
            self.write_json(GENERATION, &texts.generation)?;
            self.write_file(TOKENIZER, &texts.tokenizer)?;
            self.write_file(TEMPLATE, texts.template.as_bytes())?;
        }
        self.write_file("README.md", card.as_bytes())?;
        for name in ["LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE"] {
            if files.has(name) {
                copy(&files.path(name), &self.folder.join(name))?;
            }
        }
        self.check_written(&config).map_err(|error| error.at(files.path("").display()))?;
        Ok(report)
    }

    /// Reads what was written as any model, before it gets its name. Where the tensors were not checked one by one before, the layers are made too.
    fn check_written(&self, config: &Value) -> Result<()> {
        if self.sources.is_translated() {
            return ModelDir::open(self.folder).map(drop);
        }
        if config.get("text_config").is_none() {
            return PictureEncoder::load(self.folder).map(drop);
        }
        let files = Files::Folder(self.folder);
        if files.has(TOKENIZER) {
            return Model::load(self.folder).map(drop);
        }
        let sources = Sources::open(&files, || Weights::open(self.folder))?;
        let weights = sources.quantized_weights(&files)?;
        let text: TextConfig = files.section(CONFIG, config, Some("text_config"))?;
        match files.has(LORA) {
            true => Decoder::load_with_adapter(&weights, &text, &Weights::open(self.folder.join(LORA))?)?,
            false => Decoder::load(&weights, &text)?,
        };
        Ok(())
    }

    /// Rows from `first` on, with the low-rank adapter added if it is to be merged.
    fn merge(&self, name: &str, first: usize, mut values: Vec<f32>) -> Result<Vec<f32>> {
        if let Some(deltas) = self.merged {
            deltas.add_to(name, first, &mut values)?;
        }
        Ok(values)
    }

    fn write_json(&self, name: &str, value: &Value) -> Result<()> {
        let text = serde_json::to_string_pretty(value).expect("JSON can be written") + "\n";
        self.write_file(name, text.as_bytes())
    }

    fn write_file(&self, name: &str, contents: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, contents).map_err(|source| Cause::Write { path, source }.into())
    }
}

/// The name with `*` for the number of a layer.
fn kind_of(name: &str) -> String {
    let is_layer = |part: &str| part.trim_start_matches("layer_").parse::<usize>().is_ok();
    let parts: Vec<&str> = name.trim_end_matches(".weight").split('.').collect();
    parts.into_iter().map(|part| if is_layer(part) { "*" } else { part }).collect::<Vec<_>>().join(".")
}

impl Sums {
    fn report(self, (name, bits, group_size): (String, u32, Option<usize>)) -> ImportedKind {
        let relative_error = if self.weights > 0.0 { (self.errors / self.weights).sqrt() } else { 0.0 };
        ImportedKind { name, tensors: self.tensors, parameters: self.parameters, bits, group_size, relative_error }
    }
}

/// Packs and writes some rows of a matrix, which messages call `source_name`; the sum of the squares of the errors.
fn write_rows(
    writer: &mut WeightsFileWriter,
    matrix: &PlannedMatrix,
    source_name: &str,
    first: usize,
    values: &[f32],
) -> Result<f64> {
    match matrix.storage {
        Storage::Float(dtype) => {
            let bytes = float_bytes(values, dtype);
            let stored = stored_values(&bytes, dtype);
            writer.write(&matrix.name, first * matrix.columns * (bytes.len() / values.len().max(1)), &bytes)?;
            Ok(squared_errors(values, &stored))
        }
        Storage::Packed(shape) => {
            let module = matrix.name.trim_end_matches(".weight");
            let rows_at_once = (values.len() / matrix.columns.max(1)).div_ceil(8 * rayon::current_num_threads()).max(1);
            let pieces: Vec<_> = values
                .par_chunks(rows_at_once * matrix.columns.max(1))
                .map(|values| pack(shape, matrix, source_name, values))
                .collect::<Result<_>>()?;
            let (mut errors, mut row) = (0.0, first);
            for (piece, codes, scales, piece_errors) in pieces {
                writer.write(&format!("{module}.weight_codes"), row * shape.row_bytes(), &codes)?;
                let scale_bytes: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
                writer.write(
                    &format!("{module}.weight_scales"),
                    row * shape.num_groups() * size_of::<f16>(),
                    &scale_bytes,
                )?;
                errors += piece_errors;
                row += piece;
            }
            Ok(errors)
        }
    }
}

/// Rows, codes, scales, and the sum of the squares of the errors.
type Packed = (usize, Vec<u8>, Vec<f16>, f64);

fn pack(shape: PackedShape, matrix: &PlannedMatrix, source_name: &str, values: &[f32]) -> Result<Packed> {
    let rows = values.len() / matrix.columns.max(1);
    let refused = |error: &dyn std::fmt::Display| ocelli_nn::Error::Write {
        tensor: source_name.to_owned(),
        detail: error.to_string(),
    };
    let shape = PackedShape::new(shape.bits(), rows, matrix.columns, shape.group_size())
        .and_then(|piece| piece.with_zero_point(shape.zero_point()))
        .map_err(|error| refused(&error))?;
    let (codes, scales) = pack_matrix(shape, values).map_err(|error| refused(&error))?;
    let packed = PackedMatrix::new(shape, &codes, &scales).map_err(|error| refused(&error))?;
    let errors = squared_errors(values, &packed.dequantize());
    Ok((rows, codes, scales, errors))
}

fn squared_errors(values: &[f32], stored: &[f32]) -> f64 {
    values.iter().zip(stored).map(|(value, stored)| f64::from(value - stored).powi(2)).sum()
}

/// The bytes of values as `F32`, `BF16` or `F16`.
fn float_bytes(values: &[f32], dtype: &str) -> Vec<u8> {
    match dtype {
        "BF16" => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
        "F16" => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

fn stored_values(bytes: &[u8], dtype: &str) -> Vec<f32> {
    let halves = || bytes.as_chunks().0.iter();
    match dtype {
        "BF16" => halves().map(|&bytes| bf16::from_le_bytes(bytes).to_f32()).collect(),
        "F16" => halves().map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
    }
}

/// `quantization_config` of these parts.
fn quantization_config(parts: &[(&str, u32)], group_size: Option<usize>) -> Value {
    let part = |&(prefix, bits): &(&str, u32)| {
        let mut part = json!({"prefix": prefix, "bits": bits, "group_size": group_size});
        if let Some(zero_point) = zero_point(bits) {
            part["zero_point"] = json!(zero_point);
        }
        part
    };
    let parts: Vec<Value> = parts.iter().map(part).collect();
    json!({"quant_method": "ocelli", "format_version": ocelli_nn::FORMAT_VERSION, "parts": parts})
}

/// Weights that were not trained for balanced levels have heavy tails, and many near 0: in 4 bits their levels have a 0.
fn zero_point(bits: u32) -> Option<u8> {
    (bits == 4).then_some(8)
}
