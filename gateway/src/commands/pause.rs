//! `headgate pause` and `headgate resume`

use serde_json::json;

use super::name;
use crate::{Failure, client::Gateway, output};

pub(super) async fn switch(gateway: &Gateway, subscription: &str, verb: &str) -> Result<(), Failure> {
    let (namespace, name) = name(subscription);
    let path = format!("/api/v1/subscriptions/{namespace}/{name}/{verb}");
    let _: serde_json::Value = gateway.post(&path, &json!({})).await?;
    output::line(&format!("subscription {namespace}/{name} {verb}d"));
    Ok(())
}
