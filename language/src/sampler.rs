//! Logits to a token.
//!
//! In this order: repetition penalty; division by the temperature; `top_k`; softmax; `top_p`; one draw. The order from the temperature on
//! is that of `process_logit` in Apple's `tamm`: `top_p` works on the distribution that `top_k` left. A temperature of 0 takes the largest
//! logit after the penalty, the lower id of equals. The penalty is that of Keskar et al. 2019 (arXiv 1909.05858) as in transformers:
//! the logits of tokens seen before are divided by it where positive, multiplied where negative.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a token is drawn from its logits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SamplingOptions {
    /// Divides the logits; 0 is greedy. Default: 0.
    pub temperature: f32,
    /// Only this many of the likeliest tokens. Default: all.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together reach this probability, 0 < `top_p` <= 1. Default: all.
    pub top_p: Option<f32>,
    /// Makes tokens seen before less likely (above 1) or likelier (below). Default: 1.
    pub repetition_penalty: f32,
    /// The beginning of the random numbers: the same seed gives the same tokens on every machine. Default: 0.
    #[serde(default)]
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: None, top_p: None, repetition_penalty: 1.0, seed: 0 }
    }
}

impl SamplingOptions {
    const MAX_TEMPERATURE: f32 = 100.0;
    const PENALTIES: std::ops::RangeInclusive<f32> = 0.01..=100.0;

    /// Checks every option.
    ///
    /// # Errors
    /// [`ErrorKind::Sampling`](crate::ErrorKind::Sampling) naming the option and its range.
    pub fn check(&self) -> Result<()> {
        let refuse = |option, found: String, expected| Err(Error::Sampling { option, found, expected });
        if !(0.0..=Self::MAX_TEMPERATURE).contains(&self.temperature) {
            return refuse("temperature", self.temperature.to_string(), "a number from 0 (greedy) to 100");
        }
        if self.top_k == Some(0) {
            return refuse("top_k", "0".into(), "1 or more");
        }
        if let Some(top_p) = self.top_p
            && !(top_p > 0.0 && top_p <= 1.0)
        {
            return refuse("top_p", top_p.to_string(), "a number above 0, at most 1");
        }
        if !Self::PENALTIES.contains(&self.repetition_penalty) {
            return refuse("repetition_penalty", self.repetition_penalty.to_string(), "a number from 0.01 to 100");
        }
        Ok(())
    }
}

/// Draws tokens.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    random: SplitMix64,
}

impl Sampler {
    /// A sampler at the beginning of its random numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Sampling`](crate::ErrorKind::Sampling) when an option is out of range.
    pub fn new(options: SamplingOptions) -> Result<Self> {
        options.check()?;
        let random = SplitMix64 { state: options.seed };
        Ok(Self { options, random })
    }

    /// The next token, given its logits `[vocab_size]` and the tokens so far.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`](crate::ErrorKind::Numeric) when a logit is not finite, or there is none.
    pub fn sample(&mut self, logits: &[f32], tokens: &[u32]) -> Result<u32> {
        let penalized = self.penalized(logits, tokens)?;
        if self.options.temperature == 0.0 {
            return Ok(argmax(&penalized) as u32);
        }
        let probabilities = self.distribution(penalized);
        let draw = self.random.uniform();
        let mut sum = 0.0;
        let mut last = 0;
        for (token, &probability) in probabilities.iter().enumerate().filter(|&(_, &probability)| probability > 0.0) {
            sum += probability;
            last = token;
            if draw < sum {
                break;
            }
        }
        Ok(last as u32)
    }

