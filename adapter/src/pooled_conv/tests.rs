use ndarray::Array2;
use proptest::prelude::*;

use super::*;

/// The direct form in f64: convolve every patch with zero padding, then average each window.
fn convolve_then_pool(x: &Array2<f32>, weights: &Array2<f32>, rows: PoolAxis, columns: PoolAxis) -> Vec<Vec<f64>> {
    let (features, out_features) = (x.ncols(), weights.nrows());
    let convolved = |y: usize, column: usize, out: usize| -> f64 {
        let mut sum = 0.0;
        for (dy, dx) in (0..3).flat_map(|dy| (0..3).map(move |dx| (dy, dx))) {
            let (source_y, source_x) = ((y + dy).wrapping_sub(1), (column + dx).wrapping_sub(1));
            if source_y < rows.input && source_x < columns.input {
                for feature in 0..features {
                    let weight = weights[[out, (dy * 3 + dx) * features + feature]];
                    sum += f64::from(weight) * f64::from(x[[source_y * columns.input + source_x, feature]]);
                }
            }
        }
        sum
    };
    let mut tokens = Vec::new();
    for (row, column) in (0..rows.output).flat_map(|row| (0..columns.output).map(move |column| (row, column))) {
        let token = (0..out_features).map(|out| {
            let mut sum = 0.0;
            for (ky, kx) in (0..rows.kernel).flat_map(|ky| (0..columns.kernel).map(move |kx| (ky, kx))) {
                sum += convolved(row * rows.stride + ky, column * columns.stride + kx, out);
            }
            sum / (rows.kernel * columns.kernel) as f64
        });
        tokens.push(token.collect());
    }
    tokens
}

/// Numbers in -1..1 that look random.
fn noise(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    Array2::from_shape_simple_fn((rows, columns), || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

fn assert_forms_agree(grid: (usize, usize), pooled: (usize, usize), features: usize, seed: u64) {
    let (rows, columns) = (PoolAxis::new(grid.0, pooled.0).unwrap(), PoolAxis::new(grid.1, pooled.1).unwrap());
    let x = noise(grid.0 * grid.1, features, seed);
    let weights = noise(3, 9 * features, seed + 1);
    let direct = convolve_then_pool(&x, &weights, rows, columns);
    let pooled_first = pool_shifted(x.view(), rows, columns).dot(&weights.t());
    assert_eq!(pooled_first.nrows(), direct.len());
    for (token, expected) in direct.iter().enumerate() {
        for (out, &expected) in expected.iter().enumerate() {
            let found = f64::from(pooled_first[[token, out]]);
            // Sums of at most 9 * features products of magnitude 1 in f32.
            let tolerance = 1e-6 * 9.0 * features as f64;
            assert!((found - expected).abs() < tolerance, "token {token}, output {out}: {found}, expected {expected}");
        }
    }
}

#[test]
fn stride_and_kernel_are_those_of_the_definition() {
    let axis = |input, output| PoolAxis::new(input, output).map(|axis| (axis.stride, axis.kernel));
    assert_eq!(axis(48, 12), Some((4, 4)));
    assert_eq!(axis(16, 3), Some((5, 6)));
    // Overlapping windows: 8 patches to 3 tokens.
    assert_eq!(axis(8, 3), Some((2, 4)));
    assert_eq!(axis(12, 12), Some((1, 1)));
    assert_eq!(axis(3, 4), None);
    assert_eq!(axis(3, 0), None);
}

#[test]
fn the_windows_of_the_report_agree_with_convolution_then_pooling() {
    assert_forms_agree((16, 16), (3, 3), 4, 1); // rapid
    assert_forms_agree((24, 24), (12, 12), 3, 2); // balanced, patches of 28
}

#[test]
fn what_lies_outside_the_grid_counts_as_zero() {
    // One patch of value 1, one token: only the middle tap sees it.
    let axis = PoolAxis::new(1, 1).unwrap();
    let pooled = pool_shifted(Array2::ones((1, 1)).view(), axis, axis);
    assert_eq!(pooled.into_raw_vec_and_offset().0, [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn pooling_first_agrees_with_convolution_then_pooling(
        (grid_height, rows) in (1..14usize).prop_flat_map(|n| (Just(n), 1..=n)),
        (grid_width, columns) in (1..14usize).prop_flat_map(|n| (Just(n), 1..=n)),
        features in 1..4usize,
        seed in 0..1000u64,
    ) {
        assert_forms_agree((grid_height, grid_width), (rows, columns), features, seed);
    }
}
