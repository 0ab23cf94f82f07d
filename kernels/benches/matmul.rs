//! Matrix products of the sizes of afm-3b and ViTDet-L, beside what the machine can do: `cargo bench -p ocelli-kernels [-- ISA]`.
//!
//! A plain program: the benchmark frameworks that are alive need a C compiler. The limit of products with one token is reading the weights,
//! otherwise arithmetic; it is measured just before. Times are the best of several, on all threads.

use std::time::{Duration, Instant};

use ocelli_kernels::{
    Bits, Isa, MachineLimits, PackedMatrix, PackedShape, f16, matmul_f32, matmul_packed, matmul_unpacked,
};

/// `(what, tokens, rows, columns)`.
const SIZES: [(&str, usize, usize, usize); 10] = [
    ("decode, gate", 1, 6656, 2048),
    ("decode, down", 1, 2048, 6656),
    ("decode 2, gate", 2, 6656, 2048),
    ("decode 4, gate", 4, 6656, 2048),
    ("decode 8, gate", 8, 6656, 2048),
    ("decode 12, gate", 12, 6656, 2048),
    ("prefill, gate", 168, 6656, 2048),
    ("prefill, down", 168, 2048, 6656),
    ("encode, fc1", 2304, 4096, 1024),
    ("nano, fc1", 576, 768, 192),
];

/// The least time of one measurement.
const SAMPLE: Duration = Duration::from_millis(300);

fn main() {
    // `cargo bench` adds `--bench` of its own.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    for isa in Isa::available() {
        if !wanted.is_empty() && !wanted.iter().any(|name| isa.name().starts_with(name.as_str())) {
            continue;
        }
        let limits = MachineLimits::measure(isa);
        println!(
            "\n{}, {} threads: memory {:.1} GB/s, 8-bit {:.0} GOP/s, f32 {:.0} GFLOP/s",
            isa.name(),
            rayon::current_num_threads(),
            limits.memory_gb_s,
            limits.int8_gop_s,
            limits.f32_gflop_s
        );
        println!("{:16}{:>9}{:>12}{:>10}{:>10}{:>10}", "", "weights", "ms", "GB/s", "GOP/s", "of limit");
        for size in SIZES {
            for bits in [2, 4, 8] {
                measure(isa, size, bits, None, 8, &limits);
            }
            for bits in [2, 4, 8] {
                measure(isa, size, bits, Some(32), 8, &limits);
            }
            for bits in [2, 8, 32] {
                measure(isa, size, bits, None, 32, &limits);
            }
        }
    }
}

fn measure(
    isa: Isa,
    (what, tokens, rows, columns): (&str, usize, usize, usize),
    bits: u32,
    group_size: Option<usize>,
    activation_bits: u32,
    limits: &MachineLimits,
) {
    let x: Vec<f32> = (0..tokens * columns).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let mut out = vec![0.0; tokens * rows];
    let (seconds, bytes) = if bits == 32 {
        let w: Vec<f32> = (0..rows * columns).map(|i| ((i * 31 % 97) as f32 - 48.0) / 48.0).collect();
        (best(|| matmul_f32(isa, &x, &w, columns, None, &mut out)), 4 * w.len())
    } else {
        let bits = Bits::new(bits).expect("2, 4 or 8");
        let shape = PackedShape::new(bits, rows, columns, group_size).expect("a size that exists");
        let mut codes: Vec<u8> = (0..shape.codes_len()).map(|i| (i * 97 % 127) as u8).collect();
        shape.clear_padding(&mut codes);
        let scales = vec![f16::from_f32(0.01); shape.scales_len()];
        let w = PackedMatrix::new(shape, &codes, &scales).expect("valid");
        let product = if activation_bits == 8 { matmul_packed } else { matmul_unpacked };
        (best(|| product(isa, &x, &w, None, &mut out)), codes.len())
    };
    let operations = (2 * tokens * rows * columns) as f64;
    let arithmetic = if activation_bits == 8 { limits.int8_gop_s } else { limits.f32_gflop_s };
    let (gb_s, gop_s) = (bytes as f64 / seconds / 1e9, operations / seconds / 1e9);
    let fraction = if tokens == 1 { gb_s / limits.memory_gb_s } else { gop_s / arithmetic };
    println!(
        "{what:16}{:>9}{:>12.3}{gb_s:>10.2}{gop_s:>10.1}{:>9.0}%",
        format!("w{bits}a{activation_bits}{}", group_size.map_or(String::new(), |size| format!("g{size}"))),
        seconds * 1e3,
        100.0 * fraction
    );
}

/// Seconds of the fastest call.
fn best(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed() < SAMPLE {
        let start = Instant::now();
        call();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}
