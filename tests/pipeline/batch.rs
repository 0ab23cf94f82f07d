//! Many pictures at once: the same captions as one at a time, in order, whatever goes wrong with some.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ocelli::{
    BatchOptions, CaptionLength, CaptionOptions, ErrorKind, GenerationOptions, Mode, Model, Picture, PictureCache,
    PictureSource, ResponseBatch, SessionOptions, prompt,
};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/examples").join(name)
}

fn examples() -> Vec<PathBuf> {
    ["scene.png", "tall.png", "three-things.jpg", "wide.jpg", "thumbnail.gif", "scan.tiff", "one-thing.webp"]
        .map(example)
        .into()
}

fn one_at_a_time(model: &Model, paths: &[PathBuf], options: &CaptionOptions) -> Vec<String> {
    let caption = |path| model.caption_with(&Picture::open(path).unwrap(), options).unwrap().text;
    paths.iter().map(caption).collect()
}

#[test]
fn captions_of_many_are_those_of_each_in_the_order_of_the_pictures() {
    let (model, all) = (Model::bundled().unwrap(), examples());
    for (mode, paths, sizes) in [
        (Mode::Rapid, &all[..], &[(1, 1), (3, 2), (8, 16)][..]),
        (Mode::Balanced, &all[..3], &[(2, 3)]),
        (Mode::High, &all[..1], &[(8, 16)]),
    ] {
        let caption = CaptionOptions { mode, ..CaptionOptions::default() };
        let expected = one_at_a_time(&model, paths, &caption);
        for &(batch_size, look_ahead) in sizes {
            let mut options = BatchOptions::from(caption.clone());
            (options.batch_size, options.look_ahead) = (batch_size, look_ahead);
            let captions: Vec<_> = model.captions_with(paths, options).collect();
            let indices: Vec<usize> = captions.iter().map(|caption| caption.index).collect();
            assert_eq!(indices, (0..paths.len()).collect::<Vec<_>>());
            let found: Vec<String> = captions.into_iter().map(|caption| caption.result.unwrap().text).collect();
            assert_eq!(found, expected, "{mode:?}, {batch_size} together, {look_ahead} ahead");
        }
    }
}

#[test]
fn drawn_tokens_are_those_of_each_alone() {
    let (model, paths) = (Model::bundled().unwrap(), examples());
    let generation = GenerationOptions { temperature: Some(1.5), seed: 7, ..GenerationOptions::default() };
    let caption = CaptionOptions { mode: Mode::Rapid, generation, ..CaptionOptions::default() };
    let expected = one_at_a_time(&model, &paths, &caption);
    let captions = model.captions_with(&paths, caption.into());
    assert_eq!(captions.map(|caption| caption.result.unwrap().text).collect::<Vec<_>>(), expected);
}

