//! Packed weights, integer and float matrix products, attention, norms and their SIMD dispatch.
//!
//! Everything works on slices, row-major: a kernel knows no layer and no file. Functions that have SIMD paths take an [`Isa`], a value
//! that exists only where the CPU has the instructions; [`Isa::active`] is the one of the process.
//!
//! | operation | paths | equal between paths |
//! | --- | --- | --- |
//! | [`matmul_packed`] (w2a8, w4a8, w8a8) | portable, AVX2, AVX-512 VNNI | to the bit |
//! | [`matmul_f32`], and on top of it [`matmul_unpacked`] (w2, w4, w8 and f32) | portable, AVX2, AVX-512 | up to rounding, see the function |
//! | [`attention_f32`], [`attention_cached`], norms, softmax, activations | one loop, compiled for each | to the bit |
//!
//! The AVX-512 paths were written on a machine that cannot run them. Their integer products have been run under Miri (`docs/measurements.md` has the
//! command); on a CPU that has them, `cargo test -p ocelli-kernels` runs all. `OCELLI_ISA=avx2` goes around them.

pub mod activation;
mod aligned;
mod attention;
mod error;
mod isa;
mod lanes;
mod matmul;
mod norm;
mod pack;
mod packed;
mod parallel;
mod probe;
mod quantize;
mod rope;
mod softmax;
#[cfg(test)]
mod testing;

pub use attention::{KvRows, attention_cached, attention_f32};
pub use error::{Error, ErrorKind};
pub use half::f16;
pub use isa::{ISA_VARIABLE, Isa};
pub use matmul::{matmul_f32, matmul_packed, matmul_unpacked};
pub use norm::{layer_norm, rms_norm};
pub use pack::pack_matrix;
pub use packed::{BLOCK_BYTES, Bits, MAX_COLUMNS, PackedMatrix, PackedShape};
pub use parallel::{for_each, map, on_pool, piece_len};
pub use probe::MachineLimits;
pub use rope::{RotaryCoefficients, RotaryEmbedding, rope_halves, rope_interleaved};
pub use softmax::softmax;
