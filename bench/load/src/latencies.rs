//! How long responses took. Every latency is kept, so that the tail is exact.

use std::time::Duration;

/// The latencies of the measured requests: eight bytes each.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    nanoseconds: Vec<u64>,
}

/// Their percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Percentiles {
    /// Half of the responses took no longer.
    pub p50: f64,
    /// 90 % took no longer.
    pub p90: f64,
    /// 99 % took no longer.
    pub p99: f64,
    /// 99.9 % took no longer.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
    /// The average.
    pub mean: f64,
}

impl Latencies {
    /// Records one.
    pub fn add(&mut self, latency: Duration) {
        self.nanoseconds.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.nanoseconds.clear();
    }

    /// Computes the percentiles by nearest rank; all are zero if nothing was recorded.
    pub fn percentiles(mut self) -> Percentiles {
        self.nanoseconds.sort_unstable();
        let sorted = &self.nanoseconds;
        let Some(&max) = sorted.last() else { return Percentiles::default() };
        let at = |per_thousand: usize| {
            let rank = (sorted.len() * per_thousand).div_ceil(1000).max(1);
            microseconds(sorted[rank - 1])
        };
        let sum: u128 = sorted.iter().map(|&each| u128::from(each)).sum();
        Percentiles {
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p999: at(999),
            max: microseconds(max),
            mean: sum as f64 / sorted.len() as f64 / 1000.0,
        }
    }
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(microseconds: impl IntoIterator<Item = u64>) -> Percentiles {
        let mut latencies = Latencies::default();
        microseconds.into_iter().for_each(|each| latencies.add(Duration::from_micros(each)));
        latencies.percentiles()
    }

    #[test]
    fn nearest_rank() {
        let percentiles = of((1..=1000).rev());
        let expected = Percentiles {
            p50: 500.0,
            p90: 900.0,
            p99: 990.0,
            p999: 999.0,
            max: 1000.0,
            mean: 500.5,
        };
        assert_eq!(percentiles, expected);
    }

    #[test]
    fn few_and_none() {
        assert_eq!(of([]), Percentiles::default());
        let one = of([7]);
        assert_eq!((one.p50, one.p99, one.p999, one.max), (7.0, 7.0, 7.0, 7.0));
        let two = of([3, 9]);
        assert_eq!((two.p50, two.p90, two.max), (3.0, 9.0, 9.0));
    }
}
