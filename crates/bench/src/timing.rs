//! Percentiles.

use std::time::Duration;

use serde::Serialize;

/// Of many durations, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Percentiles {
    /// By nearest rank; zero of none.
    pub(crate) fn of(durations: &[Duration]) -> Self {
        let mut sorted = durations.to_vec();
        sorted.sort();
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            let duration = sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default();
            rounded(duration.as_secs_f64() * 1_000.0, 100.0)
        };
        Self { p50: at(50), p99: at(99) }
    }
}

/// To the nearest `1 / steps`: figures of a noisy machine have no more digits than that.
pub(crate) fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let durations: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(Percentiles::of(&durations), Percentiles { p50: 100.0, p99: 198.0 });
        assert_eq!(Percentiles::of(&durations[..1]), Percentiles { p50: 200.0, p99: 200.0 });
        assert_eq!(Percentiles::of(&[]), Percentiles { p50: 0.0, p99: 0.0 });
    }
}
