//! Reading weight files: good ones, and every kind of broken one.

use std::path::Path;

use half::{bf16, f16};
use ocelli_kernels::{Bits, PackedShape};

use super::Weights;
use crate::testing::{numbers, quantization, reopen, safetensors_bytes};
use crate::{Error, ErrorKind, WeightsWriter};

/// The error of opening `path`.
fn refused(path: &Path) -> Error {
    Weights::open(path).map(|_| ()).expect_err("this file should be refused")
}

/// A directory with one file.
fn directory_with(name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(name), bytes).unwrap();
    directory
}

fn one_f32(name: &str, shape: &str, start: usize, end: usize) -> String {
    format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#)
}

#[test]
fn tensors_are_read_by_name_from_a_file_and_from_its_directory() {
    let values = numbers(1, 6);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    let mut writer = WeightsWriter::new();
    writer.f32("a.b.weight", &[2, 3], &values).unwrap().f32("a.c", &[], &[7.0]).unwrap().write(&path).unwrap();
    for opened in [&path, directory.path()] {
        let weights = Weights::open(opened).unwrap();
        let prefixed = weights.pp("a");
        assert_eq!(prefixed.names(), ["b.weight", "c"]);
        assert!(prefixed.contains("c") && !weights.contains("c"));
        assert_eq!(prefixed.pp("b").tensor("weight", &[2, 3]).unwrap(), values);
        assert_eq!((prefixed.shape("c"), prefixed.dtype("c").as_deref()), (Some(&[][..]), Some("F32")));
        assert_eq!(prefixed.num_bytes("b.weight"), Some(24));
    }
    let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["model.safetensors"], "the temporary file is gone");
}

#[test]
fn half_precision_tensors_become_f32() {
    let (a, b) = (f16::from_f32(1.5), bf16::from_f32(-3.0));
    let header = r#"{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]}}"#;
    let bytes = safetensors_bytes(header, &[a.to_le_bytes(), b.to_le_bytes()].concat());
    let weights = Weights::from_static("memory", bytes.leak()).unwrap();
    assert_eq!(weights.tensor("a", &[1]).unwrap(), [1.5]);
    assert_eq!(weights.tensor("b", &[1]).unwrap(), [-3.0]);
    assert_eq!(weights.pp("").names(), ["a", "b"]);
}

#[test]
fn missing_tensors_and_wrong_shapes_and_types_are_named() {
    let header = format!(
        "{{{},{}}}",
        one_f32("x.weight", "[2,2]", 0, 16),
        r#""ids":{"dtype":"I64","shape":[1],"data_offsets":[16,24]}"#
    );
    let weights = Weights::from_static("model", safetensors_bytes(&header, &[0; 24]).leak()).unwrap();
    let cases = [
        (
            weights.pp("x").tensor("bias", &[2]).unwrap_err(),
            "tensor `x.bias` is not in model",
            ErrorKind::MissingTensor,
        ),
        (
            weights.linear("x", 3, 2, false).unwrap_err(),
            "tensor `x.weight` in model has shape [2, 2], expected [2, 3]",
            ErrorKind::Shape,
        ),
        (
            weights.tensor("ids", &[1]).unwrap_err(),
            "tensor `ids` in model has dtype I64, expected F32, BF16 or F16",
            ErrorKind::Dtype,
        ),
    ];
    for (error, message, kind) in cases {
        assert!(error.to_string().starts_with(message), "{error}");
        assert_eq!(error.kind(), kind);
    }
    // A shape from a hostile config.json: nothing is allocated.
    assert_eq!(weights.tensor("x.weight", &[usize::MAX, usize::MAX]).unwrap_err().kind(), ErrorKind::Shape);
    assert_eq!(weights.embedding("x", usize::MAX, 2).unwrap_err().kind(), ErrorKind::Shape);
}

