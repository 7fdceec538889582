//! The status of a source. Pure.

use adapter::ReportedState;
use spec::{
    Cause, Conditions, Reason, Status,
    status::{Fields, SourceStatus},
};

/// Whether a source's adapter runs, and what it deployed.
const DEPLOYED: &str = "Deployed";

/// The observed state of a source.
pub(super) struct Observation {
    /// Whether its sink takes events, and why not.
    pub(super) sink: Result<(), Cause>,
    pub(super) sink_uri: Option<String>,
    /// Unsettled events of its outbox, if it has one.
    pub(super) unsettled: Option<u64>,
    /// Whether the secrets that it names are there; `None` when it names none.
    pub(super) secrets: Option<Result<(), Cause>>,
    /// `None` while it is being set up.
    pub(super) running: Option<Running>,
}

/// The observed state of a source that was set up.
pub(super) struct Running {
    pub(super) reported: ReportedState,
    /// Why it does not run.
    pub(super) failure: Option<Cause>,
}

pub(super) fn status(observation: Observation) -> Status {
    let Observation {
        sink,
        sink_uri,
        unsettled,
        secrets,
        running,
    } = observation;
    let mut fields = SourceStatus {
        sink_uri,
        unsettled_events: unsettled,
        ..SourceStatus::default()
    };
    let mut conditions = Conditions::default();
    let mut reported = None;
    let deployed = match running {
        None => Err(Cause::new(Reason::Deploying, "the source is being set up")),
        Some(Running {
            reported: mut state,
            failure,
        }) => {
            reported = state.conditions.remove(DEPLOYED);
            state
                .conditions
                .into_values()
                .for_each(|condition| conditions.add(condition));
            fields.reported = state.fields;
            let waits = |missing: &Cause| {
                let message = "nothing is taken from upstream until the sink is there";
                Cause::new(missing.reason, message)
            };
            failure.or_else(|| sink.as_ref().err().map(waits)).map_or(Ok(()), Err)
        }
    };
    // An adapter that deploys something knows more than that it runs itself.
    match reported.filter(|_| deployed.is_ok()) {
        Some(reported) => conditions.add(reported),
        None => conditions.require(DEPLOYED, deployed),
    }
    if let Some(secrets) = secrets {
        conditions.require("SecretsProvided", secrets);
    }
    conditions.require("SinkProvided", sink);
    Status {
        conditions,
        fields: Fields::Source(fields),
    }
}

#[cfg(test)]
mod tests {
    use adapter::{Condition, Report};

    use super::*;

    fn running(failure: Option<Reason>, report: impl FnOnce(&Report)) -> Option<Running> {
        let reporting = Report::new("default/a");
        report(&reporting);
        Some(Running {
            reported: reporting.state(),
            failure: failure.map(|reason| Cause::new(reason, "because")),
        })
    }

    #[test]
    fn a_source_is_ready_when_it_runs_and_its_sink_and_secrets_are_there() {
        let no_sink = || Err(Cause::new(Reason::ChannelNotReady, "wait"));
        let no_secret = || Some(Err(Cause::new(Reason::SecretNotFound, "create it")));
        let pulling = |report: &Report| report.unknown(DEPLOYED, Reason::Deploying, "the image is being pulled");
        let cases = [
            (Ok(()), None, None, ("Deploying", "Deploying")),
            (Ok(()), Some(Ok(())), running(None, |_| {}), ("", "")),
            (
                no_sink(),
                None,
                running(None, |_| {}),
                ("ChannelNotReady", "ChannelNotReady"),
            ),
            (Ok(()), no_secret(), running(None, |_| {}), ("", "SecretNotFound")),
            (
                Ok(()),
                None,
                running(Some(Reason::AdapterEnded), pulling),
                ("AdapterEnded", "AdapterEnded"),
            ),
            (Ok(()), None, running(None, pulling), ("Deploying", "Deploying")),
            (
                Ok(()),
                None,
                running(None, |report| report.unmet("Watching", Reason::Forbidden, "allow it")),
                ("", "Forbidden"),
            ),
        ];
        for (sink, secrets, running, (deployed, ready)) in cases {
            let status = status(Observation {
                sink,
                sink_uri: None,
                unsettled: None,
                secrets,
                running,
            });
            let state = |kind: &str| status.conditions.get(kind).map(Condition::reason);
            assert_eq!((state(DEPLOYED), state("Ready")), (Some(deployed), Some(ready)));
        }
    }

    #[test]
    fn what_the_adapter_reports_is_shown_beside_what_the_gateway_knows() {
        let status = status(Observation {
            sink: Ok(()),
            sink_uri: Some("http://sink/".to_owned()),
            unsettled: Some(2),
            secrets: None,
            running: running(None, |report| report.field("webhookURL", "https://hook/")),
        });
        let expected = SourceStatus {
            sink_uri: Some("http://sink/".to_owned()),
            unsettled_events: Some(2),
            reported: [("webhookURL", "https://hook/".into())].into(),
        };
        assert_eq!(status.fields, Fields::Source(expected));
    }
}
