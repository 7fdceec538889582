//! The metrics of containers: whether they run, and how often they were restarted. Their events are counted as for every
//! source.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use adapter::{Family, Measured, PerSource, Sample, labels};
use prometheus_client::registry::Registry;

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

impl Measured for Gauges {
    const FAMILIES: &'static [Family<Self>] = &[
        Family {
            name: "headgate_container_running",
            help: "Whether each source's container runs: 1 or 0",
            samples: |gauges| vec![(None, Sample::Gauge(gauges.running.load(Ordering::Relaxed).into()))],
        },
        Family {
            name: "headgate_container_restarts",
            help: "How often each source's container was started again after it ended",
            samples: |gauges| vec![(None, Sample::Count(gauges.restarts.load(Ordering::Relaxed)))],
        },
    ];
}

/// The metrics of all container sources. A handle: clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics(PerSource<Gauges>);

impl Metrics {
    /// Makes metrics that are shown in scrapes of `registry`.
    pub fn registered(registry: &mut Registry) -> Self {
        Self(PerSource::registered(registry))
    }

    /// Returns the metrics of the source `NAMESPACE/NAME`: those in use, or new ones.
    pub(crate) fn gauges(&self, name: &str) -> Arc<Gauges> {
        self.0.get_or_make(labels(name), |_| true, Gauges::default)
    }
}

#[cfg(test)]
mod tests {
    use adapter::suite::shown;

    use super::*;

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
