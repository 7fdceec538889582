//! The seven kinds, and of Kubernetes' own Service and Secret what we read (API.md 2.2-2.5): the declarations in `resource.rs`
//! and the rules over a whole document.

use std::sync::LazyLock;

use super::{
    FieldType, Shape,
    rules::{Rule, Test, given, not, rule},
};
use crate::{
    Kind,
    model::BackendKind,
    provisioners,
    resource::{
        Channel, ContainerSource, GcpPubSubSource, GitHubSource, KubernetesEventSource, Service, Subscription,
        WrittenProvisioner,
    },
};

/// The schema of one kind.
pub(crate) struct Described {
    pub(crate) spec: Shape,
    /// Rules over the whole document: its name and its spec.
    pub(crate) rules: Vec<Rule>,
    /// A document without `spec` means nothing.
    pub(crate) spec_required: bool,
}

pub(crate) fn described(kind: Kind) -> &'static Described {
    static ALL: LazyLock<[Described; 9]> = LazyLock::new(|| Kind::ALL.map(describe));
    &ALL[kind as usize]
}

fn describe(kind: Kind) -> Described {
    let (spec, rules) = match kind {
        Kind::Channel => (
            Channel::shape(),
            vec![reserved(Test::EndsWith("metadata.name", OUTBOX_SUFFIX))],
        ),
        Kind::Subscription => {
            let ours = Test::Any(vec![
                Test::EndsWith("metadata.name", OUTBOX_SUFFIX),
                Test::Contains("metadata.name", SUBSCRIBER_PART),
            ]);
            (Subscription::shape(), vec![reserved(ours)])
        }
        Kind::ClusterChannelProvisioner => (WrittenProvisioner::shape(), backend_rules()),
        Kind::GitHubSource => (GitHubSource::shape(), Vec::new()),
        Kind::KubernetesEventSource => (KubernetesEventSource::shape(), Vec::new()),
        Kind::GcpPubSubSource => (GcpPubSubSource::shape(), Vec::new()),
        Kind::ContainerSource => (ContainerSource::shape(), Vec::new()),
        Kind::Service => (Service::shape(), Vec::new()),
        // `document/secret.rs` checks it.
        Kind::Secret => (Shape::Any, Vec::new()),
    };
    Described {
        spec,
        rules,
        spec_required: kind == Kind::Subscription || kind.is_source(),
    }
}

/// Names that we make ourselves: outboxes, and subscriptions of hand-listed subscribers.
pub(crate) const OUTBOX_SUFFIX: &str = ".outbox";
pub(crate) const SUBSCRIBER_PART: &str = ".subscriber-";

fn reserved(is: Test) -> Rule {
    rule(
        not(is),
        "metadata.name",
        "names like this are made by the gateway itself: choose another one",
    )
}

/// A provisioner says its backend, or has a name that does; not both, differently.
fn backend_rules() -> Vec<Rule> {
    let named = |backend| Test::Is("metadata.name", provisioners::names(backend));
    let rules = BackendKind::ALL.map(|backend| {
        given(
            Test::All(vec![named(backend), Test::Has("spec.backend")]),
            Test::Is("spec.backend", backend.words()),
        )
    });
    let named = BackendKind::ALL.map(named).into_iter();
    vec![
        rule(
            Test::Any(named.chain([Test::Has("spec.backend")]).collect()),
            "spec",
            "`backend` is required: memory, embedded, kafka or nats",
        ),
        rule(
            Test::All(rules.into()),
            "spec.backend",
            "this name is the built-in name of another backend: choose another name",
        ),
    ]
}
