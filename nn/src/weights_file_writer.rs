//! Writes a weight file of any size in pieces: for models that do not fit into memory.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::Error;

/// The data of a file, and every row of packed codes in it, begin at a multiple of this: the length of a cache line and of a block of codes.
const ALIGNMENT: usize = 64;

/// The type of the elements of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper halves of 32-bit floats.
    BF16,
    /// Bytes: the codes of packed matrices.
    U8,
    /// 64-bit integers: token ids, for example.
    I64,
}

impl TensorType {
    /// Bytes of an element.
    pub fn width(self) -> usize {
        match self {
            TensorType::U8 => 1,
            TensorType::F16 | TensorType::BF16 => 2,
            TensorType::F32 => 4,
            TensorType::I64 => 8,
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            TensorType::F32 => Dtype::F32,
            TensorType::F16 => Dtype::F16,
            TensorType::BF16 => Dtype::BF16,
            TensorType::U8 => Dtype::U8,
            TensorType::I64 => Dtype::I64,
        }
    }
}

/// A tensor that a file will have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name.
    pub name: String,
    /// The type of its elements, which are row-major and little-endian.
    pub dtype: TensorType,
    /// Its shape; `[]` is one element.
    pub shape: Vec<usize>,
}

impl PlannedTensor {
    /// `None` if the number does not fit.
    fn num_bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.dtype.width(), |product, &size| product.checked_mul(size))
    }
}

/// A safetensors file that is being written. Until [`WeightsFileWriter::finish`], what is not written yet reads as zeros; a writer that is
/// dropped leaves the file as it is.
#[derive(Debug)]
pub struct WeightsFileWriter {
    path: PathBuf,
    file: File,
    tensors: HashMap<String, Place>,
}

/// Where a tensor lies in the file, in bytes.
#[derive(Debug)]
struct Place {
    start: u64,
    len: usize,
    written: usize,
}

impl WeightsFileWriter {
    /// Makes a new file with room for these tensors, and writes its header.
    ///
    /// The tensors lie in the order of their alignment, without gaps: first those of bytes whose size is a multiple of 64, each at a multiple
    /// of 64 (codes of packed matrices), then those of 8, 4, 2 and 1 bytes an element; in the order given among equals.
    ///
    /// # Errors
    /// [`Error::Write`] for a name that comes twice or a shape whose bytes cannot be counted; [`Error::Io`] if the file is there already, or
    /// cannot be made.
    pub fn create(path: impl AsRef<Path>, tensors: Vec<PlannedTensor>) -> Result<WeightsFileWriter, Error> {
        let path = path.as_ref().to_owned();
        let refused =
            |tensor: &str, detail: &str| Error::Write { tensor: tensor.to_owned(), detail: detail.to_owned() };
        let mut planned = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let Some(len) = tensor.num_bytes() else {
                return Err(refused(&tensor.name, &format!("shape {:?} is too large", tensor.shape)));
            };
            planned.push((tensor, len));
        }
        planned.sort_by_key(|(tensor, len)| std::cmp::Reverse(alignment(tensor.dtype, *len)));

        let (mut infos, mut places) = (Vec::with_capacity(planned.len()), HashMap::with_capacity(planned.len()));
        let mut end = 0_usize;
        for (PlannedTensor { name, dtype, shape }, len) in planned {
            let start = end;
            // Files have at most 2^63 bytes.
            end = match start.checked_add(len) {
                Some(end) if i64::try_from(end).is_ok() => end,
                _ => return Err(refused(&name, &format!("with shape {shape:?} the file is too large"))),
            };
            if places.insert(name.clone(), Place { start: start as u64, len, written: 0 }).is_some() {
                return Err(refused(&name, "there is one of that name already"));
            }
            infos.push((name, TensorInfo { dtype: dtype.dtype(), shape, data_offsets: (start, end) }));
        }

