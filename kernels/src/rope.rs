//! Rotary position embedding, interleaved pairs: dimensions `2i` and `2i + 1` of a head turn by `position * theta^(-2i / head_dim)`.
//!
//! ```text
//! freq_i    = f32(theta ^ (-2 i / head_dim))                the power in f64
//! angle     = f32(f32(position) * freq_i)                   a product in f32: in f64 the cosine differs by 2e-3 at position 65535
//! out[2i]   = x[2i] * cos(angle) - x[2i + 1] * sin(angle)
//! out[2i+1] = x[2i] * sin(angle) + x[2i + 1] * cos(angle)
//! ```
//!
//! Source: tamm 0.2.0, `layers/rope.py`.

/// The frequencies of one model.
#[derive(Debug, Clone)]
pub struct RotaryEmbedding {
    frequencies: Vec<f32>,
}

/// Cosines and sines of some positions, made once and used by every layer.
#[derive(Debug, Clone)]
pub struct RotaryCoefficients {
    /// `[tokens, head_dim / 2]`.
    pub cos: Vec<f32>,
    /// `[tokens, head_dim / 2]`.
    pub sin: Vec<f32>,
    head_dim: usize,
}

impl RotaryEmbedding {
    /// Frequencies for heads of `head_dim` dimensions.
    ///
    /// # Panics
    /// If `head_dim` is 0 or odd.
    pub fn new(head_dim: usize, theta: f64) -> RotaryEmbedding {
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "head_dim is {head_dim}, expected an even number");
        let frequency = |pair: usize| theta.powf(-2.0 * pair as f64 / head_dim as f64) as f32;
        RotaryEmbedding { frequencies: (0..head_dim / 2).map(frequency).collect() }
    }

    /// Cosines and sines at `positions`, `[tokens]`.
    pub fn coefficients(&self, positions: &[u32]) -> RotaryCoefficients {
        let angles = positions.iter().flat_map(|&position| {
            // The sine of an f32 angle, computed in f64, is the same on every machine up to one rounding.
            self.frequencies.iter().map(move |&frequency| f64::from(position as f32 * frequency).sin_cos())
        });
        let (sin, cos) = angles.map(|(sin, cos)| (sin as f32, cos as f32)).unzip();
        RotaryCoefficients { cos, sin, head_dim: 2 * self.frequencies.len() }
    }
}

/// Rotates the heads of `x`, `[tokens, num_heads * head_dim]`, in place, by the coefficients of the tokens.
///
/// # Panics
/// If `x` is not a whole number of heads for each token.
pub fn rope_interleaved(x: &mut [f32], coefficients: &RotaryCoefficients) {
    let RotaryCoefficients { cos, sin, head_dim } = coefficients;
    let pairs = head_dim / 2;
    let tokens = cos.len() / pairs;
    if tokens == 0 {
        assert!(x.is_empty(), "x has {} elements, but there are no positions", x.len());
        return;
    }
    let width = x.len() / tokens;
    assert!(
        x.len() == tokens * width && width.is_multiple_of(*head_dim),
        "{} elements, {tokens} tokens, {head_dim}",
        x.len()
    );
    if width == 0 {
        return;
    }
    for (token, (cos, sin)) in x.chunks_exact_mut(width).zip(cos.chunks_exact(pairs).zip(sin.chunks_exact(pairs))) {
        for head in token.chunks_exact_mut(*head_dim) {
            for (pair, (cos, sin)) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos.iter().zip(sin)) {
                let [x, y] = *pair;
                *pair = [x * cos - y * sin, x * sin + y * cos];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `expected.safetensors` of tamm 0.2.0 this agrees to 4e-8 (language's golden tests); here, the formula itself.
    #[test]
    fn the_angle_is_rounded_to_f32_before_its_cosine() {
        let rotary = RotaryEmbedding::new(128, 500_000.0);
        let coefficients = rotary.coefficients(&[0, 700, 65535]);
        for (token, position) in [0.0_f32, 700.0, 65535.0].into_iter().enumerate() {
            for pair in 0..64 {
                let frequency = 500_000_f64.powf(-2.0 * pair as f64 / 128.0) as f32;
                let angle = f64::from(position * frequency);
                let (cos, sin) = (coefficients.cos[token * 64 + pair], coefficients.sin[token * 64 + pair]);
                assert!((f64::from(cos) - angle.cos()).abs() < 6e-8, "{position}, {pair}");
                assert!((f64::from(sin) - angle.sin()).abs() < 6e-8, "{position}, {pair}");
            }
        }
    }

    #[test]
    fn neighbouring_dimensions_turn_together_in_every_head() {
        let rotary = RotaryEmbedding::new(4, 10_000.0);
        let coefficients = rotary.coefficients(&[1, 2]);
        // Two tokens, two heads of two pairs.
        let mut x = [1.0, 0.0, 0.0, 1.0, 0.0, 2.0, 2.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 3.0, 4.0];
        let before = x;
        rope_interleaved(&mut x, &coefficients);
        for (index, pair) in x.chunks(2).enumerate() {
            let angle = (1.0 + (index / 4) as f64) * [1.0, 0.01][index % 2];
            let (a, b) = (f64::from(before[2 * index]), f64::from(before[2 * index + 1]));
            assert!((f64::from(pair[0]) - (a * angle.cos() - b * angle.sin())).abs() < 1e-6, "pair {index}");
            assert!((f64::from(pair[1]) - (a * angle.sin() + b * angle.cos())).abs() < 1e-6, "pair {index}");
        }
    }

    #[test]
    fn no_tokens_are_no_work() {
        rope_interleaved(&mut [], &RotaryEmbedding::new(4, 10_000.0).coefficients(&[]));
    }
}