#[test]
fn pictures_that_fail_have_their_place_and_do_not_stop_the_others() {
    let model = Model::bundled().unwrap();
    let whole = fs::read(example("scene.png")).unwrap();
    let bytes = |name: &str, bytes: &[u8]| PictureSource::Bytes { name: name.into(), bytes: bytes.into() };
    let sources = [
        bytes("empty", b""),
        bytes("whole", &whole),
        PictureSource::from("not/there.png"),
        bytes("cut", &whole[..whole.len() / 2]),
        PictureSource::from(example("tall.png")),
        PictureSource::from(example("")),
    ];
    let captions: Vec<_> = model.captions(sources).collect();
    let kinds = captions.iter().map(|caption| caption.result.as_ref().err().map(|error| error.kind()));
    let expected = [
        Some(ErrorKind::NotAPicture),
        None,
        Some(ErrorKind::Io),
        Some(ErrorKind::Truncated),
        None,
        Some(ErrorKind::Io),
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
    assert_eq!(captions[1].source.name(), "whole");
    let alone = model.caption(&Picture::from_bytes(&whole).unwrap()).unwrap();
    assert_eq!(captions[1].result.as_ref().unwrap().text, alone.text);
}

#[test]
fn no_pictures_give_no_captions_and_only_broken_ones_end_too() {
    let model = Model::bundled().unwrap();
    assert_eq!(model.captions(Vec::<PathBuf>::new()).count(), 0);
    assert_eq!(model.captions(vec!["not/there.png"; 50]).filter(|caption| caption.result.is_err()).count(), 50);
}

#[test]
fn an_endless_list_is_read_as_it_is_asked_for() {
    let model = Model::bundled().unwrap();
    let options = BatchOptions::from(CaptionOptions { mode: Mode::Rapid, ..CaptionOptions::default() });
    let mut captions = model.captions_with(std::iter::repeat(example("scene.png")), options);
    let texts: Vec<String> = captions.by_ref().take(20).map(|caption| caption.result.unwrap().text).collect();
    assert!(texts.iter().all(|text| *text == texts[0]));
}

#[test]
fn views_encoded_together_have_the_tokens_of_each_alone() {
    let model = Model::bundled().unwrap();
    let picture = |name| Picture::open(example(name)).unwrap();
    let (names, modes) = (["scene.png", "wide.jpg", "tall.png"], [Mode::Balanced, Mode::High, Mode::Rapid]);
    let views: Vec<_> =
        names.iter().zip(modes).map(|(name, mode)| model.views(&picture(name), mode).unwrap()).collect();
    for ((together, name), mode) in model.encode_views(&views).into_iter().zip(names).zip(modes) {
        let (together, alone) = (together.unwrap(), model.encode_picture(&picture(name), mode).unwrap());
        assert_eq!(together.tokens(), alone.tokens(), "{name}: the same bits");
        assert_eq!((together.mode(), together.num_views()), (mode, alone.num_views()));
    }
}

#[test]
fn answers_to_different_prompts_are_made_together() {
    let model = Model::bundled().unwrap();
    let questions = ["How many objects are there?", "Describe the picture.", "What colour is the background?"];
    let picture = Picture::open(example("scene.png")).unwrap();
    let encoded = model.encode_picture(&picture, Mode::Balanced).unwrap();
    let mut batch = ResponseBatch::new(&model, SessionOptions::default());
    for question in questions {
        batch.push(question, prompt![&encoded, question]).unwrap();
    }
    let mut answers = Vec::new();
    while !batch.is_empty() {
        answers.extend(batch.step());
    }
    assert_eq!(answers.len(), 3);
    for (question, answer) in answers {
        let (answer, alone) = (answer.unwrap(), model.session().respond(prompt![&encoded, question]).unwrap());
        assert_eq!((&answer.text, answer.finish_reason), (&alone.text, alone.finish_reason));
        let counts = |response: &ocelli::Response| (response.num_prompt_tokens, response.num_generated_tokens);
        assert_eq!(counts(&answer), counts(&alone));
    }
}

#[test]
fn a_prompt_that_does_not_fit_leaves_the_batch_as_it_was() {
    let model = Model::bundled().unwrap();
    let mut batch = ResponseBatch::new(&model, SessionOptions::default());
    batch.push(1, "How many objects are there?").unwrap();
    let error = batch.push(2, "a ".repeat(100_000)).unwrap_err();
    assert_eq!((error.kind(), batch.len()), (ErrorKind::ContextFull, 1));
}

#[test]
fn lengths_ask_the_models_own_questions_and_alt_texts_keep_their_rules() {
    let model = Model::bundled().unwrap();
    let picture = Picture::open(example("scene.png")).unwrap();
    let caption = |length| {
        let options = CaptionOptions { length, mode: Mode::Rapid, ..CaptionOptions::default() };
        model.caption_with(&picture, &options).unwrap().text
    };
    let [short, normal, alt] = [CaptionLength::Short, CaptionLength::Normal, CaptionLength::Alt].map(caption);
    assert!(short.len() < normal.len(), "{short} / {normal}");
    assert!(alt.chars().count() <= ocelli::ALT_TEXT_MAX_CHARS && alt.ends_with('.'), "{alt}");
    assert_eq!(alt, ocelli::alt_text(&normal));
}

#[test]
fn a_second_question_about_pictures_in_the_cache_encodes_nothing_and_says_the_same() {
    let (model, paths, folder) = (Model::bundled().unwrap(), examples(), tempfile::tempdir().unwrap());
    let ask = |question: &str, cache: Option<Arc<PictureCache>>| {
        let prompt = Some(question.to_owned());
        let mut options = BatchOptions::from(CaptionOptions { prompt, mode: Mode::Rapid, ..CaptionOptions::default() });
        options.cache = cache;
        let captions: Vec<_> = model.captions_with(&paths, options).map(|caption| caption.result.unwrap()).collect();
        let encoding: Duration = captions.iter().map(|caption| caption.timings.encode).sum();
        (captions.into_iter().map(|caption| caption.text).collect::<Vec<_>>(), encoding)
    };
    let cache = || Some(Arc::new(PictureCache::open(folder.path(), 1 << 20).unwrap()));
    let (first, encoding) = ask("Describe the picture.", cache());
    assert!(!encoding.is_zero());
    assert_eq!(first, ask("Describe the picture.", None).0);
    let (second, encoding) = ask("How many objects are there?", cache());
    assert!(encoding.is_zero());
    assert_eq!(second, ask("How many objects are there?", None).0);
}
