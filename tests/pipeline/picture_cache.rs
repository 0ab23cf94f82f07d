//! Encoded pictures on disk: the same captions, nothing of another model, whatever happens to the files.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ocelli::{ContentHash, EncodedPicture, ErrorKind, Mode, Model, PictureCache, Timings, prompt};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::picture;
use crate::support::TinyModel;

const LARGE: u64 = 1 << 30;

/// A cache in a folder of its own, and a tiny model.
struct Fixture {
    folder: TempDir,
    cache: PictureCache,
    model: Model,
}

impl Fixture {
    fn new(max_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = PictureCache::open(folder.path(), max_bytes).unwrap();
        Self { cache, model: Model::load(TinyModel::new().path()).unwrap(), folder }
    }

    fn put(&self, shift: u32) -> EncodedPicture {
        let encoded = self.model.encode_picture(&picture(shift), Mode::Rapid).unwrap();
        self.cache.put(&self.model, &hash(shift), &encoded).unwrap();
        encoded
    }

    fn get(&self, shift: u32) -> Option<EncodedPicture> {
        self.cache.get(&self.model, &hash(shift), Mode::Rapid)
    }

    fn path(&self, shift: u32) -> PathBuf {
        let name = format!("rapid-{}.tokens", hash(shift));
        entries(self.folder.path()).into_iter().find(|path| path.ends_with(&name)).expect("an entry of that picture")
    }
}

/// The hash of a file that stands for `picture(shift)`.
fn hash(shift: u32) -> ContentHash {
    ContentHash::of(&shift.to_le_bytes())
}

/// The files in the folders of `folder`.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let paths = |folder: &Path| fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
    paths(folder).iter().filter(|path| path.is_dir()).flat_map(|folder| paths(folder)).collect()
}