    /// The probabilities `[vocab_size]` that [`Sampler::sample`] draws from. Greedy sampling has one of 1.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn probabilities(&self, logits: &[f32], tokens: &[u32]) -> Result<Vec<f32>> {
        let penalized = self.penalized(logits, tokens)?;
        if self.options.temperature == 0.0 {
            let mut probabilities = vec![0.0; logits.len()];
            probabilities[argmax(&penalized)] = 1.0;
            return Ok(probabilities);
        }
        Ok(self.distribution(penalized).into_iter().map(|probability| probability as f32).collect())
    }

    fn penalized(&self, logits: &[f32], tokens: &[u32]) -> Result<Vec<f32>> {
        if logits.is_empty() {
            return Err(Error::Logits { token: 0, value: f32::NAN });
        }
        if let Some((token, &value)) = logits.iter().enumerate().find(|(_, logit)| !logit.is_finite()) {
            return Err(Error::Logits { token, value });
        }
        let penalty = self.options.repetition_penalty;
        let mut penalized = logits.to_vec();
        if penalty != 1.0 {
            for &token in tokens {
                // From the unchanged logits, so that a token seen twice is not penalized twice.
                if let Some(&logit) = logits.get(token as usize) {
                    penalized[token as usize] = if logit > 0.0 { logit / penalty } else { logit * penalty };
                }
            }
        }
        Ok(penalized)
    }

    fn distribution(&self, logits: Vec<f32>) -> Vec<f64> {
        let temperature = f64::from(self.options.temperature);
        let mut scaled: Vec<f64> = logits.into_iter().map(|logit| f64::from(logit) / temperature).collect();
        if let Some(top_k) = self.options.top_k {
            keep_largest(&mut scaled, top_k);
        }
        softmax(&mut scaled);
        if let Some(top_p) = self.options.top_p {
            keep_nucleus(&mut scaled, f64::from(top_p));
        }
        scaled
    }
}

/// The largest, the first of equals.
pub(crate) fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

/// All but the `count` largest become minus infinity; of equals the first are kept.
fn keep_largest(values: &mut [f64], count: usize) {
    if count >= values.len() {
        return;
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a])); // stable
    for &index in &order[count..] {
        values[index] = f64::NEG_INFINITY;
    }
}

fn softmax(values: &mut [f64]) {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}

/// Rising by probability, a token goes if the sum up to and with it is at most `1 - top_p`; the likeliest stays; the rest is renormalized.
fn keep_nucleus(probabilities: &mut [f64], top_p: f64) {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]).then(b.cmp(&a)));
    let Some((_, dispensable)) = order.split_last() else { return };
    let mut sum = 0.0;
    for &index in dispensable {
        sum += probabilities[index];
        if sum > 1.0 - top_p {
            break;
        }
        probabilities[index] = 0.0;
    }
    let kept: f64 = probabilities.iter().sum();
    probabilities.iter_mut().for_each(|probability| *probability /= kept);
}

/// The SplitMix64 generator (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"; public domain constants).
#[derive(Debug, Clone)]
pub struct SplitMix64 {
    /// The seed, at the beginning.
    pub state: u64,
}

impl SplitMix64 {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in [0, 1), all 53 bits of it.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(temperature: f32) -> SamplingOptions {
        SamplingOptions { temperature, ..SamplingOptions::default() }
    }

