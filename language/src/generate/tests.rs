use super::*;
use crate::decoder::Wanted;
use crate::kv_cache::KvKind;
use crate::test_model::{Storage, TestModel, config_json};
use crate::tokenizer::tests::byte_tokenizer;

struct Answer {
    token_ids: Vec<u32>,
    text: String,
    finish_reason: Option<FinishReason>,
    cached: usize,
}

fn answer(options: GenerationOptions, capacity: usize) -> Answer {
    let decoder = TestModel::new(&config_json()).decoder(Storage::F32);
    let tokenizer = byte_tokenizer().tokenizer;
    let prompt = [1, 2, 50, 60, 70];
    let mut cache = decoder.new_cache(capacity, KvKind::Int8).unwrap();
    let logits = decoder.prefill(decoder.embed(&prompt).unwrap().view(), &mut cache, Wanted::Last).unwrap();
    let logits = logits.row(0).to_vec();
    let mut generation = Generation::new(&decoder, &tokenizer, &mut cache, &prompt, logits, options).unwrap();
    let text = generation.by_ref().map(|piece| piece.unwrap().text).collect();
    assert!(generation.next().is_none(), "an answer that has ended stays ended");
    let (token_ids, finish_reason) = (generation.token_ids().to_vec(), generation.finish_reason());
    Answer { token_ids, text, finish_reason, cached: cache.len() }
}

fn options(max_new_tokens: usize) -> GenerationOptions {
    GenerationOptions { eos_token_id: vec![], max_new_tokens, sampling: SamplingOptions::default() }
}

#[test]
fn an_answer_ends_after_max_new_tokens() {
    let answer = answer(options(6), 100);
    assert_eq!((answer.token_ids.len(), answer.finish_reason), (6, Some(FinishReason::Length)));
    assert_eq!(answer.cached, 5 + 6 - 1, "the last token is not fed back");
    assert_eq!(answer.text, byte_tokenizer().tokenizer.decode(&answer.token_ids).unwrap());
}

#[test]
fn an_answer_of_no_tokens_ends_at_once() {
    assert_eq!(answer(options(0), 100).finish_reason, Some(FinishReason::Length));
}

#[test]
fn an_answer_ends_at_an_end_token_which_is_not_part_of_it() {
    let all = answer(options(12), 100).token_ids;
    let end = all[4];
    let first = all.iter().position(|&token| token == end).unwrap();
    let answer = answer(GenerationOptions { eos_token_id: vec![269, end], ..options(12) }, 100);
    assert_eq!((answer.token_ids.as_slice(), answer.finish_reason), (&all[..first], Some(FinishReason::Stop)));
}

#[test]
fn an_answer_ends_when_the_context_is_full() {
    let answer = answer(options(50), 8);
    assert_eq!(answer.finish_reason, Some(FinishReason::Context));
    assert_eq!((answer.cached, answer.token_ids.len()), (8, 4), "three tokens fed back, and one that did not fit");
}

#[test]
fn the_same_seed_gives_the_same_answer_and_another_seed_another() {
    let sampled = |seed| {
        let sampling = SamplingOptions { temperature: 1.0, seed, ..SamplingOptions::default() };
        answer(GenerationOptions { sampling, ..options(20) }, 100).token_ids
    };
    assert_eq!(sampled(1), sampled(1));
    assert_ne!(sampled(1), sampled(2));
}

#[test]
fn infinite_image_tokens_end_in_an_error_and_not_in_nonsense() {
    let decoder = TestModel::new(&config_json()).decoder(Storage::F32);
    let tokenizer = byte_tokenizer().tokenizer;
    let mut cache = decoder.new_cache(10, KvKind::F32).unwrap();
    let embeddings = ndarray::Array2::from_elem((2, 64), f32::INFINITY);
    let logits = decoder.prefill(embeddings.view(), &mut cache, Wanted::Last).unwrap().row(0).to_vec();
    let mut generation = Generation::new(&decoder, &tokenizer, &mut cache, &[], logits, options(5)).unwrap();
    assert_eq!(generation.next().unwrap().unwrap_err().kind(), crate::ErrorKind::Numeric);
    assert!(generation.next().is_none());
}
