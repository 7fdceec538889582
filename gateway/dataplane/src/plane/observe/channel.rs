//! The status of a channel. Pure.

use channel::{Depth, DiskTrouble};
use spec::{
    Cause, Conditions, Kind, Reason, Status,
    model::Provisioner,
    status::{Address, ChannelStatus, Fields, OpenChannelStatus, ProvisionerReference, Subscriber},
};

/// The observed state of a channel.
pub(super) struct Observation<'a> {
    /// The one that it names, or the default it was given.
    pub(super) provisioner: Option<&'a Provisioner>,
    /// Whether events come in, and why not.
    pub(super) state: Result<(), Cause>,
    pub(super) open: Option<Open<'a>>,
    /// Why events that lie on disk are not delivered.
    pub(super) unused_log: Option<String>,
    pub(super) subscribers: Vec<Subscriber>,
}

/// The observed state of an open channel.
pub(super) struct Open<'a> {
    pub(super) address: Address,
    pub(super) durability: &'static str,
    pub(super) depth: &'a Depth,
    /// Unsettled events of the subscription that is furthest behind: the depth counts from the oldest unsettled event on.
    pub(super) unsettled: u64,
    pub(super) dead_letters: u64,
    /// Why no dead letter is taken, if none is.
    pub(super) dead_letters_full: Option<String>,
    pub(super) missing_dead_letters: u64,
    pub(super) findings: Vec<String>,
    pub(super) held_back: Option<String>,
    /// Why a publisher cannot be recognized.
    pub(super) publishers: Option<Cause>,
    /// Every client that reaches the ingress may publish, from other machines too.
    pub(super) is_unguarded: bool,
}

pub(super) fn status(observation: Observation<'_>) -> Status {
    let Observation {
        provisioner,
        state,
        open,
        unused_log,
        subscribers,
    } = observation;
    let mut conditions = Conditions::default();
    let mut fields = ChannelStatus {
        provisioner: provisioner.map(|provisioner| ProvisionerReference {
            api_version: Kind::ClusterChannelProvisioner.api_version(),
            kind: Kind::ClusterChannelProvisioner.as_str(),
            name: provisioner.name.clone(),
        }),
        subscribers,
        ..ChannelStatus::default()
    };
    if let Some(mut open) = open {
        if let Some(provisioner) = provisioner {
            let findings = std::mem::take(&mut open.findings);
            super::add_degraded(&mut conditions, provisioner.config.backend(), findings);
        }
        add_storage(&mut conditions, &open);
        add_publishers(&mut conditions, &open);
        fields.open = Some(add_losses(&mut conditions, &open));
        fields.address = Some(open.address);
    }
    if let Some(why) = unused_log {
        conditions.warn("LogUsed", Some(Cause::new(Reason::EmbeddedLogUnused, why)));
    }
    let no_address = Cause::new(
        Reason::EmptyHostname,
        "the channel has no address before it is provisioned",
    );
    let addressable = if state.is_ok() { Ok(()) } else { Err(no_address) };
    conditions.require("Provisioned", state);
    conditions.require("Addressable", addressable);
    Status {
        conditions,
        fields: Fields::Channel(fields),
    }
}

/// Adds whether events are taken, stored in time and delivered in time.
fn add_storage(conditions: &mut Conditions, open: &Open<'_>) {
    let depth = open.depth;
    let reason = match &depth.disk {
        Some(DiskTrouble::ReadOnly(_)) => Reason::ReadOnly,
        Some(DiskTrouble::Full(_)) => Reason::DiskFull,
        Some(DiskTrouble::NearlyFull(_)) | None => Reason::Refusing,
    };
    conditions.warn("Accepting", depth.refusing.as_ref().map(|why| Cause::new(reason, why)));
    if let Some(DiskTrouble::NearlyFull(why)) = &depth.disk {
        conditions.warn("HasRoom", Some(Cause::new(Reason::DiskNearlyFull, why)));
    }
    if let Some(why) = &open.held_back {
        conditions.warn("DeliversPromptly", Some(Cause::new(Reason::OpenTransaction, why)));
    }
    if let Some(slow) = &depth.slow {
        conditions.warn("StoresQuickly", Some(Cause::new(Reason::SlowDisk, slow)));
    }
    if let Some(why) = &open.dead_letters_full {
        let message = format!(
            "the dead-letter log is full: {why}. Events that fail wait in the channel; deliver letters again with `headgate dead redrive SUBSCRIPTION`, or remove them with `headgate dead drop SUBSCRIPTION --all`"
        );
        conditions.warn("KeepsDeadLetters", Some(Cause::new(Reason::DeadLettersFull, message)));
    }
}

/// Adds who may publish, where that needs attention.
fn add_publishers(conditions: &mut Conditions, open: &Open<'_>) {
    if let Some(why) = &open.publishers {
        conditions.warn("PublishersKnown", Some(why.clone()));
    }
    if open.is_unguarded {
        let message = "every client that reaches the listener may publish here, and other machines reach it: name those who may \
                       in spec.publishers, or listen on loopback";
        conditions.warn("Guarded", Some(Cause::new(Reason::NoPublishers, message)));
    }
}

