//! Stages and captions.

use ocelli::{CaptionOptions, ErrorKind, FinishReason, GenerationOptions, Mode, Model, SessionOptions, prompt};

use crate::picture;
use crate::support::TinyModel;

#[test]
fn a_model_is_shared_and_a_session_moves_between_threads() {
    fn shared<T: Send + Sync + Clone>() {}
    fn moved<T: Send>() {}
    shared::<Model>();
    moved::<ocelli::Session>();
}

#[test]
fn each_mode_has_its_views_features_and_image_tokens() {
    let model = Model::bundled().unwrap();
    let hidden_size = model.text_config().hidden_size;
    for (mode, num_views, size, tokens) in
        [(Mode::Rapid, 1, 224, 9), (Mode::Balanced, 1, 672, 144), (Mode::High, 5, 672, 720)]
    {
        let views = model.views(&picture(0), mode).unwrap();
        assert_eq!(views.pixel_values.shape(), [num_views, 3, size, size]);
        let features = model.encode(&views).unwrap();
        assert_eq!(features.tokens.nrows(), num_views * features.grid.0 * features.grid.1);
        let image_tokens = model.adapt(&features, views.pooled).unwrap();
        assert_eq!(image_tokens.dim(), (tokens, hidden_size), "{mode}");
        let encoded = model.encode_picture(&picture(0), mode).unwrap();
        assert_eq!(encoded.tokens(), image_tokens, "{mode}");
    }
}

#[test]
fn the_caption_of_the_bundled_model_is_one_sentence_with_honest_counts() {
    let model = Model::bundled().unwrap();
    let caption = model.caption(&picture(0)).unwrap();
    assert_eq!(caption.to_string(), caption.text);
    assert!(caption.text.ends_with('.'), "{caption}");
    assert_eq!(caption.finish_reason, FinishReason::Stop);
    assert_eq!((caption.num_views, caption.num_image_tokens, caption.num_cached_tokens), (1, 144, 0));
    assert!(caption.num_prompt_tokens > 144 && caption.num_generated_tokens > 2);
    let timings = caption.timings;
    assert!(timings.encode.as_nanos() > 0 && timings.adapt.as_nanos() > 0 && timings.generate.as_nanos() > 0);
}

#[test]
fn the_text_does_not_depend_on_the_number_of_threads() {
    let model = Model::bundled().unwrap();
    let caption = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| model.caption(&picture(3)).unwrap().text)
    };
    let one = caption(1);
    assert_eq!(caption(2), one);
    assert_eq!(caption(3), one);
}

#[test]
fn an_answer_has_at_most_max_new_tokens() {
    let model = Model::bundled().unwrap();
    let generation = GenerationOptions { max_new_tokens: Some(2), ..Default::default() };
    let options = CaptionOptions { mode: Mode::Rapid, generation, ..Default::default() };
    let caption = model.caption_with(&picture(0), &options).unwrap();
    assert_eq!((caption.num_generated_tokens, caption.finish_reason), (2, FinishReason::Length));
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let model = Model::bundled().unwrap();
    let caption = |seed| {
        let generation = GenerationOptions { temperature: Some(5.0), seed, ..Default::default() };
        let options = CaptionOptions { mode: Mode::Rapid, generation, ..Default::default() };
        model.caption_with(&picture(0), &options).unwrap().text
    };
    assert_eq!(caption(7), caption(7));
    assert_ne!(caption(7), caption(8));
}

#[test]
fn options_out_of_range_are_refused() {
    let model = Model::load(TinyModel::new().path()).unwrap();
    for generation in [
        GenerationOptions { max_new_tokens: Some(0), ..Default::default() },
        GenerationOptions { temperature: Some(f32::NAN), ..Default::default() },
        GenerationOptions { top_p: Some(0.0), ..Default::default() },
        GenerationOptions { top_k: Some(0), ..Default::default() },
        GenerationOptions { repetition_penalty: Some(-1.0), ..Default::default() },
    ] {
        let error = model.session_with(SessionOptions { generation, ..Default::default() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Options, "{error}");
    }
}

#[test]
fn a_picture_encoded_by_a_model_of_another_width_is_refused() {
    let (tiny, bundled) = (Model::load(TinyModel::new().path()).unwrap(), Model::bundled().unwrap());
    let encoded = tiny.encode_picture(&picture(0), Mode::Rapid).unwrap();
    let mut session = bundled.session();
    let error = session.respond(prompt![encoded, "What is it?"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape, "{error}");
    assert!(session.messages().is_empty());
}

#[test]
fn a_mode_that_the_model_does_not_have_is_refused() {
    let tiny = TinyModel::new();
    tiny.set(
        "preprocessor_config.json",
        "/modes",
        serde_json::json!({"rapid": {"size": 224, "grid": [1, 1], "pooled": [3, 3]}}),
    );
    let model = Model::load(tiny.path()).unwrap();
    let error = model.caption(&picture(0)).unwrap_err();
    assert_eq!(error.to_string(), "the model has no mode `balanced` (preprocessor_config.json has: rapid)");
}
