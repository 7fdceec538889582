//! Latencies in buckets about 3 % wide: constant memory, exact enough for a table.

/// Buckets per power of two.
const STEPS: u64 = 32;
/// For every power of a u64.
const BUCKETS: usize = 64 * 32;

#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            count: 0,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)] += 1;
        self.count += 1;
    }

    /// The value that `share` of all values do not exceed, milliseconds; `None` without values.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let mut before = 0;
        let expected = (self.count as f64 * share).ceil();
        for (at, count) in self.buckets.iter().enumerate() {
            before += count;
            if *count > 0 && before as f64 >= expected {
                return Some(floor(at) as f64 / 1e6);
            }
        }
        None
    }
}

/// Values below [`STEPS`] have a bucket each; above, the leading bits choose.
fn bucket(value: u64) -> usize {
    let power = u64::from(value.max(1).ilog2());
    let low = STEPS.ilog2();
    let at = if value < STEPS {
        value
    } else {
        (power - u64::from(low) + 1) * STEPS + ((value >> (power - u64::from(low))) - STEPS)
    };
    usize::try_from(at).expect("below BUCKETS")
}

fn floor(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        bucket
    } else {
        (STEPS + bucket % STEPS) << (bucket / STEPS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_lies_between_its_floor_and_the_next() {
        for value in [0, 1, 31, 32, 33, 63, 64, 1000, 123_456, 987_654_321] {
            let at = bucket(value);
            assert!(floor(at) <= value && value < floor(at + 1), "{value} in {at}");
        }
    }

    #[test]
    fn quantiles_of_a_thousand_values_are_near_the_truth() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|n| histogram.record(n * 1_000_000));
        let median = histogram.quantile(0.5).expect("values");
        let last = histogram.quantile(0.999).expect("values");
        assert!(
            (480.0..=500.0).contains(&median) && (960.0..=1000.0).contains(&last),
            "{median} {last}"
        );
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