/// Adds what is gone, and returns the counts.
fn add_losses(conditions: &mut Conditions, open: &Open<'_>) -> OpenChannelStatus {
    let gaps = &open.depth.gaps;
    let missing_events = gaps.iter().map(|gap| gap.to.0 - gap.from.0).sum();
    let mut lost = Vec::new();
    if let Some(gap) = gaps.last() {
        lost.push(format!(
            "{missing_events} events are gone although not everybody had settled them, the last of them at places {} to {} ({})",
            gap.from.0,
            gap.to.0 - 1,
            gap.reason.as_str()
        ));
    }
    if open.missing_dead_letters > 0 {
        lost.push(format!(
            "{} dead letters cannot be read back",
            open.missing_dead_letters
        ));
    }
    if !lost.is_empty() {
        conditions.warn("Complete", Some(Cause::new(Reason::EventsMissing, lost.join("; "))));
    }
    OpenChannelStatus {
        durability: open.durability,
        unsettled_events: open.unsettled,
        dead_letters: open.dead_letters,
        missing_events: (!gaps.is_empty()).then_some(missing_events),
        missing_dead_letters: (open.missing_dead_letters > 0).then_some(open.missing_dead_letters),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use channel::{Gap, GapReason, Offset};

    use super::*;

    fn open(depth: &Depth) -> Open<'_> {
        Open {
            address: Address {
                hostname: "h".to_owned(),
                url: "http://h/default/a".to_owned(),
            },
            durability: "disk",
            depth,
            unsettled: 3,
            dead_letters: 1,
            dead_letters_full: None,
            missing_dead_letters: 0,
            findings: Vec::new(),
            held_back: None,
            publishers: None,
            is_unguarded: false,
        }
    }

    fn observed(state: Result<(), Cause>, open: Option<Open<'_>>) -> Status {
        status(Observation {
            provisioner: None,
            state,
            open,
            unused_log: None,
            subscribers: Vec::new(),
        })
    }

    #[test]
    fn a_channel_that_is_not_open_has_no_address_and_says_why() {
        let status = observed(Err(Cause::new(Reason::BackendUnreachable, "no answer")), None);
        let reason = |kind| status.conditions.get(kind).map(spec::Condition::reason);
        assert_eq!(reason("Ready"), Some("BackendUnreachable"));
        assert_eq!(reason("Addressable"), Some("emptyHostname"));
        assert_eq!(status.fields, Fields::Channel(ChannelStatus::default()));
    }

    #[test]
    fn trouble_of_an_open_channel_is_a_warning_each() {
        type Change = fn(&mut Open<'_>, &mut Depth);
        let cases: [(Change, &str, &str); 10] = [
            (|_, _| {}, "Accepting", ""),
            (
                |_, depth| depth.refusing = Some("limit".to_owned()),
                "Accepting",
                "Refusing",
            ),
            (
                |_, depth| {
                    depth.refusing = Some("disk".to_owned());
                    depth.disk = Some(DiskTrouble::Full("disk".to_owned()));
                },
                "Accepting",
                "DiskFull",
            ),
            (
                |_, depth| depth.disk = Some(DiskTrouble::NearlyFull("disk".to_owned())),
                "HasRoom",
                "DiskNearlyFull",
            ),
            (
                |_, depth| depth.slow = Some("2 s".to_owned()),
                "StoresQuickly",
                "SlowDisk",
            ),
            (
                |open, _| open.held_back = Some("a transaction".to_owned()),
                "DeliversPromptly",
                "OpenTransaction",
            ),
            (
                |open, _| open.dead_letters_full = Some("1 GiB".to_owned()),
                "KeepsDeadLetters",
                "DeadLettersFull",
            ),
            (|open, _| open.missing_dead_letters = 2, "Complete", "EventsMissing"),
            (
                |open, _| open.publishers = Some(Cause::new(Reason::SecretNotFound, "no secret")),
                "PublishersKnown",
                "SecretNotFound",
            ),
            (|open, _| open.is_unguarded = true, "Guarded", "NoPublishers"),
        ];
        for (change, kind, reason) in cases {
            let (unused, mut depth) = (Depth::default(), Depth::default());
            let mut open = open(&unused);
            change(&mut open, &mut depth);
            open.depth = &depth;
            let status = observed(Ok(()), Some(open));
            let said = |kind: &str| status.conditions.get(kind).map(spec::Condition::reason);
            assert_eq!((said(kind), said("Ready")), (Some(reason), Some("")), "{kind}");
        }
    }

    #[test]
    fn events_that_are_gone_are_counted() {
        let depth = Depth {
            gaps: [(4, 6), (9, 10)]
                .map(|(from, to)| Gap {
                    from: Offset(from),
                    to: Offset(to),
                    found_at: SystemTime::UNIX_EPOCH,
                    reason: GapReason::Damage,
                })
                .into(),
            ..Depth::default()
        };
        let status = observed(Ok(()), Some(open(&depth)));
        let Fields::Channel(fields) = &status.fields else {
            panic!("{:?}", status.fields)
        };
        let counts = fields
            .open
            .as_ref()
            .map(|open| (open.missing_events, open.unsettled_events));
        assert_eq!(counts, Some((Some(3), 3)));
        let complete = status.conditions.get("Complete").map(spec::Condition::message);
        assert!(complete.is_some_and(|message| message.starts_with("3 events are gone") && message.contains("9 to 9")));
    }
}
