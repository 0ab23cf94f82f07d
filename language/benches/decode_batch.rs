//! What decoding several sequences in one pass over the weights saves: `cargo bench -p ocelli-language --bench decode_batch -- DIR [DEPTH]`, with
//! a model directory such as `ocelli bench --preset afm-3b` makes; DEPTH tokens are in every cache before.
//!
//! The sizes of the batch take turns; the table has the median time of a pass, and the tokens a second against those of one sequence alone.

use std::path::Path;
use std::time::Instant;

use model::Result;
use ocelli_language::{KvCache, KvKind, Wanted};

mod model;

const BATCH_SIZES: [usize; 7] = [1, 2, 3, 4, 6, 8, 16];
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some(dir) = arguments.first() else {
        println!("no model directory given: nothing is measured");
        return Ok(());
    };
    let depth = arguments.get(1).map_or(Ok(16), |count| count.parse())?;
    let (_, _, decoder) = model::load(Path::new(dir))?;
    let ids: Vec<u32> = (0..depth as u32).collect();
    let mut cache = decoder.new_cache(depth + 1, KvKind::Int8)?;
    decoder.prefill(decoder.embed(&ids)?.view(), &mut cache, Wanted::None)?;
    let mut caches: Vec<KvCache> = vec![cache; 16];
    let mut times = [const { Vec::new() }; BATCH_SIZES.len()];
    for round in 0..=ROUNDS {
        for (batch_size, times) in BATCH_SIZES.into_iter().zip(&mut times) {
            let mut batch: Vec<&mut KvCache> = caches[..batch_size].iter_mut().collect();
            let tokens: Vec<u32> = (1..=batch_size as u32).collect();
            let start = Instant::now();
            decoder.decode_batch(&tokens, &mut batch)?;
            // The first round fills the caches of the processor.
            if round > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
            batch.iter_mut().for_each(|cache| cache.truncate(depth));
        }
    }
    let medians = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    println!("{:>9} {:>10} {:>10} {:>8}", "sequences", "ms a pass", "tokens/s", "ratio");
    for (batch_size, time) in BATCH_SIZES.into_iter().zip(medians) {
        let ratio = batch_size as f64 * medians[0] / time;
        println!("{batch_size:>9} {:>10.1} {:>10.1} {ratio:>8.2}", time * 1e3, batch_size as f64 / time);
    }
    Ok(())
}
