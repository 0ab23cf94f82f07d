use std::process::Command;

use super::*;
use crate::ErrorKind;
use crate::sampler::argmax;
use crate::test_model::{Storage, TestModel, config_json};
use ocelli_kernels::Isa;
use serde_json::json;

fn prompt(len: usize) -> Vec<u32> {
    (0..len as u32).map(|index| (index * 37 + 11) % 270).collect()
}

/// Logits `[tokens, vocab_size]` of a prefill in pieces of `chunk`.
fn logits_in_chunks(decoder: &Decoder, kind: KvKind, len: usize, chunk: usize) -> Array2<f32> {
    let embeddings = decoder.embed(&prompt(len)).unwrap();
    let mut cache = decoder.new_cache(len, kind).unwrap();
    let mut logits = Array2::zeros((0, decoder.config().vocab_size));
    for piece in embeddings.axis_chunks_iter(Axis(0), chunk) {
        logits.append(Axis(0), decoder.prefill(piece, &mut cache, Wanted::All).unwrap().view()).unwrap();
    }
    assert_eq!(cache.len(), len);
    logits
}

fn greedy_tokens(decoder: &Decoder, len: usize) -> Vec<u32> {
    let mut cache = decoder.new_cache(64 + len, KvKind::Int8).unwrap();
    let embeddings = decoder.embed(&prompt(64)).unwrap();
    let mut logits = decoder.prefill(embeddings.view(), &mut cache, Wanted::Last).unwrap().into_raw_vec_and_offset().0;
    let mut tokens = Vec::new();
    for _ in 0..len {
        tokens.push(argmax(&logits) as u32);
        logits = decoder.decode(tokens[tokens.len() - 1], &mut cache).unwrap();
    }
    tokens
}

/// The root of the mean square of the difference, over that of `expected`.
fn relative_error(found: &Array2<f32>, expected: &Array2<f32>) -> f32 {
    let squares = |values: &Array2<f32>| values.iter().map(|value| value * value).sum::<f32>();
    (squares(&(found - expected)) / squares(expected)).sqrt()
}

#[test]
fn running_the_reuse_layers_for_the_last_position_alone_is_exact() {
    for storage in [Storage::F32, Storage::Packed(2)] {
        let decoder = TestModel::new(&config_json()).decoder(storage);
        for kind in [KvKind::F32, KvKind::Int8] {
            let embeddings = decoder.embed(&prompt(40)).unwrap();
            let run = |wanted| {
                let mut cache = decoder.new_cache(41, kind).unwrap();
                let logits = decoder.prefill(embeddings.view(), &mut cache, wanted).unwrap();
                (logits, decoder.decode(5, &mut cache).unwrap())
            };
            let (all, all_next) = run(Wanted::All);
            let (last, last_next) = run(Wanted::Last);
            let (none, none_next) = run(Wanted::None);
            assert_eq!((all.dim(), last.dim(), none.dim()), ((40, 270), (1, 270), (0, 270)));
            assert_eq!(last.row(0), all.row(39), "{storage:?} {kind:?}: the same bits");
            assert_eq!(last_next, all_next);
            assert_eq!(none_next, all_next);
        }
    }
}

#[test]
fn a_prompt_in_pieces_gives_the_bits_of_a_prompt_at_once() {
    let decoder = TestModel::new(&config_json()).decoder(Storage::Packed(4));
    let len = PREFILL_CHUNK + 10; // more than goes through the layers together
    for kind in [KvKind::F32, KvKind::Int8] {
        let once = logits_in_chunks(&decoder, kind, len, len);
        for chunk in [1, 7, 200] {
            assert_eq!(logits_in_chunks(&decoder, kind, len, chunk), once, "{kind:?}, pieces of {chunk}");
        }
    }
}

#[test]
fn packed_weights_agree_with_their_values_up_to_8_bit_activations() {
    // An activation of 8 bits is off by up to 1/254 of the largest of its group of 32; 22 products one after the other add that up.
    const TOLERANCE: f32 = 0.06;
    let errors = [2, 4, 8].map(|bits| {
        let model = TestModel::new(&config_json());
        let expected = logits_in_chunks(&model.decoder(Storage::Dequantized(bits)), KvKind::F32, 30, 30);
        relative_error(&logits_in_chunks(&model.decoder(Storage::Packed(bits)), KvKind::F32, 30, 30), &expected)
    });
    // Not zero either: then the weights would not be packed.
    assert!(errors.iter().all(|error| (1e-4..TOLERANCE).contains(error)), "2, 4 and 8 bits: {errors:?}");
    println!("2, 4 and 8 bits: {errors:?}");
}

