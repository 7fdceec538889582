//! `headgate pause` and `headgate resume`

use serde_json::json;

use super::name;
use crate::{Failure, client::Gateway, output};

pub(super) async fn switch(gateway: &Gateway, subscription: &str, verb: &str) -> Result<(), Failure> {
    let (namespace, name) = name(subscription);
    gateway
        .post(&format!("/api/v1/subscriptions/{namespace}/{name}/{verb}"), &json!({}))
        .await?;
    output::line(&format!("subscription {namespace}/{name} {verb}d"));
    Ok(())
}
