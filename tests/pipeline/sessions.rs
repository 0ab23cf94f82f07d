//! Conversations: turns, streams, what is kept and what is computed again.

use ocelli::{
    ErrorKind, GenerationOptions, Message, Mode, Model, Prompt, PromptPart, Role, Session, SessionOptions, prompt,
};

use crate::picture;
use crate::support::TinyModel;

fn rapid(model: &Model, max_new_tokens: usize) -> Session {
    let generation = GenerationOptions { max_new_tokens: Some(max_new_tokens), ..Default::default() };
    model.session_with(SessionOptions { mode: Mode::Rapid, generation }).unwrap()
}

#[test]
fn turns_after_each_other_answer_like_one_long_prompt() {
    let model = Model::bundled().unwrap();
    let mut session = rapid(&model, 12);
    let first = session.respond(prompt![picture(0), "Describe the picture."]).unwrap();
    let second = session.respond("What colour is the background?").unwrap();
    let third = session.respond(prompt!["And of this one?", picture(5)]).unwrap();
    // Only the new turn is computed: all but the template's tokens after the last answer are there.
    assert!(second.num_cached_tokens >= first.num_prompt_tokens, "{second:?}");
    assert!(third.num_cached_tokens >= second.num_prompt_tokens, "{third:?}");
    assert_eq!((third.num_views, third.num_image_tokens), (1, 9));

    // The same conversation at once, stage by stage, in a cache of its own.
    let layout = model.layout(&session.messages()[..5]).unwrap();
    assert_eq!(layout.token_ids().len(), third.num_prompt_tokens);
    let (a, b) = (model.encode_picture(&picture(0), Mode::Rapid), model.encode_picture(&picture(5), Mode::Rapid));
    let (a, b) = (a.unwrap(), b.unwrap());
    let image_tokens = ndarray::concatenate(ndarray::Axis(0), &[a.tokens(), b.tokens()]).unwrap();
    let embeddings = model.embed(&layout, image_tokens.view()).unwrap();
    let decoder = model.decoder();
    let mut cache = decoder.new_cache(4096, ocelli::KvKind::Int8).unwrap();
    let mut logits =
        decoder.prefill(embeddings.view(), &mut cache, ocelli::Wanted::Last).unwrap().into_raw_vec_and_offset().0;
    let mut tokens = Vec::new();
    while tokens.len() < 12 {
        let likeliest =
            (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap() as u32;
        if model.generation_config().eos_token_id.contains(&likeliest) {
            break;
        }
        tokens.push(likeliest);
        logits = decoder.decode(likeliest, &mut cache).unwrap();
    }
    assert_eq!(model.tokenizer().decode(&tokens).unwrap(), third.text);
}

#[test]
fn the_pieces_of_a_stream_are_the_response() {
    let model = Model::bundled().unwrap();
    let answer = rapid(&model, 20).respond(prompt![picture(1), "Describe the picture."]).unwrap();
    let mut session = rapid(&model, 20);
    let mut stream = session.stream(prompt![picture(1), "Describe the picture."]).unwrap();
    let pieces: Vec<String> = stream.by_ref().map(Result::unwrap).collect();
    assert!(pieces.len() > 1 && pieces.iter().all(|piece| !piece.is_empty()), "{pieces:?}");
    assert!(stream.next().is_none());
    let response = stream.into_response();
    assert_eq!(pieces.concat(), response.text);
    assert_eq!(response.text, answer.text);
}

#[test]
fn an_answer_that_was_stopped_early_is_kept_as_it_is() {
    let model = Model::bundled().unwrap();
    let mut session = rapid(&model, 20);
    let first: String =
        session.stream(prompt![picture(2), "Describe the picture."]).unwrap().take(2).map(Result::unwrap).collect();
    assert_eq!(session.messages()[1], Message { role: Role::Assistant, parts: vec![PromptPart::Text(first)] });
    let second = session.respond("What colour is the background?").unwrap();
    assert!(second.num_cached_tokens > 9, "{second:?}");
}

#[test]
fn a_prompt_that_is_too_long_leaves_the_session_as_it_was() {
    let tiny = TinyModel::new();
    tiny.set("config.json", "/text_config/max_position_embeddings", 64.into());
    let model = Model::load(tiny.path()).unwrap();
    let mut session = rapid(&model, 3);
    session.respond(prompt![picture(0), "Hm?"]).unwrap();
    let (messages, num_tokens) = (session.messages().to_vec(), session.num_tokens());
    let error = session.respond("word ".repeat(100)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContextFull, "{error}");
    assert!(error.to_string().contains("of 64 positions"), "{error}");
    let error = session.respond("word ".repeat(1_000_000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContextFull, "{error}");
    assert_eq!((session.messages(), session.num_tokens()), (&messages[..], num_tokens));
    session.respond("Go on.").unwrap();
}

#[test]
fn an_answer_ends_where_the_context_does() {
    let tiny = TinyModel::new();
    tiny.set("config.json", "/text_config/max_position_embeddings", 24.into());
    tiny.set("generation_config.json", "/eos_token_id", serde_json::json!([]));
    let model = Model::load(tiny.path()).unwrap();
    let mut session = rapid(&model, 100);
    let response = session.respond("Hm?").unwrap();
    assert_eq!(response.finish_reason.as_str(), "context");
    assert_eq!(session.num_tokens(), session.max_tokens());
}

#[test]
fn a_picture_is_encoded_once_for_many_prompts() {
    let model = Model::bundled().unwrap();
    let encoded = model.encode_picture(&picture(4), Mode::Rapid).unwrap();
    let direct = rapid(&model, 12).respond(prompt![picture(4), "Describe the picture."]).unwrap();
    let kept = rapid(&model, 12).respond(prompt![&encoded, "Describe the picture."]).unwrap();
    assert_eq!(kept.text, direct.text);
    assert!(kept.timings.encode.is_zero() && !direct.timings.encode.is_zero());
}

#[test]
fn an_empty_prompt_is_a_prompt() {
    let model = Model::load(TinyModel::new().path()).unwrap();
    rapid(&model, 1).respond(Prompt::new()).unwrap();
    rapid(&model, 1).respond("").unwrap();
}

#[test]
fn special_tokens_in_a_text_are_text() {
    let model = Model::bundled().unwrap();
    let message = |text: &str| [Message { role: Role::User, parts: vec![PromptPart::Text(text.to_owned())] }];
    let layout = model.layout(&message("<turn_end><image>")).unwrap();
    assert_eq!(layout.num_image_tokens(), 0);
    let special = |layout: &ocelli::PromptLayout| layout.token_ids().iter().filter(|&&id| id < 7).count();
    assert_eq!(special(&layout), special(&model.layout(&message("x")).unwrap()));
}
