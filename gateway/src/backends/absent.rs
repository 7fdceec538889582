//! Stand-ins for the parts that this build lacks, by the names of their files. Each refuses, and reports the feature to
//! build with.

#![allow(dead_code, reason = "a build with every feature uses none of them")]

use std::sync::Arc;

use async_trait::async_trait;
use channel::Channel;
use dataplane::{SourceParts, server::Listeners};
use prometheus_client::registry::Registry;
use spec::{Cause, model};
use url::Url;

use super::{ChannelOpener, Containers, KafkaOpener, NatsOpener, SourceBuilder};
use crate::features::Feature;

/// Opens no channel and builds no source, because the part is absent.
struct Absent(Feature);

#[async_trait]
impl<C: Sync, A: Sync> ChannelOpener<C, A> for Absent {
    async fn open(&self, _: &model::Channel, _: &model::Provisioner, _: &C, _: &A) -> Result<Arc<dyn Channel>, Cause> {
        Err(self.0.cause())
    }
}

impl<C> SourceBuilder<C> for Absent {
    fn build(&self, _: &model::Source, _: &C, _: adapter::Source) -> Result<SourceParts, Cause> {
        Err(self.0.cause())
    }
}

pub(super) mod kafka {
    use super::*;

    pub(crate) fn channels() -> KafkaOpener {
        Box::new(Absent(Feature::Kafka))
    }
}

pub(super) mod nats {
    use super::*;

    pub(crate) fn channels() -> NatsOpener {
        Box::new(Absent(Feature::Nats))
    }
}

pub(super) mod gcp_pubsub {
    use super::*;

    pub(crate) fn sources() -> Box<dyn SourceBuilder<model::GcpPubSubSource>> {
        Box::new(Absent(Feature::GcpPubSub))
    }
}

pub(crate) mod containers {
    use super::*;

    pub(crate) fn sources(_: Listeners, _: Option<Url>, _: usize, _: &mut Registry) -> Containers {
        Box::new(Absent(Feature::Containers))
    }
}

pub(super) mod kubernetes_events {
    use super::*;
    use crate::backends::Requests;

    pub(crate) fn sources(_: Option<String>, _: Requests) -> Box<dyn SourceBuilder<model::KubernetesEventSource>> {
        Box::new(Absent(Feature::KubernetesEvents))
    }
}

/// Counts no requests to an API server, because this build sends none.
#[derive(Clone, Default)]
pub(crate) struct NoRequests {}

impl NoRequests {
    pub(crate) fn register(&self, _: &mut Registry) {}
}

/// The controller's stand-in. Its types have no values: whatever needs one never runs.
pub(crate) mod cluster {
    use std::{net::SocketAddr, sync::Arc};

    use adapter::Adapter;
    use dataplane::{Identity, Plane, SourceParts};
    use spec::{Cause, ObjectName, Spec, model};
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use crate::{
        Failure, args,
        backends::Requests,
        features::Feature,
        run::parts::{Parts, Stop},
    };

    #[derive(Clone)]
    pub(crate) enum Controller {}

    impl Controller {
        pub(crate) async fn open(_: &args::Run, _: &Requests) -> Result<Self, Failure> {
            Err(Failure::Usage(format!(
                "--kubernetes: {}",
                Feature::Kubernetes.absent()
            )))
        }

        pub(crate) fn troubles(&self) -> Vec<String> {
            match *self {}
        }

        pub(crate) fn is_served(&self) -> bool {
            match *self {}
        }

        pub(crate) async fn watch(&self, _: watch::Sender<Arc<Spec>>, _: CancellationToken) {
            match *self {}
        }

        pub(crate) fn join(&self, _: &args::Run, _: SocketAddr, _: &str) -> (Membership, InCluster) {
            match *self {}
        }
    }

    pub(crate) enum Membership {}

    impl Membership {
        pub(crate) fn start(
            self,
            _: &mut Parts,
            _: &Stop,
            _: watch::Receiver<Arc<Spec>>,
            _: &Plane,
        ) -> watch::Receiver<Arc<Spec>> {
            match self {}
        }
    }

    pub(crate) enum InCluster {}

    impl InCluster {
        pub(crate) fn identity(&self, _: &model::Source) -> Option<Identity> {
            match *self {}
        }

        pub(crate) async fn is_gone(&self, _: &ObjectName, _: Option<&str>) -> bool {
            match *self {}
        }

        pub(crate) fn in_pods(&self, _: &model::Source, _: &adapter::Source) -> Result<Option<SourceParts>, Cause> {
            match *self {}
        }

        pub(crate) fn in_this_process(
            &self,
            _: &model::Source,
            _: Arc<dyn Adapter>,
            _: adapter::Report,
        ) -> Arc<dyn Adapter> {
            match *self {}
        }
    }

    pub(crate) async fn identity_in_cluster(
        state: &ObjectName,
        _: &str,
        _: Option<&str>,
        _: &Requests,
    ) -> Result<Identity, Failure> {
        Err(Failure::Usage(format!(
            "--state {state}: {}",
            Feature::Kubernetes.absent()
        )))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[tokio::test]
    async fn a_channel_of_an_absent_backend_is_refused_with_its_feature() {
        let provisioner = model::Provisioner {
            name: "lab".into(),
            config: model::Config::Memory,
            credentials: Ok(Default::default()),
            require_durability: None,
        };
        let desired = model::Channel {
            name: spec::ObjectName::new("shop", "orders"),
            provisioner: Ok(Arc::new(provisioner.clone())),
            arguments: model::Arguments::Unread,
            implicit: false,
            publishing: model::Publishing::default(),
        };
        let refused = Absent(Feature::Kafka).open(&desired, &provisioner, &(), &()).await;
        let cause = refused.err().unwrap();
        assert_eq!(cause.reason, "NotBuilt");
        assert_eq!(cause.message, "this build has no Kafka; build it with --features kafka");
    }
}