fn num_bytes(folder: &Path) -> u64 {
    entries(folder).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

fn set_age(path: &Path, seconds: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

#[track_caller]
fn assert_same(a: &EncodedPicture, b: &EncodedPicture) {
    let bits = |picture: &EncodedPicture| picture.tokens().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!((a.mode(), a.num_views(), a.prompt_part()), (b.mode(), b.num_views(), b.prompt_part()));
    assert_eq!(a.tokens().dim(), b.tokens().dim());
    assert!(bits(a) == bits(b), "the image tokens differ");
}

/// The tiny model with the first byte of one tensor changed.
fn with_changed_weight(tensor: &str) -> TinyModel {
    let model = TinyModel::new();
    let mut bytes = fs::read(model.file("model.safetensors")).unwrap();
    let start = {
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        tensors.tensor(tensor).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    bytes[start] ^= 1;
    model.write("model.safetensors", bytes);
    model
}

fn with_setting(file: &str, pointer: &str, value: Value) -> TinyModel {
    let model = TinyModel::new();
    model.set(file, pointer, value);
    model
}

#[test]
fn a_content_hash_is_the_sha_256_of_the_bytes() {
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(ContentHash::of(b"abc").to_string(), expected);
}

#[test]
fn a_picture_from_the_cache_gives_the_caption_of_one_that_was_just_encoded() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::bundled().unwrap();
    for mode in Mode::ALL {
        let encoded = model.encode_picture(&picture(2), mode).unwrap();
        let cache = PictureCache::open(folder.path(), LARGE).unwrap();
        assert!(cache.get(&model, &hash(2), mode).is_none(), "{mode}");
        cache.put(&model, &hash(2), &encoded).unwrap();
        // Another value of the same folder, and another of the same model, as another process would have.
        let (cache, model) = (PictureCache::open(folder.path(), LARGE).unwrap(), Model::bundled().unwrap());
        let cached = cache.get(&model, &hash(2), mode).expect("it was put there");
        assert_same(&cached, &encoded);
        assert_eq!(cached.timings(), Timings::default());
        let caption = |picture: &EncodedPicture| {
            model.session().respond(prompt![picture, model.caption_prompt(ocelli::CaptionLength::Normal)]).unwrap().text
        };
        assert_eq!(caption(&cached), caption(&encoded), "{mode}");
    }
}

#[test]
fn other_bytes_and_another_mode_are_not_found() {
    let fixture = Fixture::new(LARGE);
    fixture.put(1);
    assert!(fixture.get(1).is_some());
    assert!(fixture.get(2).is_none());
    assert!(fixture.cache.get(&fixture.model, &hash(1), Mode::Balanced).is_none());
}

#[test]
fn whatever_decides_the_image_tokens_keeps_models_apart() {
    let fixture = Fixture::new(LARGE);
    fixture.put(1);
    let preprocessor = "preprocessor_config.json";
    for other in [
        with_changed_weight("vision.layers.0.mlp.fc1.weight_codes"),
        with_changed_weight("vision.layers.0.mlp.fc1.weight_scales"),
        with_changed_weight("vision.register_tokens"),
        with_changed_weight("adapter.conv.weight_codes"),
        with_changed_weight("adapter.proj.bias"),
        with_setting(preprocessor, "/image_mean", json!([0.5, 0.5, 0.25])),
        with_setting(preprocessor, "/resample", json!(2)),
        with_setting(preprocessor, "/modes/rapid/pooled", json!([4, 4])),
        with_setting("config.json", "/vision_config/window_size", json!(4)),
        with_setting("config.json", "/adapter_config/layer_norm_eps", json!(1e-5)),
        with_setting("config.json", "/quantization_config/parts/2/activation_bits", json!(32)),
    ] {
        let other = Model::load(other.path()).unwrap();
        assert!(fixture.cache.get(&other, &hash(1), Mode::Rapid).is_none());
    }
    let bundled = Model::bundled().unwrap();
    assert!(fixture.cache.get(&bundled, &hash(1), Mode::Rapid).is_none());
}

#[test]
fn models_that_differ_in_the_decoder_alone_share_their_pictures() {
    let fixture = Fixture::new(LARGE);
    fixture.put(1);
    for other in [
        with_changed_weight("embedding.weight_codes"),
        with_setting("generation_config.json", "/max_new_tokens", json!(4)),
    ] {
        assert!(fixture.cache.get(&Model::load(other.path()).unwrap(), &hash(1), Mode::Rapid).is_some());
    }
}

#[test]
fn an_entry_with_the_name_of_another_is_not_taken() {
    let fixture = Fixture::new(LARGE);
    fixture.put(1);
    fixture.put(2);
    fs::copy(fixture.path(1), fixture.path(2)).unwrap();
    assert!(fixture.get(1).is_some());
    assert!(fixture.get(2).is_none());
}

#[test]
fn a_damaged_entry_is_a_miss_until_it_is_put_again() {
    type Damage = (&'static str, fn(&mut Vec<u8>));
    let kinds: [Damage; 9] = [
        ("empty", Vec::clear),
        ("cut in the header", |bytes| bytes.truncate(30)),
        ("without values", |bytes| bytes.truncate(56)),
        ("cut in the values", |bytes| bytes.truncate(bytes.len() - 1)),
        ("longer", |bytes| bytes.push(0)),
        ("of another version", |bytes| bytes[14] += 1),
        ("with other tiles", |bytes| bytes[20] += 1),
        ("with another checksum", |bytes| bytes[24] ^= 1),
        ("with another value", |bytes| *bytes.last_mut().unwrap() ^= 1),
    ];
    let fixture = Fixture::new(LARGE);
    let encoded = fixture.put(1);
    let path = fixture.path(1);
    let whole = fs::read(&path).unwrap();
    for (name, damage) in kinds {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        assert!(fixture.get(1).is_none(), "{name}");
        fixture.put(1);
        assert_same(&fixture.get(1).expect(name), &encoded);
    }
    // A file of any length that says nothing.
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(fixture.get(1).is_none());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(fixture.get(1).is_none(), "a folder is no entry");
}

#[test]
fn an_entry_or_a_folder_that_vanishes_is_a_miss_and_comes_again() {
    let fixture = Fixture::new(LARGE);
    fixture.put(1);
    fs::remove_file(fixture.path(1)).unwrap();
    assert!(fixture.get(1).is_none());
    fixture.put(1);
    assert!(fixture.get(1).is_some());
    fs::remove_dir_all(fixture.folder.path()).unwrap();
    assert!(fixture.get(1).is_none());
    fs::create_dir(fixture.folder.path()).unwrap();
    fixture.put(1);
    assert!(fixture.get(1).is_some());
}

#[test]
fn the_least_recently_used_make_room() {
    let room = {
        let fixture = Fixture::new(LARGE);
        fixture.put(0);
        num_bytes(fixture.folder.path()) * 3
    };
    let fixture = Fixture::new(room);
    for shift in 0..3 {
        fixture.put(shift);
        set_age(&fixture.path(shift), 100 - u64::from(shift));
    }
    assert_eq!(num_bytes(fixture.folder.path()), room);
    assert!(fixture.get(0).is_some(), "the oldest is used again");
    fixture.put(3);
    assert!(num_bytes(fixture.folder.path()) <= room);
    // Three fill it; with a tenth free there is room for two.
    let found: Vec<u32> = (0..4).filter(|&shift| fixture.get(shift).is_some()).collect();
    assert_eq!(found, [0, 3]);
    for shift in 4..20 {
        fixture.put(shift);
        assert!(num_bytes(fixture.folder.path()) <= room);
        assert!(fixture.get(shift).is_some(), "the newest stays");
    }
}

#[test]
fn entries_of_an_earlier_run_count() {
    let fixture = Fixture::new(LARGE);
    for shift in 0..10 {
        fixture.put(shift);
    }
    let room = num_bytes(fixture.folder.path()) / 2;
    let cache = PictureCache::open(fixture.folder.path(), room).unwrap();
    let encoded = fixture.get(0).unwrap();
    cache.put(&fixture.model, &hash(99), &encoded).unwrap();
    assert!(num_bytes(fixture.folder.path()) <= room);
}

#[test]
fn a_picture_larger_than_the_cache_is_not_kept() {
    let fixture = Fixture::new(100);
    fixture.put(1);
    assert!(entries(fixture.folder.path()).is_empty());
    assert!(fixture.get(1).is_none());
}

#[test]
fn files_of_others_in_the_folder_stay() {
    let fixture = Fixture::new(2000);
    let models = {
        fixture.put(0);
        fixture.path(0).parent().unwrap().to_owned()
    };
    let foreign = [
        fixture.folder.path().join("photo.jpg"),
        fixture.folder.path().join(format!("rapid-{}.tokens", hash(0))),
        models.join("notes.tokens"),
        models.join("rapid-old.tokens"),
    ];
    for path in &foreign {
        fs::write(path, vec![1; 5000]).unwrap();
        set_age(path, 1_000_000);
    }
    for shift in 1..5 {
        fixture.put(shift);
    }
    assert!(fixture.get(4).is_some() && fixture.get(1).is_none());
    for path in &foreign {
        assert_eq!(fs::read(path).unwrap(), vec![1; 5000], "{}", path.display());
    }
}

#[test]
fn several_caches_on_one_folder_are_safe_at_once() {
    let fixture = Fixture::new(LARGE);
    let encoded: Vec<EncodedPicture> =
        (0..6).map(|shift| fixture.model.encode_picture(&picture(shift), Mode::Rapid).unwrap()).collect();
    fixture.cache.put(&fixture.model, &hash(0), &encoded[0]).unwrap();
    let room = num_bytes(fixture.folder.path()) * 4;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cache = PictureCache::open(fixture.folder.path(), room).unwrap();
            let (encoded, model) = (&encoded, &fixture.model);
            scope.spawn(move || {
                for round in 0..200 {
                    let shift = (round * 5 + thread) % 6;
                    match cache.get(model, &hash(shift), Mode::Rapid) {
                        Some(cached) => assert_same(&cached, &encoded[shift as usize]),
                        None => cache.put(model, &hash(shift), &encoded[shift as usize]).unwrap(),
                    }
                }
            });
        }
    });
    let files = entries(fixture.folder.path());
    assert!(!files.is_empty() && files.iter().all(|path| path.extension().is_some_and(|end| end == "tokens")));
    // One that looks at the folder anew keeps the limit for all.
    let cache = PictureCache::open(fixture.folder.path(), room).unwrap();
    cache.put(&fixture.model, &hash(9), &encoded[0]).unwrap();
    assert!(num_bytes(fixture.folder.path()) <= room);
}

