//! Rotary position embedding: pairs of dimensions of a head turn by `position * theta^(-2i / head_dim)`, pair i being dimensions `2i` and
//! `2i + 1` (interleaved) or `i` and `i + head_dim / 2` (halves).
//!
//! ```text
//! freq_i    = f32(theta ^ (-2 i / head_dim))                the power in f64
//! angle     = f32(f32(position) * freq_i)                   a product in f32: in f64 the cosine differs by 2e-3 at position 65535
//! [x, y]    = [x * cos(angle) - y * sin(angle), x * sin(angle) + y * cos(angle)]        for each pair [x, y]
//! ```
//!
//! Source: tamm 0.2.0, `layers/rope.py` (interleaved); transformers, `modeling_llama.py` (halves, "rotate_half").

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

    /// The same with every frequency changed, as models do that were made for longer contexts than they were first trained on.
    #[must_use]
    pub fn scaled(mut self, scale: impl Fn(f32) -> f32) -> RotaryEmbedding {
        self.frequencies.iter_mut().for_each(|frequency| *frequency = scale(*frequency));
        self
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

/// Rotates the heads of `x`, `[tokens, num_heads * head_dim]`, in place, by the coefficients of the tokens; neighbouring dimensions are pairs.
///
/// # Panics
/// If `x` is not a whole number of heads for each token.
pub fn rope_interleaved(x: &mut [f32], coefficients: &RotaryCoefficients) {
    for_each_head(x, coefficients, |head, cos, sin| {
        for (pair, (cos, sin)) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos.iter().zip(sin)) {
            *pair = rotated(*pair, *cos, *sin);
        }
    });
}

/// [`rope_interleaved`] with pairs of a dimension of the first half and one of the second.
///
/// # Panics
/// If `x` is not a whole number of heads for each token.
pub fn rope_halves(x: &mut [f32], coefficients: &RotaryCoefficients) {
    for_each_head(x, coefficients, |head, cos, sin| {
        let (first, second) = head.split_at_mut(cos.len());
        for ((x, y), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
            [*x, *y] = rotated([*x, *y], *cos, *sin);
        }
    });
}

fn rotated([x, y]: [f32; 2], cos: f32, sin: f32) -> [f32; 2] {
    [x * cos - y * sin, x * sin + y * cos]
}

/// Calls `rotate(head, cos, sin)` for each head of each token.
fn for_each_head(x: &mut [f32], coefficients: &RotaryCoefficients, rotate: impl Fn(&mut [f32], &[f32], &[f32])) {
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
        token.chunks_exact_mut(*head_dim).for_each(|head| rotate(head, cos, sin));
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
    fn pairs_of_halves_are_interleaved_pairs_in_another_order() {
        let coefficients = RotaryEmbedding::new(6, 100.0).scaled(|frequency| 0.5 * frequency).coefficients(&[3, 5]);
        let mut halves: Vec<f32> = (0..24).map(|index| (index as f32).sin()).collect();
        let order = [0, 2, 4, 1, 3, 5];
        let mut interleaved = vec![0.0; 24];
        for (head, halves) in interleaved.chunks_exact_mut(6).zip(halves.chunks_exact(6)) {
            order.iter().zip(halves).for_each(|(&place, &value)| head[place] = value);
        }
        rope_halves(&mut halves, &coefficients);
        rope_interleaved(&mut interleaved, &coefficients);
        for (head, halves) in interleaved.chunks_exact(6).zip(halves.chunks_exact(6)) {
            assert_eq!(order.map(|place| head[place]), *halves);
        }
    }

    #[test]
    fn no_tokens_are_no_work() {
        rope_interleaved(&mut [], &RotaryEmbedding::new(4, 10_000.0).coefficients(&[]));
    }
}
