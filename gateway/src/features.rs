//! The optional parts of the gateway, and how one that this build lacks is reported.
//!
//! Each part is a Cargo feature of the package. backends.rs takes the code of a part in or leaves it out; no other file
//! asks for a feature.

use spec::{Cause, Kind, Reason, Unsupported, model::BackendKind};

/// An optional part of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    Kafka,
    Nats,
    GcpPubSub,
    Containers,
    /// The controller: documents from the API server, status back to it.
    Kubernetes,
    KubernetesEvents,
}

impl Feature {
    const ALL: [Self; 6] = [
        Self::Kafka,
        Self::Nats,
        Self::GcpPubSub,
        Self::Containers,
        Self::Kubernetes,
        Self::KubernetesEvents,
    ];

    fn is_built(self) -> bool {
        match self {
            Self::Kafka => cfg!(feature = "kafka"),
            Self::Nats => cfg!(feature = "nats"),
            Self::GcpPubSub => cfg!(feature = "gcp-pubsub"),
            Self::Containers => cfg!(feature = "containers"),
            Self::Kubernetes => cfg!(feature = "kubernetes"),
            Self::KubernetesEvents => cfg!(feature = "kubernetes-events"),
        }
    }

    /// Returns the name that cargo knows it by.
    fn flag(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Nats => "nats",
            Self::GcpPubSub => "gcp-pubsub",
            Self::Containers => "containers",
            Self::Kubernetes => "kubernetes",
            Self::KubernetesEvents => "kubernetes-events",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka",
            Self::Nats => "NATS",
            Self::GcpPubSub => "Google Pub/Sub",
            Self::Containers => "container engine",
            Self::Kubernetes => "Kubernetes controller",
            Self::KubernetesEvents => "Kubernetes events",
        }
    }

    /// Returns the sentence that reports a part as absent.
    pub(crate) fn absent(self) -> String {
        format!(
            "this build has no {}; build it with --features {}",
            self.name(),
            self.flag()
        )
    }

    /// Returns why a channel or a source that needs an absent part does not run.
    pub(crate) fn cause(self) -> Cause {
        Cause::new(Reason::NotBuilt, self.absent())
    }

    /// Returns the part that sources of this kind need, if any.
    fn of_source(kind: Kind) -> Option<Self> {
        match kind {
            Kind::GcpPubSubSource => Some(Self::GcpPubSub),
            Kind::ContainerSource => Some(Self::Containers),
            Kind::KubernetesEventSource => Some(Self::KubernetesEvents),
            _ => None,
        }
    }

    /// Returns the part that channels of this backend need, if any.
    fn of_backend(backend: BackendKind) -> Option<Self> {
        match backend {
            BackendKind::Kafka => Some(Self::Kafka),
            BackendKind::Nats => Some(Self::Nats),
            BackendKind::Memory | BackendKind::Embedded => None,
        }
    }
}

/// Returns why this build cannot run sources of this kind; `None` when it can.
pub(crate) fn lacks_source(kind: Kind) -> Option<String> {
    let needed = Feature::of_source(kind)?;
    (!needed.is_built()).then(|| needed.absent())
}

/// Returns the kinds of documents that this build cannot run.
pub(crate) fn unsupported() -> Unsupported {
    let kinds = Kind::ALL.into_iter();
    let backends = BackendKind::ALL.into_iter();
    let absent = |feature: Option<Feature>| feature.filter(|feature| !feature.is_built()).map(Feature::absent);
    Unsupported {
        kinds: kinds
            .filter_map(|kind| Some((kind, absent(Feature::of_source(kind))?)))
            .collect(),
        backends: backends
            .filter_map(|backend| Some((backend, absent(Feature::of_backend(backend))?)))
            .collect(),
    }
}

/// Returns the text of `--version`.
pub(crate) fn version() -> String {
    version_without(Feature::ALL.into_iter().filter(|feature| !feature.is_built()))
}

fn version_without(absent: impl Iterator<Item = Feature>) -> String {
    let number = env!("CARGO_PKG_VERSION").to_owned();
    absent.fold(number, |text, feature| format!("{text}\n{}", feature.absent()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_names_each_absent_part_and_how_to_build_it() {
        let number = env!("CARGO_PKG_VERSION");
        assert_eq!(version_without([].into_iter()), number);
        assert_eq!(
            version_without([Feature::Kafka, Feature::Containers].into_iter()),
            format!(
                "{number}\nthis build has no Kafka; build it with --features kafka\n\
                 this build has no container engine; build it with --features containers"
            )
        );
    }

    #[test]
    fn documents_that_need_an_absent_part_are_unsupported() {
        let found = unsupported();
        for kind in Kind::ALL {
            assert_eq!(found.kinds.get(&kind).cloned(), lacks_source(kind), "{kind}");
        }
        assert_eq!(
            found.backends.contains_key(&BackendKind::Kafka),
            !cfg!(feature = "kafka")
        );
        assert_eq!(found.backends.contains_key(&BackendKind::Nats), !cfg!(feature = "nats"));
        let always = [BackendKind::Memory, BackendKind::Embedded];
        assert!(always.iter().all(|backend| !found.backends.contains_key(backend)));
    }

    #[test]
    fn every_feature_of_the_package_is_an_optional_part() {
        let manifest = include_str!("../Cargo.toml");
        let (_, features) = manifest.split_once("[features]").expect("the package has features");
        let features = features.split("\n[").next().unwrap_or_default();
        let named = features
            .lines()
            .filter_map(|line| Some(line.split_once(" = ")?.0.trim()));
        let named: Vec<&str> = named.filter(|name| *name != "default").collect();
        assert_eq!(named, Feature::ALL.map(Feature::flag));
        let default = features.lines().find_map(|line| line.strip_prefix("default = "));
        assert_eq!(default, Some(&*format!("{:?}", Feature::ALL.map(Feature::flag))));
    }
}
