//! What the skip of the layers that reuse keys and values saves in prefill: `cargo bench -p ocelli-language --bench prefill -- DIR [TOKENS]`, with
//! a model directory such as `ocelli bench --preset afm-3b` makes.
//!
//! Both sides run the same tokens, in turn. "All layers" wants the logits of every token, so that its time has the output layer of all tokens in
//! it; what that layer alone takes is measured beside it and taken off.

use std::path::Path;
use std::time::{Duration, Instant};

use model::Result;
use ocelli_language::{KvKind, Wanted};
use ocelli_nn::on_pool;

mod model;

const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some(dir) = arguments.first() else {
        println!("no model directory given: nothing is measured");
        return Ok(());
    };
    let num_tokens = arguments.get(1).map_or(Ok(144), |count| count.parse())?;
    let (weights, config, decoder) = model::load(Path::new(dir))?;
    let output_layer = weights.embedding("embedding", config.vocab_size, config.hidden_size)?.as_linear();
    let ids: Vec<u32> = (0..num_tokens as u32).collect();
    let embeddings = decoder.embed(&ids)?;
    let mut times = [const { Vec::new() }; 3];
    for round in 0..=ROUNDS {
        let mut cache = decoder.new_cache(num_tokens, KvKind::Int8)?;
        let skip = timed(|| decoder.prefill(embeddings.view(), &mut cache, Wanted::Last))?;
        cache.truncate(0);
        let all = timed(|| decoder.prefill(embeddings.view(), &mut cache, Wanted::All))?;
        let output = timed(|| Ok::<_, std::convert::Infallible>(on_pool(|| output_layer.forward(embeddings.view()))))?;
        // The first round fills the caches.
        if round > 0 {
            for (times, time) in times.iter_mut().zip([skip, all, output]) {
                times.push(time);
            }
        }
    }
    let [skip, all, output] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    });
    let layers = all - output;
    println!("{num_tokens} tokens, medians of {ROUNDS}");
    println!("with the skip     {:8.1} ms  {:6.1} tokens/s", skip * 1e3, num_tokens as f64 / skip);
    println!("all layers        {:8.1} ms  {:6.1} tokens/s", layers * 1e3, num_tokens as f64 / layers);
    println!("output layer      {:8.1} ms, taken off", output * 1e3);
    println!("skip / all        {:8.2} x", layers / skip);
    Ok(())
}

fn timed<T, E>(work: impl FnOnce() -> std::result::Result<T, E>) -> std::result::Result<Duration, E> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}
