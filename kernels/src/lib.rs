//! Packed weights, integer and float matrix products, attention, norms and their SIMD dispatch.
