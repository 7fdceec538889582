//! What only containers have: whether they run, and how often they were started again. What became of their events is
//! counted as for every source.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use adapter::PerSource;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// One source's container.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    running: AtomicBool,
    restarts: AtomicU64,
}

impl Gauges {
    pub(crate) fn running(&self, running: bool) {
        self.running.store(running, Ordering::Relaxed);
    }

    pub(crate) fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }
}

/// Of all container sources. A handle: clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics(PerSource<String, Gauges>);

impl Metrics {
    /// Gauges that are shown with the registry's.
    pub fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    /// Those of `NAMESPACE/NAME`: in use already, because the source was edited, or new.
    pub(crate) fn gauges(&self, name: &str) -> Arc<Gauges> {
        self.0.get_or_make(name.to_owned(), |_| true, Gauges::default)
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sources = self.0.in_use();
        let labels = |name: &str| {
            let (namespace, name) = name.split_once('/').unwrap_or(("", name));
            [("namespace", namespace.to_owned()), ("name", name.to_owned())]
        };
        let kind = ConstGauge::new(0_i64).metric_type();
        let help = "Whether each source's container runs: 1 or 0";
        let mut running = encoder.encode_descriptor("headgate_container_running", help, None, kind)?;
        for (name, gauges) in &sources {
            let runs = i64::from(gauges.running.load(Ordering::Relaxed));
            ConstGauge::new(runs).encode(running.encode_family(&labels(name))?)?;
        }
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "How often each source's container was started again after it ended";
        let mut restarts = encoder.encode_descriptor("headgate_container_restarts", help, None, kind)?;
        for (name, gauges) in &sources {
            let count = gauges.restarts.load(Ordering::Relaxed);
            ConstCounter::new(count).encode(restarts.encode_family(&labels(name))?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn shown(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn a_containers_series_live_as_long_as_its_source() {
        let mut registry = Registry::default();
        let metrics = Metrics::registered(&mut registry);
        let gauges = metrics.gauges("default/beats");
        gauges.running(true);
        metrics.gauges("default/beats").restarted();
        let labels = r#"{namespace="default",name="beats"}"#;
        let text = shown(&registry);
        assert!(
            text.contains(&format!("headgate_container_running{labels} 1")),
            "{text}"
        );
        assert!(
            text.contains(&format!("headgate_container_restarts_total{labels} 1")),
            "{text}"
        );
        drop(gauges);
        assert!(!shown(&registry).contains("beats"));
    }
}
