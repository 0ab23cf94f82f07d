//! Imported models at work.

use super::*;

fn short_captions(mode: Mode) -> CaptionOptions {
    let generation = GenerationOptions { max_new_tokens: Some(4), ..GenerationOptions::default() };
    CaptionOptions { mode, generation, ..CaptionOptions::default() }
}

#[test]
fn packed_models_caption_in_every_mode_that_they_have() {
    let modes = [Mode::Rapid, Mode::Balanced, Mode::High];
    for (family, modes) in
        [("smolvlm", &modes[..]), ("idefics3", &modes), ("llava", &modes[1..2]), ("llava_qwen2", &modes[1..2])]
    {
        for (bits, group_size) in [(4, Some(32)), (4, None), (8, Some(32)), (8, None), (2, Some(32))] {
            let checkpoint = Checkpoint::new(&golden(family));
            checkpoint.import(&ImportOptions { bits, group_size, ..ImportOptions::default() }).unwrap();
            let model = Model::load(checkpoint.destination()).unwrap();
            for &mode in modes {
                let place = format!("{family}, {bits} bits, {group_size:?}, {mode:?}");
                let response = model.caption_with(&picture("wide"), &short_captions(mode));
                let response = response.unwrap_or_else(|error| panic!("{place}: {error}"));
                assert_eq!(response.num_views > 1, mode == Mode::High, "{place}: {} views", response.num_views);
                assert!(response.num_image_tokens > 0, "{place}");
            }
        }
    }
}

#[test]
fn a_mode_that_a_model_does_not_have_is_an_error_that_says_which_it_has() {
    let checkpoint = Checkpoint::new(&golden("llava"));
    checkpoint.import(&ImportOptions::default()).unwrap();
    let model = Model::load(checkpoint.destination()).unwrap();
    let error = model.caption_with(&picture("wide"), &short_captions(Mode::Rapid)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("rapid") && error.to_string().contains("balanced"), "{error}");
}

#[test]
fn a_decoder_alone_answers_texts_and_refuses_pictures() {
    for family in ["llama", "llama_sharded", "qwen2", "qwen3"] {
        let checkpoint = Checkpoint::new(&golden(family));
        checkpoint.import(&ImportOptions { bits: 4, ..ImportOptions::default() }).unwrap();
        let model = Model::load(checkpoint.destination()).unwrap();
        let generation = GenerationOptions { max_new_tokens: Some(4), ..GenerationOptions::default() };
        let options = ocelli::SessionOptions { generation, ..ocelli::SessionOptions::default() };
        let mut session = model.session_with(options).unwrap();
        let response = session.respond("How many squares are there?").unwrap();
        assert!(response.num_generated_tokens > 0 && response.num_image_tokens == 0, "{family}");
        let error = session.respond(prompt![picture("small"), "And here?"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{family}: {error}");
        assert!(error.to_string().contains("no vision encoder"), "{family}: {error}");
        session.respond("Thank you.").unwrap();
        let error = PictureEncoder::load(checkpoint.destination()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{family}: {error}");
    }
}

#[test]
fn a_decoder_without_a_tokenizer_can_be_traced_but_not_asked() {
    let checkpoint = Checkpoint::new(&golden("qwen3"));
    checkpoint.remove("tokenizer.json");
    checkpoint.import(&ImportOptions::default()).unwrap();
    traced("qwen3", &checkpoint.destination(), &checkpoint.folder);
    let error = Model::load(checkpoint.destination()).unwrap_err();
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
    let card = fs::read_to_string(checkpoint.destination().join("README.md")).unwrap();
    assert!(card.contains("no tokenizer"), "{card}");
}

#[test]
fn an_encoder_alone_embeds_and_is_no_model_that_answers() {
    for family in ["clip", "clip_vision", "siglip", "dinov2", "dinov2_registers", "dinov2_giant"] {
        let checkpoint = Checkpoint::new(&golden(family));
        checkpoint.import(&ImportOptions { encoder_bits: Some(4), ..ImportOptions::default() }).unwrap();
        let encoder = PictureEncoder::load(checkpoint.destination()).unwrap();
        assert!(!encoder.embed(&picture("wide"), Mode::Balanced).unwrap().is_empty(), "{family}");
        let error = Model::load(checkpoint.destination()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{family}: {error}");
        assert!(error.to_string().contains("embed"), "{family}: {error}");
    }
}
