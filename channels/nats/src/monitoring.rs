//! A server's monitoring endpoint, the one place that says whether it syncs its files (`GET /jsz`).

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde::Deserialize;

use crate::connection::Server;

/// It is only asked while a channel opens.
const ASK_MAX: Duration = Duration::from_secs(3);

/// `/jsz` without details is 1 KiB.
const ANSWER_MAX: usize = 64 << 10;

#[derive(Deserialize)]
struct Jsz {
    config: Option<JetStream>,
}

#[derive(Deserialize)]
struct JetStream {
    #[serde(default)]
    sync_always: bool,
}

/// Whether every server syncs before it acknowledges; `None` when there is none to ask or one does not answer.
pub(crate) async fn synced(server: &Server, urls: &[String]) -> Option<bool> {
    let mut all = None;
    for url in urls {
        match tokio::time::timeout(ASK_MAX, ask(server, url)).await {
            Ok(Ok(synced)) => all = Some(synced && all.unwrap_or(true)),
            Ok(Err(error)) => {
                tracing::warn!(url, %error, "the monitoring endpoint of NATS did not answer");
                return None;
            }
            Err(_) => {
                tracing::warn!(url, "the monitoring endpoint of NATS did not answer in time");
                return None;
            }
        }
    }
    all
}

async fn ask(server: &Server, url: &str) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(server.connection().tls()?)
        .https_or_http()
        .enable_http1()
        .build();
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let answer = client
        .get(format!("{}/jsz", url.trim_end_matches('/')).parse()?)
        .await?;
    if !answer.status().is_success() {
        return Err(format!("it answered {}", answer.status()).into());
    }
    let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await?.to_bytes();
    let value: Jsz = serde_json::from_slice(&body)?;
    let config = value.config.ok_or("it has no JetStream")?;
    Ok(config.sync_always)
}
