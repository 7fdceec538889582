//! What an adapter in a pod of its own says of its source: asked of the pod, and told here as if the adapter ran in this process.
//!
//! The pod's account has no right to write a status, and needs none.

use std::time::Duration;

use adapter::{Report, Truth, Weight};
use kubernetes::workloads::{ADMIN_PORT, Owner, Workloads};
use serde_json::Value;

use crate::{Failure, client::Gateway};

/// How long what changed there may not be known here.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// A pod that is there answers at once.
const ASK_MAX: Duration = Duration::from_secs(3);

/// What adapters say besides `Deployed`, which the Deployment says, and what is known here: the sink and the secrets.
const CONDITIONS: [&str; 11] = [
    "Accepted",
    "Authenticated",
    "CheckpointSaved",
    "Complete",
    "DeliveriesFit",
    "Ordered",
    "Storable",
    "Subscribed",
    "Swept",
    "Watching",
    "WebhookConfigured",
];

const FIELDS: [&str; 5] = [
    "lastDeliveryTime",
    "recoveredDeliveries",
    "subscription",
    "webhookIDKey",
    "webhookURL",
];

/// Never ends.
pub(super) async fn follow(workloads: &Workloads, owner: &Owner, report: &Report) {
    loop {
        if let Some(address) = workloads.pod_address(owner) {
            match tokio::time::timeout(ASK_MAX, ask(&address, owner)).await {
                Ok(Ok(status)) => tell(&status, report),
                // A pod that does not answer is its Deployment's to tell.
                Ok(Err(failure)) => {
                    tracing::debug!(source = owner.name, ?failure, "an adapter's pod does not say how it is");
                }
                Err(_elapsed) => tracing::debug!(source = owner.name, "an adapter's pod does not answer in time"),
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Its source's status.
async fn ask(address: &str, owner: &Owner) -> Result<Value, Failure> {
    let pod = Gateway::new(&format!("http://{address}:{ADMIN_PORT}"), None)?;
    let query = [
        ("kind", &*owner.kind),
        ("namespace", &owner.namespace),
        ("name", &owner.name),
    ];
    let mut objects = pod.get("/api/v1/objects", &query).await?;
    Ok(objects["items"][0]["status"].take())
}

fn tell(status: &Value, report: &Report) {
    let said = status["conditions"].as_array();
    for kind in CONDITIONS {
        let condition = said.and_then(|all| all.iter().find(|condition| condition["type"] == kind));
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
        let weight = match &*text("severity") {
            "Warning" => Weight::Warning,
            "Info" => Weight::Info,
            _ => Weight::Error,
        };
        report.note(kind, (truth, weight), text("reason"), text("message"));
    }
    for name in FIELDS {
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
        tell(&status, &report);
        let said = report.said();
        assert_eq!(
            said.conditions.keys().copied().collect::<Vec<_>>(),
            ["CheckpointSaved", "Watching"]
        );
        let watching = &said.conditions["Watching"];
        assert_eq!(
            (watching.truth, watching.weight, &*watching.reason),
            (Truth::False, Weight::Error, "Forbidden")
        );
        assert_eq!(said.fields["subscription"], "headgate-shop-hello");
        tell(&json!({}), &report);
        assert!(report.said().conditions.is_empty() && report.said().fields.is_empty());
    }
}