#[test]
fn an_8_bit_cache_agrees_with_an_f32_cache() {
    // A code is off by up to 1/254 of the largest value of its row, once for keys and once for values.
    const TOLERANCE: f32 = 0.02;
    let decoder = TestModel::new(&config_json()).decoder(Storage::F32);
    let expected = logits_in_chunks(&decoder, KvKind::F32, 60, 60);
    let error = relative_error(&logits_in_chunks(&decoder, KvKind::Int8, 60, 60), &expected);
    assert!((1e-4..TOLERANCE).contains(&error), "{error}");
    println!("{error}");
}

#[test]
fn a_cache_rolled_back_is_as_if_the_tokens_had_never_been() {
    let decoder = TestModel::new(&config_json()).decoder(Storage::F32);
    let mut cache = decoder.new_cache(20, KvKind::Int8).unwrap();
    decoder.prefill(decoder.embed(&prompt(10)).unwrap().view(), &mut cache, Wanted::None).unwrap();
    let expected = decoder.clone_of(&cache, 7);
    decoder.prefill(decoder.embed(&[1, 2, 3]).unwrap().view(), &mut cache, Wanted::None).unwrap();
    cache.truncate(10);
    assert_eq!(decoder.decode(7, &mut cache).unwrap(), expected);
}

impl Decoder {
    fn clone_of(&self, cache: &KvCache, token: u32) -> Vec<f32> {
        self.decode(token, &mut cache.clone()).unwrap()
    }
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_with_the_counts_and_changes_nothing() {
    let decoder = TestModel::new(&config_json()).decoder(Storage::F32);
    let mut cache = decoder.new_cache(8, KvKind::Int8).unwrap();
    decoder.prefill(decoder.embed(&prompt(5)).unwrap().view(), &mut cache, Wanted::Last).unwrap();
    let error = decoder.prefill(decoder.embed(&prompt(4)).unwrap().view(), &mut cache, Wanted::Last).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContextFull);
    assert!(error.to_string().starts_with("4 tokens do not fit: 5 of 8"), "{error}");
    decoder.prefill(decoder.embed(&prompt(3)).unwrap().view(), &mut cache, Wanted::Last).unwrap();
    assert_eq!((cache.len(), cache.remaining()), (8, 0));
}

#[test]
fn a_huge_capacity_takes_no_memory_until_it_is_used() {
    let decoder = TestModel::new(&config_json()).decoder(Storage::F32);
    assert_eq!(decoder.new_cache(usize::MAX, KvKind::F32).unwrap().num_bytes(), 0);
}

#[test]
fn wrong_arguments_are_errors() {
    let decoder = TestModel::new(&config_json()).decoder(Storage::F32);
    let error = decoder.embed(&[1, 270]).unwrap_err();
    assert_eq!(error.to_string(), "token id 270 at position 1 is outside the vocabulary of 270");
    let mut cache = decoder.new_cache(8, KvKind::Int8).unwrap();
    let error = decoder.prefill(Array2::zeros((2, 63)).view(), &mut cache, Wanted::Last).unwrap_err();
    assert!(error.to_string().contains("[2, 63], expected [tokens, 64]"), "{error}");
    let mut other = config_json();
    other["num_key_value_heads"] = json!(4);
    let mut cache = TestModel::new(&other).decoder(Storage::F32).new_cache(8, KvKind::Int8).unwrap();
    assert_eq!(decoder.decode(1, &mut cache).unwrap_err().kind(), ErrorKind::Shape);
    assert_eq!(decoder.new_cache(8, KvKind::Int8Static).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(
        decoder
            .prefill(Array2::zeros((0, 64)).view(), &mut decoder.new_cache(1, KvKind::F32).unwrap(), Wanted::All)
            .unwrap()
            .dim(),
        (0, 270)
    );
}

#[test]
fn weights_that_do_not_belong_to_the_config_are_named() {
    let model = TestModel::new(&config_json());
    let (_directory, weights) = model.weights(Storage::F32);
    for (field, value, tensor) in [
        ("vocab_size", json!(271), "embedding.weight"),
        ("vocab_size", json!(269), "embedding.weight"),
        ("num_hidden_layers", json!(6), "layers.segment_0.layer_3"),
        ("num_kv_reuse_layers", json!(0), "layers.layer_0"),
        ("intermediate_size", json!(95), "hidden_transform.linear_0"),
        ("tie_word_embeddings", json!(false), "output_transform.weight"),
    ] {
        let mut config = config_json();
        config[field] = value;
        let error = Decoder::load(&weights, &TextConfig::from_json(&config).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Weights);
        assert!(error.to_string().contains(tensor), "{field}: {error}");
    }
}

/// Large enough that every product is shared among threads.
fn wide_decoder() -> Decoder {
    let mut config = config_json();
    config["hidden_size"] = json!(256);
    config["intermediate_size"] = json!(832);
    config["vocab_size"] = json!(1024);
    TestModel::new(&config).decoder(Storage::Packed(2))
}

#[test]
fn greedy_tokens_are_the_same_with_any_number_of_threads() {
    let decoder = wide_decoder();
    let tokens = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| greedy_tokens(&decoder, 24))
    };
    let expected = tokens(1);
    for threads in [2, 3] {
        assert_eq!(tokens(threads), expected, "{threads} threads");
    }
}