        let io = |action, source| Error::Io { action, path: path.clone(), source };
        let header = header(infos).map_err(|error| io("write", std::io::Error::other(error)))?;
        places.values_mut().for_each(|place| place.start += header.len() as u64);
        let mut file =
            OpenOptions::new().write(true).create_new(true).open(&path).map_err(|error| io("create", error))?;
        file.write_all(&header).map_err(|error| io("write", error))?;
        file.set_len((header.len() + end) as u64).map_err(|error| io("write", error))?;
        Ok(WeightsFileWriter { path, file, tensors: places })
    }

    /// Writes some bytes of the tensor `name`, from its byte `first_byte` on. Every byte is written once, in any order.
    ///
    /// # Errors
    /// [`Error::Write`] for a name that was not planned, and for bytes outside the tensor; [`Error::Io`].
    pub fn write(&mut self, name: &str, first_byte: usize, bytes: &[u8]) -> Result<(), Error> {
        let refused = |detail| Err(Error::Write { tensor: name.to_owned(), detail });
        let Some(place) = self.tensors.get_mut(name) else {
            return refused("it is not among the tensors that the file was made for".to_owned());
        };
        if first_byte.checked_add(bytes.len()).is_none_or(|end| end > place.len) {
            let detail = format!("{} bytes from byte {first_byte} on are not inside its {}", bytes.len(), place.len);
            return refused(detail);
        }
        let written =
            self.file.seek(SeekFrom::Start(place.start + first_byte as u64)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|source| Error::Io { action: "write", path: self.path.clone(), source })?;
        place.written += bytes.len();
        Ok(())
    }

    /// Checks that as many bytes were written as the tensors have, and waits until the file is on its disk.
    ///
    /// # Errors
    /// [`Error::Write`] names a tensor of which more or fewer bytes were written; [`Error::Io`].
    pub fn finish(self) -> Result<(), Error> {
        // The first by name, so that the message is the same each time.
        let unfinished = self.tensors.iter().filter(|(_, place)| place.written != place.len);
        if let Some((name, place)) = unfinished.min_by_key(|(name, _)| *name) {
            let detail = format!("{} of its {} bytes were written, expected each once", place.written, place.len);
            return Err(Error::Write { tensor: name.clone(), detail });
        }
        self.file.sync_all().map_err(|source| Error::Io { action: "write", path: self.path, source })
    }
}

/// What the start of a tensor is a multiple of, if those of larger alignment lie before it. Tensors of this alignment keep it for what follows,
/// as their size is a multiple of it, too.
fn alignment(dtype: TensorType, num_bytes: usize) -> usize {
    match dtype {
        TensorType::U8 if num_bytes.is_multiple_of(ALIGNMENT) => ALIGNMENT,
        other => other.width(),
    }
}

