//! GitHub of the tour: the documents of the set-up, and signed deliveries.

use std::{fs, path::Path};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Method, Request};
use sha2::Sha256;
use url::Url;
use uuid::Uuid;

use super::gateway::Process;
use crate::{Failure, client};

pub(super) const SECRET: &str = "it-is-a-demo";

/// Writes what a user would write.
pub(super) fn documents(folder: &Path, audit: &str, billing: &str, broken: &str) -> Result<(), Failure> {
    let subscription = |name: &str, url: &str, more: &str| {
        format!(
            "---\napiVersion: eventing.knative.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: {name} }}\nspec:\n  \
             channel: {{ apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: github }}\n  \
             subscriber: {{ uri: \"{url}\" }}\n  delivery: {{ backoffDelay: PT0.05S{more} }}\n"
        )
    };
    let text = [
        "apiVersion: v1\nkind: Secret\nmetadata: { name: github }\nstringData: { secretToken: it-is-a-demo }\n".to_owned(),
        "---\napiVersion: sources.eventing.knative.dev/v1alpha1\nkind: GitHubSource\nmetadata: { name: hello }\nspec:\n  \
         ownerAndRepository: octo/hello\n  eventTypes: [push]\n  secretToken: { secretKeyRef: { name: github, key: secretToken } }\n  \
         sink: { apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: github }\n"
            .to_owned(),
        "---\napiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: { name: github }\nspec: { provisioner: { name: embedded } }\n"
            .to_owned(),
        subscription("audit", audit, ""),
        subscription("billing", billing, ""),
        subscription("broken", broken, ", retry: 2"),
    ]
    .concat();
    fs::create_dir(folder.join("documents"))?;
    fs::write(folder.join("documents/github.yaml"), text)?;
    Ok(())
}

#[derive(Default)]
pub(super) struct Sent {
    /// Ids of the deliveries that were answered 202.
    pub(super) accepted: Vec<String>,
    pub(super) last_status: u16,
}

/// Delivers one after another; a delivery without an answer ends nothing, as with GitHub.
pub(super) async fn deliver(gateway: &Process, secret: &str, branch: &str, count: usize) -> Sent {
    let mut sent = Sent::default();
    for number in 0..count {
        let id = Uuid::new_v4().to_string();
        let body = format!(
            "{{\"ref\":\"refs/heads/{branch}-{number}\",\"repository\":{{\"full_name\":\"octo/hello\"}},\"sender\":{{\"login\":\"octocat\"}}}}"
        );
        match post(gateway, secret, &id, body).await {
            Ok(status) => {
                sent.last_status = status;
                if status == 202 {
                    sent.accepted.push(id);
                }
            }
            Err(_no_answer) => sent.last_status = 0,
        }
    }
    sent
}

async fn post(gateway: &Process, secret: &str, id: &str, body: String) -> anyhow::Result<u16> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    mac.update(body.as_bytes());
    let request = Request::builder()
        .method(Method::POST)
        .header("content-type", "application/json")
        .header("x-github-event", "push")
        .header("x-github-delivery", id)
        .header(
            "x-hub-signature-256",
            format!("sha256={}", hex::encode(mac.finalize().into_bytes())),
        );
    let url = Url::parse(&format!("{}/hooks/default/hello", gateway.ingress))?;
    let response = client::send(&url, None, request, Bytes::from(body)).await?;
    Ok(response.status().as_u16())
}
