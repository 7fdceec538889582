//! Documents: their faults, and whether the targets that they name take connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use spec::{Spec, model::Target};
use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet, time::timeout};
use url::Url;

use super::{Doctor, Finding, Status};
use crate::{Failure, commands::validate};

/// A target on the same network answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections at once.
const CONNECTING_MAX: usize = 16;

/// Targets that are tried; with more of them the command would take minutes where none answers.
const TARGETS_MAX: usize = 256;

/// Host and port of a target, and the objects that name it.
type Targets = BTreeMap<(String, u16), BTreeSet<String>>;

pub(super) async fn check(args: &Doctor) -> Result<Vec<Finding>, Failure> {
    let loaded = validate::load(&args.paths, args.secrets.as_deref(), None)?;
    let mut findings = Vec::new();
    for fault in &loaded.faults {
        let fix = "correct the document; `headgate validate` shows the line";
        findings.push(Finding::new(
            "documents",
            fault.location(),
            Status::Failed,
            fault.what(),
            fix,
        ));
    }
    for warning in &loaded.warnings {
        let warning = warning.fault();
        let fix = "look whether it is meant";
        findings.push(Finding::new(
            "documents",
            warning.location(),
            Status::Warning,
            warning.what(),
            fix,
        ));
    }
    let count = loaded.spec.objects.len();
    if count == 0 {
        let fix = "name files or folders with documents; files of a folder end in .yaml, .yml or .json";
        findings.push(Finding::new("documents", "all", Status::Failed, "there are none", fix));
    } else if findings.is_empty() {
        findings.push(Finding::ok(
            "documents",
            "all",
            format!("{count} documents without a fault"),
        ));
    }
    findings.extend(connect_all(targets(&loaded.spec)).await?);
    Ok(findings)
}

/// The HTTP targets of all subscriptions, those of sources' own sinks among them.
fn targets(spec: &Spec) -> Targets {
    let mut targets = Targets::new();
    for subscription in spec.subscriptions.values() {
        let parts = [
            &subscription.subscriber,
            &subscription.reply,
            &subscription.delivery.dead_letter_sink,
        ];
        let urls = parts.into_iter().flatten().filter_map(|target| match target {
            Target::Uri { url, .. } => Some(url),
            Target::Channel(_) | Target::Elsewhere { .. } | Target::Unresolved(_) => None,
        });
        for url in urls {
            if let Some(at) = address(url) {
                targets.entry(at).or_default().insert(subscription.name.to_string());
            }
        }
    }
    targets
}

fn address(url: &Url) -> Option<(String, u16)> {
    // `h2c` has no port of its own: it is HTTP.
    let port = url.port_or_known_default().unwrap_or(80);
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port))
}

async fn connect_all(targets: Targets) -> Result<Vec<Finding>, Failure> {
    let (count, permits) = (targets.len(), Arc::new(Semaphore::new(CONNECTING_MAX)));
    let mut attempts = JoinSet::new();
    for ((host, port), subscriptions) in targets.into_iter().take(TARGETS_MAX) {
        let permits = permits.clone();
        attempts.spawn(async move {
            let _permit = permits.acquire().await;
            let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), port))).await;
            let failure = match connected {
                Ok(Ok(_stream)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_elapsed) => Some(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())),
            };
            let object = format!("{host}:{port}");
            let named = subscriptions.into_iter().collect::<Vec<_>>().join(", ");
            match failure {
                None => Finding::ok("target", object, format!("takes connections; named by {named}")),
                Some(why) => {
                    let message = format!("{why}; named by {named}");
                    let fix = "start the service, or correct the address; events are retried meanwhile";
                    Finding::new("target", object, Status::Warning, message, fix)
                }
            }
        });
    }
    let mut findings = Vec::new();
    while let Some(finding) = attempts.join_next().await {
        findings.push(finding.map_err(|error| Failure::Internal(error.into()))?);
    }
    findings.sort_by(|a, b| a.object.cmp(&b.object));
    if count > TARGETS_MAX {
        let message = format!("only the first {TARGETS_MAX} of {count} targets were tried");
        findings.push(Finding::new(
            "target",
            "the others",
            Status::Skipped,
            message,
            "check fewer documents at a time",
        ));
    }
    Ok(findings)
}