#[test]
fn broken_safetensors_files_are_refused() {
    let valid = safetensors_bytes(&format!("{{{}}}", one_f32("a", "[2]", 0, 8)), &[0; 8]);
    let with_length = |length: u64| [&length.to_le_bytes()[..], &valid[8..]].concat();
    let header = |header: &str, data: usize| safetensors_bytes(header, &vec![0; data]);
    let two = |second: &str, data| header(&format!("{{{},{second}}}", one_f32("a", "[2]", 0, 8)), data);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("7 bytes", valid[..7].to_vec()),
        ("header length 0", with_length(0)),
        ("header length 2^63", with_length(1 << 63)),
        ("header length 2^64 - 1", with_length(u64::MAX)),
        ("header longer than the file", with_length(valid.len() as u64)),
        ("header of more than 100 MB", with_length(100_000_001)),
        ("data cut off", valid[..valid.len() - 1].to_vec()),
        ("header cut off", valid[..20].to_vec()),
        ("data after the end", [&valid[..], &[0]].concat()),
        ("not JSON", header("}{", 0)),
        ("not UTF-8", safetensors_bytes("", &[]).into_iter().map(|_| 1).chain([0xff; 300]).collect()),
        ("a list", header("[]", 0)),
        ("deeply nested", header(&"[".repeat(1_000_000), 0)),
        ("deeply nested value", header(&format!("{{\"a\":{}", "{\"a\":".repeat(1_000_000)), 0)),
        ("overlapping", two(&one_f32("b", "[2]", 4, 12), 12)),
        ("gap", two(&one_f32("b", "[2]", 12, 20), 20)),
        ("outside", two(&one_f32("b", "[2]", 8, 16), 8)),
        ("reversed", header(&format!("{{{}}}", one_f32("a", "[2]", 8, 0)), 8)),
        ("offsets that overflow", header(&format!("{{{}}}", one_f32("a", "[2]", 0, usize::MAX)), 8)),
        ("shape and offsets disagree", header(&format!("{{{}}}", one_f32("a", "[3]", 0, 8)), 8)),
        (
            "product of the shape overflows",
            header(&format!("{{{}}}", one_f32("a", "[4294967296,4294967296,2]", 0, 8)), 8),
        ),
        ("negative size", header(&format!("{{{}}}", one_f32("a", "[-2]", 0, 8)), 8)),
        ("unknown dtype", header(r#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#, 8)),
        ("duplicated name", two(&one_f32("a", "[2]", 8, 16), 16)),
    ];
    for (what, bytes) in cases {
        let directory = directory_with("model.safetensors", &bytes);
        let error = refused(directory.path());
        assert!(error.to_string().contains("model.safetensors"), "{what}: {error}");
        assert!([ErrorKind::Format, ErrorKind::Io].contains(&error.kind()), "{what}: {error}");
        assert!(Weights::from_static("memory", bytes.leak()).is_err(), "{what}");
    }
}

#[test]
fn paths_that_are_no_weights_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let error = refused(directory.path());
    assert!(error.to_string().contains("has neither model.safetensors nor"), "{error}");
    let error = refused(&directory.path().join("nothing"));
    assert!(error.to_string().starts_with("cannot open ") && error.kind() == ErrorKind::Io, "{error}");
    std::fs::create_dir(directory.path().join("model.safetensors")).unwrap();
    let error = refused(directory.path());
    assert!(error.to_string().contains("model.safetensors is not an ordinary file"), "{error}");
}

/// A directory with two shards, `a` in the first and `b` in the second, and an index with this `weight_map`.
fn sharded(weight_map: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, value) in [("a", 1.0), ("b", 2.0)] {
        let path = directory.path().join(format!("shard-{name}.safetensors"));
        WeightsWriter::new().f32(name, &[1], &[value]).unwrap().write(path).unwrap();
    }
    let index = format!(r#"{{"metadata": {{"total_size": 8}}, "weight_map": {weight_map}}}"#);
    std::fs::write(directory.path().join("model.safetensors.index.json"), index).unwrap();
    directory
}

