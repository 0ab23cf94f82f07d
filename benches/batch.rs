//! Captions of many pictures, together and one at a time: `cargo bench --bench batch -- [rapid|balanced|high] [PICTURES] [ROUNDS] [MODEL]`.
//!
//! Encoding: views of the pictures through encoder and adapter, one after the other with all threads, and side by side with a thread each (`Model::encode_views`).
//! Captions, one at a time: each file is opened, encoded and described before the next. Together: `Model::captions_with`, with several sizes of the batch. The ways take
//! turns in every round; the table has the median of the pictures a minute, and the median of the ratios to one at a time in the same round.

use std::path::PathBuf;
use std::time::Instant;

use ocelli::{BatchOptions, CaptionOptions, Error, Mode, Model, Picture};

const BATCH_SIZES: [usize; 4] = [1, 4, 8, 16];
const PICTURES: [&str; 6] =
    ["scene.png", "three-things.jpg", "four-things.png", "wide.jpg", "tall.png", "one-thing.webp"];

fn main() -> Result<(), Error> {
    // `cargo bench` adds `--bench` of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |index: usize, default| arguments.get(index).and_then(|text| text.parse().ok()).unwrap_or(default);
    let mode = match arguments.first().map(String::as_str) {
        Some("rapid") => Mode::Rapid,
        Some("high") => Mode::High,
        _ => Mode::Balanced,
    };
    let (num_pictures, rounds) = (number(1, 24_usize).max(1), number(2, 3_usize).max(1));
    let model = match arguments.get(3) {
        Some(folder) => Model::load(folder)?,
        None => Model::bundled()?,
    };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/examples");
    let paths: Vec<PathBuf> = PICTURES.iter().cycle().take(num_pictures).map(|name| folder.join(name)).collect();
    let caption = CaptionOptions { mode, ..CaptionOptions::default() };
    println!(
        "{}, {mode:?}: {num_pictures} pictures, {rounds} rounds, {} threads",
        model.name(),
        rayon::current_num_threads()
    );

    encoding(&model, &paths[..num_pictures.min(8)], mode, rounds)?;

    let mut rates = vec![Vec::new(); BATCH_SIZES.len() + 1];
    for _ in 0..rounds {
        let start = Instant::now();
        for path in &paths {
            model.caption_with(&Picture::open(path)?, &caption)?;
        }
        rates[0].push(per_minute(num_pictures, start));
        for (batch_size, rates) in BATCH_SIZES.into_iter().zip(&mut rates[1..]) {
            let mut options = BatchOptions::from(caption.clone());
            options.batch_size = batch_size;
            let start = Instant::now();
            for caption in model.captions_with(&paths, options) {
                caption.result?;
            }
            rates.push(per_minute(num_pictures, start));
        }
    }
    println!("{:24} {:>10} {:>8}", "", "a minute", "ratio");
    println!("{:24} {:10.1} {:8.2}", "one at a time", median(rates[0].clone()), 1.0);
    for (batch_size, together) in BATCH_SIZES.into_iter().zip(&rates[1..]) {
        let ratio = median(together.iter().zip(&rates[0]).map(|(together, alone)| together / alone).collect());
        println!("{:24} {:10.1} {ratio:8.2}", format!("{batch_size} together"), median(together.clone()));
    }
    Ok(())
}

/// Views encoded one after the other and side by side.
fn encoding(model: &Model, paths: &[PathBuf], mode: Mode, rounds: usize) -> Result<(), Error> {
    let views = paths.iter().map(|path| model.views(&Picture::open(path)?, mode)).collect::<Result<Vec<_>, Error>>()?;
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        for views in &views {
            model.adapt(&model.encode(views)?, views.pooled)?;
        }
        alone.push(per_minute(views.len(), start));
        let start = Instant::now();
        for encoded in model.encode_views(&views) {
            encoded?;
        }
        together.push(per_minute(views.len(), start));
    }
    let ratio = median(together.iter().zip(&alone).map(|(together, alone)| together / alone).collect());
    let (alone, together) = (median(alone), median(together));
    println!("encoding {} pictures: {alone:.1} a minute, side by side {together:.1}, ratio {ratio:.2}\n", views.len());
    Ok(())
}

fn per_minute(num_pictures: usize, start: Instant) -> f64 {
    60.0 * num_pictures as f64 / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
