//! A straight line through samples.

/// The slope of the least squares' line through `(x, y)`; 0 of samples that are all at one x.
pub(super) fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let mean_x = samples.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = samples.iter().map(|(_, y)| y).sum::<f64>() / count;
    let (mut above, mut below) = (0.0, 0.0);
    for (x, y) in samples {
        above += (x - mean_x) * (y - mean_y);
        below += (x - mean_x) * (x - mean_x);
    }
    if below > 0.0 { above / below } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_the_line_and_of_the_middle_between_two() {
        let near = |slope: f64, wanted: f64| (slope - wanted).abs() < 1e-9;
        assert!(near(slope(&[(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)]), 2.0));
        let parallel = [(0.0, 1.0), (0.0, 3.0), (2.0, 0.0), (2.0, 2.0)];
        assert!(near(slope(&parallel), -0.5));
        assert!(near(slope(&[(1.0, 5.0)]), 0.0));
    }
}
