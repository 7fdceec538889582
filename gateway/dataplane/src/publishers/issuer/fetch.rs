//! Reads an issuer's keys over HTTP: OpenID Connect Discovery 1.0, then the key set that it names.
//!
//! Every answer is read within bounds, no redirect is followed, and the rules for outgoing connections hold (CONTRACT EG-1).

use std::{sync::OnceLock, time::Duration};

use adapter::chain;
use async_trait::async_trait;
use bytes::Bytes;
use connect::{Connector, Dialer, Egress};
use http::{
    Request, StatusCode, Uri,
    header::{ACCEPT, PROXY_AUTHORIZATION, USER_AGENT},
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use serde_json::Value;
use url::Url;

use super::{Fetch, KeySet};

/// Both answers together. Providers answer in a second.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A host that needs longer will not do better on the same packet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A dozen keys with their certificates.
const ANSWER_MAX_BYTES: usize = 256 * 1024;

/// The two requests of a reading share a connection; the next reading is minutes later.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

type Client = legacy::Client<Connector, Empty<Bytes>>;

/// Finds keys by OpenID discovery.
#[derive(Default)]
pub(super) struct Discovery {
    /// Made when it is needed: reading the system's authorities takes time and memory.
    client: OnceLock<Result<(Client, Dialer), String>>,
}

#[async_trait]
impl Fetch for Discovery {
    async fn keys(&self, issuer: &str) -> Result<KeySet, String> {
        match tokio::time::timeout(TIMEOUT, self.discover(issuer)).await {
            Ok(keys) => keys,
            Err(_elapsed) => Err(format!("no whole answer within {} s", TIMEOUT.as_secs())),
        }
    }
}

impl Discovery {
    async fn discover(&self, issuer: &str) -> Result<KeySet, String> {
        let discovery = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document = self.get(&discovery).await?;
        let document: Value =
            serde_json::from_slice(&document).map_err(|_| format!("{discovery} is answered with no JSON"))?;
        if document["issuer"] != issuer {
            return Err(format!(
                "{discovery} names another issuer, which has to be the same to the letter"
            ));
        }
        let keys = document["jwks_uri"]
            .as_str()
            .ok_or(format!("{discovery} names no jwks_uri"))?;
        KeySet::read(&self.get(keys).await?)
    }

    async fn get(&self, url: &str) -> Result<Bytes, String> {
        let uri = permitted(url)?;
        let client = self.client.get_or_init(client);
        let (client, dialer) = client.as_ref().map_err(Clone::clone)?;
        let mut request = Request::get(&uri)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("headgate/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| format!("{url}: {error}"))?;
        let forwards = dialer.forwards(request.uri());
        if let Some(Some(authorization)) = forwards.map_err(|error| error.to_string())? {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
        }
        let answer = client.request(request).await.map_err(|error| {
            let words = connect::egress_refused(&error).map(ToString::to_string);
            let words = words.or_else(|| connect::tls_words(&error));
            format!("{url}: {}", words.unwrap_or_else(|| chain(&error)))
        })?;
        if answer.status() != StatusCode::OK {
            return Err(format!("{url} is answered with {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect().await;
        let body = body.map_err(|error| format!("{url}: {}", chain(&*error)))?;
        Ok(body.to_bytes())
    }
}

fn client() -> Result<(Client, Dialer), String> {
    let dialer = Dialer::new(CONNECT_TIMEOUT);
    let connector = connect::connector(dialer.clone())?;
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(IDLE_TIMEOUT).pool_timer(TokioTimer::new());
    Ok((builder.build(connector), dialer))
}

/// Keys that came in the clear could be another's, so they come by TLS or from this machine.
fn permitted(url: &str) -> Result<Uri, String> {
    let parsed = Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
    let host = parsed.host_str().unwrap_or_default();
    let is_private = match parsed.scheme() {
        "https" => true,
        "http" => connect::is_this_machine(host),
        _ => false,
    };
    if !is_private {
        return Err(format!("{url} is not an https URL"));
    }
    let checked = Egress::current().check_host(host);
    checked.map_err(|refused| format!("{url}: {refused}"))?;
    parsed.as_str().parse().map_err(|error| format!("{url}: {error}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Proves: PU-2, EG-1
    #[test]
    fn keys_come_by_tls_or_from_this_machine() {
        for url in [
            "https://issuer.example/keys",
            "http://127.0.0.1:9/keys",
            "http://localhost/keys",
        ] {
            permitted(url).unwrap();
        }
        for url in [
            "http://issuer.example/keys",
            "ftp://issuer.example",
            "https://169.254.169.254/keys",
            "keys",
            "",
        ] {
            permitted(url).unwrap_err();
        }
    }
}