    fn logits_of(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|probability| probability.ln()).collect()
    }

    #[test]
    fn the_random_numbers_are_those_of_splitmix64() {
        let mut random = SplitMix64 { state: 1_234_567 };
        // The published test vector of the reference implementation for this seed.
        let expected: [u64; 3] = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([random.next_u64(), random.next_u64(), random.next_u64()], expected);
    }

    #[test]
    fn temperature_zero_takes_the_largest_and_the_first_of_equals() {
        let mut sampler = Sampler::new(options(0.0)).unwrap();
        assert_eq!(sampler.sample(&[0.5, 2.0, 2.0, -1.0], &[]).unwrap(), 1);
        assert_eq!(sampler.probabilities(&[0.5, 2.0, 2.0, -1.0], &[]).unwrap(), [0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn top_p_keeps_a_token_if_those_before_it_sum_to_less() {
        // The example of SEMANTICS 5.1, in exact binary fractions: {0.5, 0.25, 0.125, 0.125}.
        for (top_p, expected_kept) in
            [(0.4, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (0.875, 3), (0.9, 4), (1.0, 4)]
        {
            let mut probabilities = vec![0.125, 0.5, 0.125, 0.25];
            keep_nucleus(&mut probabilities, top_p);
            assert_eq!(probabilities.iter().filter(|&&p| p > 0.0).count(), expected_kept, "top_p {top_p}");
            assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        }
    }

    #[test]
    fn top_p_works_on_what_top_k_left() {
        let logits = logits_of(&[0.4, 0.3, 0.2, 0.1]);
        let sampler = Sampler::new(SamplingOptions { top_k: Some(2), top_p: Some(0.58), ..options(1.0) }).unwrap();
        let found = sampler.probabilities(&logits, &[]).unwrap();
        // Of {0.4, 0.3} renormalized to {0.571, 0.429} both are needed for 0.58; of all four, two.
        assert!((found[0] - 4.0 / 7.0).abs() < 1e-6 && (found[1] - 3.0 / 7.0).abs() < 1e-6, "{found:?}");
        assert_eq!(found[2..], [0.0, 0.0]);
    }

    #[test]
    fn the_temperature_divides_the_logits_before_the_softmax() {
        let found = Sampler::new(options(2.0)).unwrap().probabilities(&[2.0, 0.0], &[]).unwrap();
        let e = 1f32.exp();
        assert!((found[0] - e / (e + 1.0)).abs() < 1e-6);
    }

    #[test]
    fn the_penalty_lowers_tokens_seen_before_once_each() {
        let sampling = SamplingOptions { repetition_penalty: 2.0, ..options(0.0) };
        let sampler = Sampler::new(sampling).unwrap();
        assert_eq!(sampler.penalized(&[4.0, -1.0, 3.0], &[0, 1, 0, 99]).unwrap(), [2.0, -2.0, 3.0]);
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let probabilities = [0.5, 0.0, 0.3, 0.2];
        let logits = [0.5f32.ln(), -1e9, 0.3f32.ln(), 0.2f32.ln()];
        let draw = |seed| {
            let mut sampler = Sampler::new(SamplingOptions { seed, ..options(1.0) }).unwrap();
            (0..20_000).map(|_| sampler.sample(&logits, &[]).unwrap() as usize).collect::<Vec<_>>()
        };
        let tokens = draw(7);
        assert_eq!(tokens, draw(7));
        assert_ne!(tokens, draw(8));
        for (token, probability) in probabilities.iter().enumerate() {
            let share = tokens.iter().filter(|&&drawn| drawn == token).count() as f64 / 20_000.0;
            assert!((share - probability).abs() < 0.015, "token {token}: {share}"); // four standard deviations
        }
    }

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        let default = SamplingOptions::default;
        for (option, sampling) in [
            ("temperature", options(f32::NAN)),
            ("temperature", options(-1.0)),
            ("temperature", options(1e9)),
            ("temperature", options(f32::INFINITY)),
            ("top_k", SamplingOptions { top_k: Some(0), ..default() }),
            ("top_p", SamplingOptions { top_p: Some(0.0), ..default() }),
            ("top_p", SamplingOptions { top_p: Some(1.1), ..default() }),
            ("top_p", SamplingOptions { top_p: Some(f32::NAN), ..default() }),
            ("repetition_penalty", SamplingOptions { repetition_penalty: 0.0, ..default() }),
            ("repetition_penalty", SamplingOptions { repetition_penalty: f32::NAN, ..default() }),
        ] {
            let error = Sampler::new(sampling).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Sampling);
            assert!(error.to_string().starts_with(&format!("`{option}` is")), "{error}");
        }
    }

    #[test]
    fn logits_that_are_no_numbers_are_an_error() {
        let mut sampler = Sampler::new(options(1.0)).unwrap();
        for logits in [&[0.0, f32::NAN][..], &[f32::INFINITY], &[]] {
            assert_eq!(sampler.sample(logits, &[]).unwrap_err().kind(), crate::ErrorKind::Numeric);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_options_give_a_distribution_and_a_token_of_it(
            logits in proptest::collection::vec(-50f32..50.0, 1..40),
            temperature in 0.05f32..10.0, top_k in 1usize..50, top_p in 0.01f32..=1.0, seed: u64,
        ) {
            let sampling = SamplingOptions { temperature, top_k: Some(top_k), top_p: Some(top_p), repetition_penalty: 1.0, seed };
            let mut sampler = Sampler::new(sampling).unwrap();
            let probabilities = sampler.probabilities(&logits, &[]).unwrap();
            proptest::prop_assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-4);
            proptest::prop_assert!(probabilities.iter().filter(|&&p| p > 0.0).count() <= top_k);
            let token = sampler.sample(&logits, &[]).unwrap();
            proptest::prop_assert!(probabilities[token as usize] > 0.0);
        }
    }
}