/// The length of the header in 8 bytes, and the header in JSON, with spaces up to a multiple of [`ALIGNMENT`].
fn header(infos: Vec<(String, TensorInfo)>) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let json = serde_json::to_vec(&Metadata::new(None, infos)?)?;
    let num_bytes = (size_of::<u64>() + json.len()).next_multiple_of(ALIGNMENT);
    let mut header = ((num_bytes - size_of::<u64>()) as u64).to_le_bytes().to_vec();
    header.extend(json);
    header.resize(num_bytes, b' ');
    Ok(header)
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use ocelli_kernels::{Bits, PackedShape, pack_matrix};

    use super::*;
    use crate::testing::{numbers, quantization};
    use crate::{ErrorKind, Weights};

    fn planned(name: &str, dtype: TensorType, shape: &[usize]) -> PlannedTensor {
        PlannedTensor { name: name.to_owned(), dtype, shape: shape.to_vec() }
    }

    #[test]
    fn what_is_written_in_pieces_is_read_back_from_aligned_places() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let values = numbers(1, 15);
        let shape = PackedShape::new(Bits::Four, 3, 100, Some(32)).unwrap();
        let (codes, scales) = pack_matrix(shape, &numbers(2, 300)).unwrap();
        let tensors = vec![
            planned("odd", TensorType::U8, &[5]),
            planned("half", TensorType::F16, &[1]),
            planned("brain", TensorType::BF16, &[3]),
            planned("l.weight_scales", TensorType::F16, &[3, 4]),
            planned("float", TensorType::F32, &[5, 3]),
            planned("l.weight_codes", TensorType::U8, &[3, shape.row_bytes()]),
            planned("ids", TensorType::I64, &[]),
            planned("empty", TensorType::F32, &[0, 7]),
        ];
        let mut writer = WeightsFileWriter::create(&path, tensors).unwrap();
        writer.write("odd", 0, &[1, 2, 3, 4, 5]).unwrap();
        writer.write("half", 0, &f16::from_f32(1.5).to_le_bytes()).unwrap();
        writer.write("brain", 0, bytemuck::cast_slice(&[0.5, -3.0, 2.0].map(bf16::from_f32))).unwrap();
        writer.write("ids", 0, &7_i64.to_le_bytes()).unwrap();
        writer.write("l.weight_scales", 0, bytemuck::cast_slice(&scales)).unwrap();
        // The last rows first.
        writer.write("float", 24, bytemuck::cast_slice(&values[6..])).unwrap();
        writer.write("float", 0, bytemuck::cast_slice(&values[..6])).unwrap();
        for (row, codes) in codes.chunks(shape.row_bytes()).enumerate() {
            writer.write("l.weight_codes", row * shape.row_bytes(), codes).unwrap();
        }
        writer.finish().unwrap();

        let weights = Weights::open(&path).unwrap();
        assert_eq!(weights.names().len(), 8);
        assert_eq!(weights.tensor("half", &[1]).unwrap(), [1.5]);
        assert_eq!(weights.tensor("brain", &[3]).unwrap(), [0.5, -3.0, 2.0]);
        assert_eq!(weights.tensor("float", &[5, 3]).unwrap(), values);
        assert!(weights.tensor("empty", &[0, 7]).unwrap().is_empty());
        assert_eq!(weights.dtype("ids").as_deref(), Some("I64"));
        assert_eq!(&*weights.bytes("odd", &[5], "U8", |_| true).unwrap().0, [1, 2, 3, 4, 5]);
        let found = weights.with_quantization(quantization(&[("l", 4, Some(32))])).unwrap();
        assert_eq!(found.linear("l", 100, 3, false).unwrap().bits(), 4);

        let file = std::fs::read(&path).unwrap();
        let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let places: serde_json::Value = serde_json::from_slice(&file[8..8 + header]).unwrap();
        assert!((8 + header).is_multiple_of(64));
        for (name, alignment) in [("l.weight_codes", 64), ("ids", 8), ("float", 4), ("brain", 2)] {
            let start = places[name]["data_offsets"][0].as_u64().unwrap();
            assert!(start.is_multiple_of(alignment), "{name} at {start}");
        }
    }

    #[test]
    fn plans_that_cannot_be_a_file_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let cases = [
            (
                vec![planned("a", TensorType::F32, &[1]), planned("a", TensorType::U8, &[64])],
                "one of that name already",
            ),
            (vec![planned("a", TensorType::F32, &[1 << 62])], "shape [4611686018427387904] is too large"),
            (vec![planned("b", TensorType::U8, &[1]), planned("a", TensorType::U8, &[usize::MAX])], "is too large"),
        ];
        for (tensors, message) in cases {
            let error = WeightsFileWriter::create(&path, tensors).unwrap_err();
            assert!(error.to_string().starts_with("tensor `a` cannot be written: "), "{error}");
            assert!(error.to_string().contains(message) && error.kind() == ErrorKind::Shape, "{error}");
        }
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_there_is_not_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        std::fs::write(&path, "precious").unwrap();
        for path in [path.clone(), directory.path().join("nowhere").join("model.safetensors")] {
            let error = WeightsFileWriter::create(&path, Vec::new()).unwrap_err();
            assert!(error.to_string().starts_with(&format!("cannot create {}: ", path.display())), "{error}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn bytes_outside_a_tensor_and_unknown_names_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let tensors = vec![planned("a", TensorType::F16, &[2]), planned("b", TensorType::U8, &[2])];
        let mut writer = WeightsFileWriter::create(directory.path().join("w"), tensors).unwrap();
        let cases = [
            (writer.write("c", 0, &[1]), "tensor `c` cannot be written: it is not among the tensors"),
            (
                writer.write("a", 3, &[1, 2]),
                "tensor `a` cannot be written: 2 bytes from byte 3 on are not inside its 4",
            ),
            (writer.write("b", usize::MAX, &[1]), "tensor `b` cannot be written: 1 bytes from byte"),
        ];
        for (result, message) in cases {
            let error = result.unwrap_err();
            assert!(error.to_string().starts_with(message) && error.kind() == ErrorKind::Shape, "{error}");
        }
    }

    #[test]
    fn a_file_with_bytes_that_were_not_written_once_is_not_finished() {
        let directory = tempfile::tempdir().unwrap();
        for (index, times) in [0, 2].into_iter().enumerate() {
            let tensors = vec![planned("a", TensorType::U8, &[4]), planned("z", TensorType::U8, &[1])];
            let mut writer = WeightsFileWriter::create(directory.path().join(index.to_string()), tensors).unwrap();
            (0..times).for_each(|_| writer.write("a", 0, &[1, 2, 3, 4]).unwrap());
            let error = writer.finish().unwrap_err();
            let message = format!("tensor `a` cannot be written: {} of its 4 bytes were written", 4 * times);
            assert!(error.to_string().starts_with(&message), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_with_the_path() {
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let place = Place { start: 0, len: 4, written: 0 };
        let tensors = HashMap::from([("a".to_owned(), place)]);
        let mut writer = WeightsFileWriter { path: PathBuf::from("full/model.safetensors"), file, tensors };
        let error = writer.write("a", 0, &[1, 2, 3, 4]).unwrap_err();
        assert!(error.to_string().starts_with("cannot write full/model.safetensors: "), "{error}");
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
