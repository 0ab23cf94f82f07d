//! What a parallel section costs, beside its work: `cargo bench -p ocelli-kernels --bench sections`.
//!
//! A decoding step of the on-device model has some 300 sections, of a tenth of a millisecond each, with serial work of some microseconds between
//! them. Here the work is the same: a piece for each thread, then some on the calling thread.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ocelli_kernels::{for_each, on_pool};
use rayon::prelude::*;

/// Sections of a measurement.
const SECTIONS: u32 = 300;

fn main() {
    let threads = rayon::current_num_threads();
    println!(
        "{threads} threads, {SECTIONS} sections; microseconds that a section adds to its work and to the serial work after it"
    );
    println!("{:>8}{:>14}{:>10}{:>10}", "piece", "serial work", "rayon", "team");
    for (piece, pause) in [(20, 10), (20, 30), (20, 100), (100, 10), (100, 30), (100, 100)] {
        let [piece, pause] = [piece, pause].map(Duration::from_micros);
        let rayon = best(|| {
            rayon::scope(|_| {
                for _ in 0..SECTIONS {
                    (0..threads).into_par_iter().for_each(|_| work(piece));
                    work(pause);
                }
            });
        });
        let team = best(|| {
            on_pool(|| {
                for _ in 0..SECTIONS {
                    for_each((0..threads).collect(), |_| work(piece));
                    work(pause);
                }
            });
        });
        let added = |time: Duration| (time / SECTIONS).saturating_sub(piece + pause).as_secs_f64() * 1e6;
        let (rayon, team) = (added(rayon), added(team));
        println!("{:>8}{:>14}{rayon:>10.2}{team:>10.2}", piece.as_micros(), pause.as_micros());
    }
}

/// Keeps this thread busy.
fn work(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        black_box(());
    }
}

/// The shortest of several calls.
fn best(mut call: impl FnMut()) -> Duration {
    let time = || {
        let start = Instant::now();
        call();
        start.elapsed()
    };
    std::iter::repeat_with(time).take(20).min().unwrap_or_default()
}
