//! One value for each source, as long as the source is in use, and its metrics.
//!
//! A source that was edited finds its former value, so its counters continue. Deleting a source removes its series.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// The labels of a source's series, in their order; also the key of its value.
pub type Labels = Vec<(&'static str, String)>;

/// The labels of the source `NAMESPACE/NAME`.
pub fn labels(source: &str) -> Labels {
    let (namespace, name) = source.split_once('/').unwrap_or(("", source));
    vec![("namespace", namespace.to_owned()), ("name", name.to_owned())]
}

/// Values by the labels of their sources. A handle: clones share the values.
pub struct PerSource<T>(Arc<Mutex<BTreeMap<Labels, Weak<T>>>>);

impl<T> PerSource<T> {
    /// Returns the value in use under `key` if `is_right` accepts it, else a new one.
    pub fn get_or_make(&self, key: Labels, is_right: impl FnOnce(&T) -> bool, make: impl FnOnce() -> T) -> Arc<T> {
        let mut values = self.0.lock();
        let found = values.get(&key).and_then(Weak::upgrade);
        if let Some(value) = found.filter(|value| is_right(value)) {
            return value;
        }
        values.retain(|_, value| value.strong_count() > 0);
        let value = Arc::new(make());
        values.insert(key, Arc::downgrade(&value));
        value
    }

    fn in_use(&self) -> Vec<(Labels, Arc<T>)> {
        let values = self.0.lock();
        let used = values.iter();
        used.filter_map(|(key, value)| Some((key.clone(), value.upgrade()?)))
            .collect()
    }
}

/// One metric of every source of a kind. A metric without a sample is absent from the scrape.
pub struct Family<T> {
    /// Without the suffix that counters get.
    pub name: &'static str,
    /// Its description in the scrape.
    pub help: &'static str,
    /// Reads the samples of one source.
    pub samples: fn(&T) -> Samples,
}

/// Samples of one source, each with its value of the label `result` if the metric has that label.
pub type Samples = Vec<(Option<&'static str>, Sample)>;

/// One number of a source.
#[derive(Clone, Copy, Debug)]
pub enum Sample {
    /// A counter.
    Count(u64),
    /// A gauge of whole things.
    Gauge(i64),
    /// A gauge of seconds.
    Seconds(f64),
}

/// A value that is shown in the scrape.
pub trait Measured: Send + Sync + Sized + 'static {
    /// Its metrics.
    const FAMILIES: &'static [Family<Self>];
}

impl<T: Measured> PerSource<T> {
    /// Makes an empty handle whose values are shown in scrapes of `registry`.
    pub fn registered(registry: &mut Registry) -> Self {
        let values = Self::default();
        registry.register_collector(Box::new(values.clone()));
        values
    }
}

impl<T: Measured> Collector for PerSource<T> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sources = self.in_use();
        for family in T::FAMILIES {
            let mut samples = Vec::new();
            for (labels, source) in &sources {
                samples.extend((family.samples)(source).into_iter().map(|(result, sample)| {
                    let mut labels = labels.clone();
                    labels.extend(result.map(|result| ("result", result.to_owned())));
                    (labels, sample)
                }));
            }
            let kind = match samples.first() {
                Some((_, Sample::Count(_))) => MetricType::Counter,
                Some((_, Sample::Gauge(_) | Sample::Seconds(_))) => MetricType::Gauge,
                None => continue,
            };
            let mut series = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, sample) in samples {
                let one = series.encode_family(&labels)?;
                match sample {
                    Sample::Count(count) => ConstCounter::new(count).encode(one)?,
                    Sample::Gauge(value) => ConstGauge::new(value).encode(one)?,
                    Sample::Seconds(value) => ConstGauge::new(value).encode(one)?,
                }
            }
        }
        Ok(())
    }
}

impl<T> Clone for PerSource<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for PerSource<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> fmt::Debug for PerSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerSource").finish_non_exhaustive()
    }
}