const PREFIX: &str = "greedy tokens: ";

#[test]
#[ignore = "a part of `greedy_tokens_are_the_same_on_every_instruction_set`, which runs it in other processes"]
fn print_greedy_tokens() {
    println!("\n{PREFIX}{} {:?}", Isa::active().name(), greedy_tokens(&wide_decoder(), 24));
}

#[test]
fn greedy_tokens_are_the_same_on_every_instruction_set() {
    let expected = greedy_tokens(&wide_decoder(), 24);
    for isa in Isa::available() {
        // The instruction set is chosen once a process.
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "decoder::tests::print_greedy_tokens"])
            .env(ocelli_kernels::ISA_VARIABLE, isa.option())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = format!("{PREFIX}{} {expected:?}", isa.name());
        assert!(text.contains(&line), "{}: expected `{line}` in\n{text}", isa.name());
    }
}

#[test]
fn sequences_that_are_decoded_together_have_the_logits_of_each_alone() {
    let lens = [3, 40, 1, 17, 130];
    for storage in [Storage::F32, Storage::Packed(2), Storage::Packed(8)] {
        let decoder = TestModel::new(&config_json()).decoder(storage);
        for kind in [KvKind::F32, KvKind::Int8] {
            let prefilled = |len: usize| {
                let mut cache = decoder.new_cache(len + 3, kind).unwrap();
                decoder.prefill(decoder.embed(&prompt(len)).unwrap().view(), &mut cache, Wanted::None).unwrap();
                cache
            };
            let mut together: Vec<KvCache> = lens.map(prefilled).into();
            let mut alone = together.clone();
            for step in 0..3 {
                let tokens: Vec<u32> = (0..5).map(|index| (step * 50 + index * 7) as u32).collect();
                let mut caches: Vec<&mut KvCache> = together.iter_mut().collect();
                let logits = decoder.decode_batch(&tokens, &mut caches).unwrap();
                assert_eq!(logits.dim(), (5, 270));
                for ((row, token), cache) in logits.rows().into_iter().zip(tokens).zip(&mut alone) {
                    assert_eq!(
                        row.to_vec(),
                        decoder.decode(token, cache).unwrap(),
                        "{storage:?} {kind:?}: the same bits"
                    );
                }
            }
        }
    }
}

#[test]
fn a_batch_with_a_full_cache_changes_nothing() {
    let decoder = TestModel::new(&config_json()).decoder(Storage::F32);
    let mut caches = [4, 3].map(|capacity| decoder.new_cache(capacity, KvKind::Int8).unwrap());
    for cache in &mut caches {
        decoder.prefill(decoder.embed(&prompt(3)).unwrap().view(), cache, Wanted::None).unwrap();
    }
    let [first, second] = &mut caches;
    let error = decoder.decode_batch(&[1, 2], &mut [first, second]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContextFull);
    let error = decoder.decode_batch(&[1, 2], &mut [first]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    assert_eq!(caches.map(|cache| cache.len()), [3, 3]);
    assert_eq!(decoder.decode_batch(&[], &mut []).unwrap().dim(), (0, 270));
}
