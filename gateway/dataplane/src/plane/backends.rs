//! The contract between the data plane and the composition: how channels are opened and sources built.

use std::sync::Arc;

use adapter::{Adapter, Hook};
use async_trait::async_trait;
use channel::Channel;
use spec::{Cause, ObjectName, Spec, model};

use super::Identity;

/// Opens channels and builds sources. Its implementation is the only place where backends and adapters are named.
///
/// Called from the task that applies specs, except for [`Backends::degraded`], [`Backends::unready`] and
/// [`Backends::unused_log`], which any task may call and which must not block.
#[async_trait]
pub trait Backends: Send + Sync + 'static {
    /// Opens the channel, or applies changed settings to it when it is open already (the same instance is returned).
    ///
    /// # Errors
    /// The cause is shown in the channel's conditions, and the call is retried with backoff.
    ///
    /// # Cancel safety
    /// Must be cancel safe: the call is dropped when the gateway ends.
    async fn open(&self, channel: &model::Channel) -> Result<Arc<dyn Channel>, Cause>;

    /// Builds the parts of a source without starting them. Must not block.
    ///
    /// # Errors
    /// The cause is shown in the source's conditions, and the call is retried with the next spec.
    fn source(&self, source: &model::Source, given: adapter::Source) -> Result<SourceParts, Cause>;

    /// Returns the identity of a source whose state is not kept in the data folder.
    fn identity(&self, _source: &model::Source) -> Option<Identity> {
        None
    }

    /// Whether a subscription with this uid is certainly deleted, by the newest documents. Called before the cursor of a subscription
    /// is deleted that the spec does not name: where several processes share a channel, another may have created the cursor for a
    /// subscription that this one has not seen yet. Returns false when in doubt.
    async fn is_gone(&self, _subscription: &ObjectName, _uid: Option<&str>) -> bool {
        true
    }

    /// Describes files on disk that the channel does not use now, and what to do about them. Cheap.
    fn unused_log(&self, _channel: &ObjectName) -> Option<String> {
        None
    }

    /// Describes faults outside the channels of the spec, for `/readyz`. They do not make the process unready. Cheap.
    fn degraded(&self) -> Vec<String> {
        Vec::new()
    }

    /// Why this process must not be sent events now although its documents are applied. Cheap.
    fn unready(&self) -> Option<String> {
        None
    }

    /// Called before a spec is applied, so that resources left upstream can be removed: those tagged with the gateway's id that no
    /// source of this spec created belong to sources that were deleted while the gateway, or upstream, was down. Must remove nothing
    /// while documents cannot be read ([`Spec::incomplete`], and objects that are invalid). Must not block.
    fn before_apply(&self, _gateway: &str, _spec: &Spec) {}
}

/// The parts of a source.
#[derive(Default)]
pub struct SourceParts {
    /// Receives the calls of a source that is called.
    pub hook: Option<Arc<dyn Hook>>,
    /// The path under which the receiver is called.
    pub route_kind: RouteKind,
    /// Runs for a source that pulls, or that manages resources upstream.
    pub adapter: Option<Arc<dyn Adapter>>,
}

/// The kind of path under which a source is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteKind {
    /// `/hooks/NAMESPACE/NAME`: with whatever its upstream sends.
    #[default]
    Hooks,
    /// `/sources/NAMESPACE/NAME`: with CloudEvents.
    Sources,
}

impl RouteKind {
    /// Returns the kind of path of a source; `None` for a source that is not called.
    pub(crate) fn of(config: &model::SourceConfig) -> Option<Self> {
        match config {
            model::SourceConfig::GitHub(_) => Some(Self::Hooks),
            model::SourceConfig::Container(_) => Some(Self::Sources),
            model::SourceConfig::KubernetesEvents(_) | model::SourceConfig::GcpPubSub(_) => None,
        }
    }
}
