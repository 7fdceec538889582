//! The status of a provisioner. Pure.

use channel::Durability;
use spec::{
    Cause, Conditions, Reason, Status,
    model::BackendKind,
    status::{Fields, ProvisionerStatus},
};

/// The observed state of a provisioner.
pub(super) struct Observation<'a> {
    pub(super) backend: BackendKind,
    /// `requireDurability`, when stated.
    pub(super) required: Option<&'a str>,
    /// The weakest promise of its open channels, for a broker promises by topic; `None` while none is open.
    pub(super) weakest: Option<Durability>,
    /// Why one of its channels cannot be opened.
    pub(super) failure: Option<Cause>,
    /// The findings of its channels that weaken their promise.
    pub(super) findings: Vec<String>,
}

pub(super) fn status(observation: Observation<'_>) -> Status {
    let supported = match (observation.backend, observation.weakest) {
        (BackendKind::Memory, _) => Ok(Durability::Process),
        (BackendKind::Embedded, _) => Ok(Durability::Disk),
        (BackendKind::Kafka | BackendKind::Nats, Some(durability)) => Ok(durability),
        (BackendKind::Kafka | BackendKind::Nats, None) => Err(observation.failure.unwrap_or_else(|| {
            Cause::new(
                Reason::Deploying,
                "no channel uses it yet: what its servers promise is found out with the first one",
            )
        })),
    };
    let durability = supported.as_ref().ok().map(|durability| durability.as_str());
    let met = supported.and_then(|promised| match observation.required.and_then(durability_of) {
        Some(required) if promised < required => Err(Cause::new(
            Reason::DurabilityNotMet,
            format!(
                "requireDurability is {required}, the backend promises {promised}: lower it or choose another backend"
            ),
        )),
        _ => Ok(()),
    });
    let mut conditions = Conditions::default();
    super::add_degraded(&mut conditions, observation.backend, observation.findings);
    conditions.require("Provisioned", met);
    Status {
        conditions,
        fields: Fields::Provisioner(ProvisionerStatus { durability }),
    }
}

/// The durability that `requireDurability` means; `None` for another word.
pub(in crate::plane) fn durability_of(word: &str) -> Option<Durability> {
    [
        Durability::Process,
        Durability::Disk,
        Durability::Quorum,
        Durability::QuorumFsync,
    ]
    .into_iter()
    .find(|durability| durability.as_str() == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provisioner_is_ready_when_its_backend_promises_enough() {
        use BackendKind::{Embedded, Kafka, Memory};
        use Durability::{Quorum, QuorumFsync};
        let down = || Some(Cause::new(Reason::BackendUnreachable, "no answer"));
        let cases = [
            (Memory, None, None, None, ("", Some("process"))),
            (Memory, Some("disk"), None, None, ("DurabilityNotMet", Some("process"))),
            (Embedded, Some("disk"), None, None, ("", Some("disk"))),
            (Kafka, None, None, None, ("Deploying", None)),
            (Kafka, None, None, down(), ("BackendUnreachable", None)),
            (Kafka, None, Some(Quorum), down(), ("", Some("quorum"))),
            (
                Kafka,
                Some("quorum-fsync"),
                Some(Quorum),
                None,
                ("DurabilityNotMet", Some("quorum")),
            ),
            (
                Kafka,
                Some("quorum"),
                Some(QuorumFsync),
                None,
                ("", Some("quorum-fsync")),
            ),
        ];
        for (backend, required, weakest, failure, (reason, durability)) in cases {
            let status = status(Observation {
                backend,
                required,
                weakest,
                failure,
                findings: Vec::new(),
            });
            let ready = status.conditions.get("Ready").map(spec::Condition::reason);
            assert_eq!(ready, Some(reason), "{backend:?} {required:?} {weakest:?}");
            let fields = Fields::Provisioner(ProvisionerStatus { durability });
            assert_eq!(status.fields, fields, "{backend:?} {required:?} {weakest:?}");
        }
    }
}
