//! Polls an adapter in a pod of its own for its source's status, and reports it as if the adapter ran in this process.
//!
//! The pod's account has no right to write a status, and needs none.

use std::time::Duration;

use adapter::{Cause, Reason, Report, Severity, Truth};
use kubernetes::workloads::{ADMIN_PORT, Owner, Workloads};
use serde_json::Value;

use crate::{Failure, client::Gateway};

/// The age that a pod's status reaches here.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// A reachable pod answers at once.
const FETCH_MAX: Duration = Duration::from_secs(3);

/// Polls the pod. Never returns.
pub(super) async fn poll(workloads: &Workloads, owner: &Owner, report: &Report) {
    loop {
        if let Some(address) = workloads.pod_address(owner) {
            match tokio::time::timeout(FETCH_MAX, fetch(&address, owner)).await {
                Ok(Ok(status)) => apply(&status, report),
                // The condition `Deployed` shows why a pod does not answer.
                Ok(Err(failure)) => {
                    tracing::debug!(
                        source = owner.name,
                        ?failure,
                        "cannot read the status of an adapter's pod"
                    );
                }
                Err(_elapsed) => tracing::debug!(source = owner.name, "an adapter's pod does not answer in time"),
            }
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// Returns the status of the pod's source.
async fn fetch(address: &str, owner: &Owner) -> Result<Value, Failure> {
    // The Deployment sets this read token.
    let url = format!("http://{address}:{ADMIN_PORT}");
    let pod = Gateway::new(&url, Some(owner.uid.clone()), None)?;
    let query = [
        ("kind", &*owner.kind),
        ("namespace", &owner.namespace),
        ("name", &owner.name),
    ];
    let mut objects: Value = pod.get("/api/v1/objects", &query).await?;
    Ok(objects["items"][0]["status"].take())
}

fn apply(status: &Value, report: &Report) {
    let conditions = status["conditions"].as_array();
    for kind in adapter::CONDITIONS {
        let condition = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == kind));
        let Some(condition) = condition else {
            report.withdraw(kind);
            continue;
        };
        let text = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
        let truth = match &*text("status") {
            "True" => Truth::True,
            "False" => Truth::False,
            _ => Truth::Unknown,
        };
        let severity = match &*text("severity") {
            "Warning" => Severity::Warning,
            "Info" => Severity::Info,
            _ => Severity::Error,
        };
        let (reason, message) = (text("reason"), text("message"));
        let cause = match Reason::find(&reason) {
            Some(reason) => Some(Cause::new(reason, message)),
            None if reason.is_empty() => None,
            // The pod has another version of the gateway.
            None => Some(Cause::new(Reason::Unreadable, format!("{reason}: {message}"))),
        };
        report.note(kind, (truth, severity), cause);
    }
    for name in adapter::FIELDS {
        report.field(name, status[name].clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_pod_says_is_told_until_it_says_it_no_more() {
        let report = Report::new("shop/hello");
        let status = json!({
            "conditions": [
                {"type": "Watching", "status": "False", "reason": "Forbidden", "message": "give it list and watch"},
                {"type": "CheckpointSaved", "status": "True", "severity": "Warning"},
                {"type": "Deployed", "status": "True"},
                {"type": "Ready", "status": "False"},
            ],
            "subscription": "headgate-shop-hello",
        });
        apply(&status, &report);
        let conditions = report.state();
        assert_eq!(
            conditions.conditions.keys().copied().collect::<Vec<_>>(),
            ["CheckpointSaved", "Watching"]
        );
        let watching = &conditions.conditions["Watching"];
        assert_eq!(
            (watching.truth, watching.severity, watching.reason()),
            (Truth::False, Severity::Error, "Forbidden")
        );
        assert_eq!(conditions.fields["subscription"], "headgate-shop-hello");
        apply(&json!({}), &report);
        assert!(report.state().conditions.is_empty() && report.state().fields.is_empty());
    }
}