#[test]
fn shards_are_read_as_one() {
    let directory = sharded(r#"{"a": "shard-a.safetensors", "b": "shard-b.safetensors"}"#);
    let weights = Weights::open(directory.path()).unwrap();
    assert_eq!(weights.names(), ["a", "b"]);
    assert_eq!([weights.tensor("a", &[1]).unwrap(), weights.tensor("b", &[1]).unwrap()], [[1.0], [2.0]]);
}

#[test]
fn indexes_that_lie_or_leave_the_directory_are_refused() {
    let cases = [
        (r#"{"a": "missing.safetensors"}"#, "missing.safetensors", ErrorKind::Io),
        (r#"{"b": "shard-a.safetensors"}"#, "tensor `b` is not in ", ErrorKind::MissingTensor),
        (r#"{"a": "../shard-a.safetensors"}"#, "names the shard `../shard-a.safetensors`", ErrorKind::Format),
        (r#"{"a": "/etc/passwd"}"#, "names the shard `/etc/passwd`", ErrorKind::Format),
        (r#"{"a": ".."}"#, "names the shard `..`", ErrorKind::Format),
        (r#"{"a": "./shard-a.safetensors"}"#, "names the shard `./", ErrorKind::Format),
        (r#"{"a": ""}"#, "names the shard ``", ErrorKind::Format),
        (r#"{"a": "model.safetensors.index.json"}"#, "is not a valid safetensors file", ErrorKind::Format),
        (r#"{"a": 1}"#, "is not a valid index of shards", ErrorKind::Format),
        ("[]", "is not a valid index of shards", ErrorKind::Format),
    ];
    for (weight_map, message, kind) in cases {
        let directory = sharded(weight_map);
        let error = refused(directory.path());
        assert!(error.to_string().contains(message) && error.kind() == kind, "{weight_map}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn a_shard_that_is_a_link_or_a_loop_of_links_is_refused() {
    let directory = sharded(r#"{"a": "link.safetensors"}"#);
    let link = directory.path().join("link.safetensors");
    for target in ["shard-a.safetensors", "link.safetensors"] {
        std::os::unix::fs::symlink(target, &link).unwrap();
        assert!(matches!(refused(directory.path()), Error::ShardName { .. }), "{target}");
        std::fs::remove_file(&link).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn the_links_of_the_hugging_face_cache_are_followed_and_no_others() {
    let repository = tempfile::tempdir().unwrap();
    let [blobs, snapshot] = ["blobs", "snapshots/abc"].map(|name| repository.path().join(name));
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    let shards = sharded(r#"{"a": "shard-a.safetensors"}"#);
    let index = "model.safetensors.index.json";
    std::fs::copy(shards.path().join(index), snapshot.join(index)).unwrap();
    let shard = snapshot.join("shard-a.safetensors");
    for (place, is_followed) in [(blobs.join("0123"), true), (repository.path().join("0123"), false)] {
        std::fs::copy(shards.path().join("shard-a.safetensors"), &place).unwrap();
        std::os::unix::fs::symlink(&place, &shard).unwrap();
        assert_eq!(Weights::open(&snapshot).is_ok(), is_followed, "{}", place.display());
        std::fs::remove_file(&shard).unwrap();
    }
}

/// A packed layer `l` with one byte of the file changed: `at` counts from the start of `tensor`.
fn packed_with(bits: u32, tensor: &str, change: impl Fn(&mut [u8])) -> Result<(), Error> {
    let shape = PackedShape::new(Bits::new(bits).unwrap(), 2, 70, Some(32)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    WeightsWriter::new().packed("l", shape, &numbers(2, 140)).unwrap().write(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let offset = |index: usize| 8 + length + header[tensor]["data_offsets"][index].as_u64().unwrap() as usize;
    change(&mut bytes[offset(0)..offset(1)]);
    std::fs::write(&path, bytes).unwrap();
    let weights = Weights::open(&path)?.with_quantization(quantization(&[("l", bits, Some(32))]))?;
    weights.linear("l", 70, 2, false).map(|_| ())
}

#[test]
fn scales_and_codes_that_the_format_forbids_are_refused_with_the_name_of_the_matrix() {
    packed_with(2, "l.weight_codes", |_| ()).unwrap();
    let scale = |value: f32| move |bytes: &mut [u8]| bytes[8..10].copy_from_slice(&f16::from_f32(value).to_le_bytes());
    let set = |at: usize, value: u8| move |bytes: &mut [u8]| bytes[at] = value;
    let cases = [
        (packed_with(2, "l.weight_scales", scale(f32::NAN)), "the scale of row 1, group 1 is NaN"),
        (packed_with(4, "l.weight_scales", scale(f32::INFINITY)), "the scale of row 1, group 1 is inf"),
        (packed_with(8, "l.weight_scales", scale(-0.5)), "the scale of row 1, group 1 is -0.5"),
        (packed_with(2, "l.weight_codes", set(6, 0b0001_0000)), "row 0 has a code other than 0 in its padding (byte 6"),
        (packed_with(4, "l.weight_codes", set(64 + 7, 0x1f)), "row 1 has a code other than 0 in its padding (byte 7"),
        (packed_with(8, "l.weight_codes", set(64 + 6, 1)), "row 0 has a code other than 0 in its padding (byte 70"),
    ];
    for (result, message) in cases {
        let error = result.unwrap_err();
        assert!(error.to_string().starts_with("packed matrix `l.weight` in "), "{error}");
        assert!(error.to_string().contains(message) && error.kind() == ErrorKind::Value, "{error}, expected {message}");
    }
}

#[test]
fn a_quantization_config_that_disagrees_with_the_codes_is_refused() {
    let shape = PackedShape::new(Bits::Four, 2, 70, Some(32)).unwrap();
    let mut writer = WeightsWriter::new();
    writer.packed("l", shape, &numbers(3, 140)).unwrap();
    let weights = reopen(&writer, 0);
    let error = weights.linear("l", 70, 2, false).unwrap_err();
    assert!(matches!(error, Error::NoQuantization { .. }) && error.kind() == ErrorKind::Config, "{error}");
    // Another number of bits changes the length of a row (8) or leaves codes in the padding (2); another group size, the scales.
    for (bits, group_size) in [(8, Some(32)), (2, Some(32)), (4, Some(64)), (4, None)] {
        let weights = weights.clone().with_quantization(quantization(&[("l", bits, group_size)])).unwrap();
        assert!(weights.linear("l", 70, 2, false).is_err(), "{bits}, {group_size:?}");
    }
    let right = weights.clone().with_quantization(quantization(&[("l", 4, Some(32))])).unwrap();
    assert_eq!(right.linear("l", 70, 2, false).unwrap().bits(), 4);
    let error = right.linear("l", 129, 2, false).unwrap_err();
    assert!(
        error.to_string().starts_with("tensor `l.weight_codes` in memory has shape [2, 64], expected [2, 128]"),
        "{error}"
    );
    // Nobody wants a gigabyte of bytes in a message.
    assert!(format!("{right:?}").len() < 1000, "{right:?}");
}

#[test]
fn the_writer_refuses_names_that_are_taken_and_values_that_do_not_fit() {
    let mut writer = WeightsWriter::new();
    writer.f32("a", &[2], &[0.0; 2]).unwrap();
    assert!(writer.f32("a", &[2], &[0.0; 2]).is_err());
    assert!(writer.f32("b", &[2, 2], &[0.0; 3]).is_err());
    assert!(writer.f32("c", &[usize::MAX, 2], &[]).is_err());
    let shape = PackedShape::new(Bits::Two, 1, 2, None).unwrap();
    assert!(writer.packed("d", shape, &[0.0, f32::NAN]).is_err());
    let error = writer.write("/nowhere/at/all.safetensors").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

#[test]
fn tensors_are_found_under_the_names_that_they_are_given() {
    let shape = PackedShape::new(Bits::Four, 2, 70, Some(32)).unwrap();
    let mut writer = WeightsWriter::new();
    writer.f32("m.a", &[2], &[1.0, 2.0]).unwrap().f32("m.b", &[1], &[3.0]).unwrap();
    writer.packed("l", shape, &numbers(4, 140)).unwrap();
    let weights = reopen(&writer, 0).with_quantization(quantization(&[("decoder", 4, Some(32))])).unwrap();
    let names = |names: &[(&str, &str)]| -> Vec<(String, String)> {
        names.iter().map(|&(new, name)| (new.to_owned(), name.to_owned())).collect()
    };
    let table = names(&[
        ("x.c", "m.a"),
        ("x.d", "m.a"),
        ("decoder.l.weight_codes", "l.weight_codes"),
        ("decoder.l.weight_scales", "l.weight_scales"),
    ]);
    let renamed = weights.renamed(table).unwrap();
    assert_eq!(renamed.names(), ["decoder.l.weight_codes", "decoder.l.weight_scales", "x.c", "x.d"]);
    assert_eq!(renamed.pp("x").tensor("d", &[2]).unwrap(), [1.0, 2.0]);
    assert_eq!(renamed.linear("decoder.l", 70, 2, false).unwrap().bits(), 4);
    assert!(!renamed.contains("m.a"));
    // Names of a prefix are those under it; swapping two names is no conflict.
    let swapped = weights.pp("m").renamed(names(&[("a", "b"), ("b", "a")])).unwrap();
    assert_eq!([swapped.tensor("a", &[1]).unwrap(), swapped.tensor("b", &[2]).unwrap()].concat(), [3.0, 1.0, 2.0]);

    let error = weights.renamed(names(&[("c", "m.c")])).unwrap_err();
    assert!(error.to_string().starts_with("tensor `m.c` is not in memory"), "{error}");
    assert_eq!(error.kind(), ErrorKind::MissingTensor);
    let error = weights.renamed(names(&[("c", "m.a"), ("c", "m.b")])).unwrap_err();
    assert!(error.to_string().starts_with("the new name `c` of a tensor is there twice"), "{error}");
}

#[test]
fn tensors_in_memory_stand_beside_those_of_the_file_and_before_them() {
    let mut writer = WeightsWriter::new();
    writer.f32("m.a", &[2], &[1.0, 2.0]).unwrap().f32("m.b", &[1], &[3.0]).unwrap();
    let weights = reopen(&writer, 0).with_quantization(quantization(&[("m", 4, Some(32))])).unwrap();
    let shape = PackedShape::new(Bits::Four, 2, 70, Some(32)).unwrap();
    let mut added = WeightsWriter::new();
    added.f32("b", &[3], &[4.0, 5.0, 6.0]).unwrap().packed("l", shape, &numbers(4, 140)).unwrap();
    let both = weights.clone().pp("m").with_tensors(added).unwrap();
    assert_eq!(both.names(), ["a", "b", "l.weight_codes", "l.weight_scales"]);
    assert_eq!(both.tensor("a", &[2]).unwrap(), [1.0, 2.0]);
    assert_eq!(both.tensor("b", &[3]).unwrap(), [4.0, 5.0, 6.0]);
    assert_eq!(both.linear("l", 70, 2, false).unwrap().bits(), 4);
    let error = both.tensor("b", &[4]).unwrap_err();
    assert!(error.to_string().contains("`m.b` in the tensors added to memory has shape [3]"), "{error}");
    assert_eq!(weights.tensor("m.b", &[1]).unwrap(), [3.0], "the weights themselves are as they were");
    assert_eq!(weights.with_tensors(WeightsWriter::new()).unwrap().names(), ["m.a", "m.b"]);
}

#[test]
fn some_rows_of_a_tensor_are_those_of_the_whole() {
    let bytes: Vec<u8> =
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].into_iter().flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect();
    let header = concat!(
        r#"{"m":{"dtype":"BF16","shape":[3,1,2],"data_offsets":[0,12]},"v":{"dtype":"F32","shape":[2],"data_offsets":[12,20]},"#,
        r#""ids":{"dtype":"I64","shape":[1,1],"data_offsets":[20,28]},"none":{"dtype":"F32","shape":[3,0],"data_offsets":[28,28]}}"#
    );
    let bytes = safetensors_bytes(header, &[&bytes[..], &[0; 16]].concat());
    let weights = Weights::from_static("model", bytes.leak()).unwrap();
    assert_eq!(weights.rows("m", 1, 2).unwrap(), [3.0, 4.0, 5.0, 6.0]);
    assert_eq!(weights.rows("m", 0, 3).unwrap(), weights.tensor("m", &[3, 1, 2]).unwrap());
    assert!(weights.rows("m", 3, 0).unwrap().is_empty());
    assert!(weights.rows("none", 1, 2).unwrap().is_empty());
    for (name, first, count) in [("m", 2, 2), ("m", usize::MAX, 2), ("m", 4, 0), ("v", 0, 1), ("none", 0, 4)] {
        let error = weights.rows(name, first, count).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{count} rows from row {first} on")), "{error}");
        assert!(error.to_string().contains(&format!("`{name}` in model")), "{error}");
        assert_eq!(error.kind(), ErrorKind::Index);
    }
    assert_eq!(weights.rows("ids", 0, 1).unwrap_err().kind(), ErrorKind::Dtype);
    assert_eq!(weights.rows("gone", 0, 1).unwrap_err().kind(), ErrorKind::MissingTensor);
}
