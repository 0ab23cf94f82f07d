//! What this machine can do at best, measured now: what speeds are compared with.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::Isa;
use crate::isa::{Kind, for_each_isa};

/// Bytes that one thread reads again and again: with two threads, twice what a large L3 cache holds.
const MEMORY_BYTES: usize = 128 << 20;

/// The least time of one measurement.
const SAMPLE: Duration = Duration::from_millis(40);

/// Samples of each limit; the best counts, as whatever else runs on the machine makes samples slower and never faster.
const SAMPLES: usize = 5;

/// Iterations of an arithmetic loop between two looks at the clock.
const ITERATIONS: usize = 100_000;

/// Peak rates of all threads of a rayon pool together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachineLimits {
    /// Reading memory, in 10^9 bytes a second.
    pub memory_gb_s: f64,
    /// 8-bit multiplications and additions, in 10^9 a second, with the instructions that the products use.
    pub int8_gop_s: f64,
    /// f32 multiplications and additions, in 10^9 a second.
    pub f32_gflop_s: f64,
}

impl MachineLimits {
    /// Measures on all threads of the current rayon pool at once; takes about a second.
    pub fn measure(isa: Isa) -> MachineLimits {
        MachineLimits {
            memory_gb_s: measure_memory(isa),
            int8_gop_s: rate(|| int8_loop(isa, ITERATIONS)),
            f32_gflop_s: rate(|| f32_loop(isa, ITERATIONS)),
        }
    }
}

fn measure_memory(isa: Isa) -> f64 {
    let buffers = rayon::broadcast(|_| vec![1_u64; MEMORY_BYTES / size_of::<u64>()]);
    let read = |context: rayon::BroadcastContext<'_>| {
        let mut sum = 0;
        add_up(isa, black_box(&buffers[context.index()]), &mut sum);
        black_box(sum);
        MEMORY_BYTES as f64
    };
    best_of_samples(|| rayon::broadcast(read).into_iter().sum())
}

/// 10^9 operations a second, where `job` runs on every thread and returns its operations.
fn rate(job: impl Fn() -> f64 + Sync) -> f64 {
    best_of_samples(|| rayon::broadcast(|_| job()).into_iter().sum())
}

/// The best rate of some samples, in 10^9 a second; `work` returns how much it did.
fn best_of_samples(work: impl Fn() -> f64) -> f64 {
    let sample = || {
        let start = Instant::now();
        let mut done = 0.0;
        while start.elapsed() < SAMPLE {
            done += work();
        }
        done / start.elapsed().as_secs_f64() / 1e9
    };
    (0..SAMPLES).map(|_| sample()).fold(0.0, f64::max)
}

for_each_isa! {
    /// Reads every word: the sum, in lanes.
    fn add_up(words: &[u64], sum: &mut u64) {
        let mut lanes = [0_u64; 32];
        for words in words.as_chunks::<32>().0 {
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane = lane.wrapping_add(*word);
            }
        }
        *sum = lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane));
    }
}

/// Independent sums of 8-bit products; returns the number of multiplications and additions.
fn int8_loop(isa: Isa, iterations: usize) -> f64 {
    match isa.0 {
        Kind::Portable => portable_int8(iterations),
        // SAFETY: this kind of `Isa` is made by `Isa::available` alone, where the CPU has these features.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { x86::int8_avx2(iterations) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni => unsafe { x86::int8_avx_vnni(iterations) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => unsafe { x86::int8_avx512_vnni(iterations) },
    }
}

/// Independent sums of f32 products; returns the number of multiplications and additions.
fn f32_loop(isa: Isa, iterations: usize) -> f64 {
    match isa.0 {
        Kind::Portable => portable_f32(iterations),
        // SAFETY: as in `int8_loop`.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 | Kind::AvxVnni => unsafe { x86::f32_avx2(iterations) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => unsafe { x86::f32_avx512(iterations) },
    }
}

fn portable_int8(iterations: usize) -> f64 {
    let (a, b) = (black_box([3_i8; 32]), black_box([-5_i8; 32]));
    let mut total = 0_i32;
    for _ in 0..iterations / 4 {
        let products = black_box(a).into_iter().zip(b).map(|(a, b)| i32::from(a) * i32::from(b));
        total = total.wrapping_add(products.sum::<i32>());
    }
    black_box(total);
    (iterations / 4 * 32 * 2) as f64
}

fn portable_f32(iterations: usize) -> f64 {
    let factor = black_box([0.999_f32; 8]);
    let mut totals = [[1.0_f32; 8]; 4];
    for _ in 0..iterations {
        for total in &mut totals {
            for (total, factor) in total.iter_mut().zip(factor) {
                *total = *total * factor + 0.001;
            }
        }
    }
    black_box(totals);
    (iterations * 4 * 8 * 2) as f64
}

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_positive_on_every_instruction_set() {
        for isa in Isa::available() {
            let MachineLimits { memory_gb_s, int8_gop_s, f32_gflop_s } = MachineLimits::measure(isa);
            for rate in [memory_gb_s, int8_gop_s, f32_gflop_s] {
                assert!(rate.is_finite() && rate > 0.01, "{}: {rate}", isa.name());
            }
        }
    }
}