#[test]
fn a_cache_is_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<PictureCache>();
    let fixture = Fixture::new(5000);
    let encoded = fixture.put(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (fixture, encoded) = (&fixture, &encoded);
            scope.spawn(move || {
                for round in 0..50 {
                    fixture.cache.put(&fixture.model, &hash(thread * 50 + round), encoded).unwrap();
                    // Partial files have another name, and are soon entries.
                    assert!(fixture.get(1000).is_none());
                }
            });
        }
    });
    assert!(num_bytes(fixture.folder.path()) <= 5000);
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "").unwrap();
    let error = PictureCache::open(&path, LARGE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let expected = format!("cannot write {}: it is a file, expected a folder for encoded pictures", path.display());
    assert_eq!(error.to_string(), expected);

    let fixture = Fixture::new(LARGE);
    let encoded = fixture.put(1);
    let models = fixture.path(1).parent().unwrap().to_owned();
    fs::remove_dir_all(&models).unwrap();
    fs::write(&models, "").unwrap();
    let error = fixture.cache.put(&fixture.model, &hash(1), &encoded).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains(&models.display().to_string()), "{error}");
    assert!(fixture.get(1).is_none());
}

#[test]
fn a_decoder_alone_has_no_pictures_to_keep() {
    let fixture = Fixture::new(LARGE);
    let encoded = fixture.put(1);
    let alone = TinyModel::new();
    let mut config: Value = serde_json::from_slice(&fs::read(alone.file("config.json")).unwrap()).unwrap();
    config.as_object_mut().unwrap().retain(|key, _| !["vision_config", "adapter_config"].contains(&key.as_str()));
    alone.write("config.json", config.to_string());
    let alone = Model::load(alone.path()).unwrap();
    assert!(fixture.cache.get(&alone, &hash(1), Mode::Rapid).is_none());
    let error = fixture.cache.put(&alone, &hash(1), &encoded).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("has no vision encoder"), "{error}");
}
