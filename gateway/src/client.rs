//! How commands talk to a running gateway: HTTP/1.1, one connection a request, over TLS where the URL says `https`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, Bytes, BytesMut};
use dataplane::{chain, server::NEEDS_HTTPS};
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use url::Url;

use crate::Failure;

/// The admin endpoint of a gateway.
pub(crate) struct Gateway {
    url: Url,
    token: Option<String>,
    /// A file with the authorities of the gateway's certificate; without it they are the system's.
    authorities: Option<PathBuf>,
}

impl Gateway {
    pub(crate) fn new(url: &str, token: Option<String>, authorities: Option<PathBuf>) -> Result<Self, Failure> {
        let parsed = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = parsed.ok_or_else(|| {
            let example = "expected the admin address, such as http://127.0.0.1:8081";
            Failure::Usage(format!("--gateway {url:?} is no http:// or https:// URL: {example}"))
        })?;
        Ok(Self {
            url,
            token,
            authorities,
        })
    }

    /// The file with the authorities of the gateway's certificate, which its ingress has as well.
    pub(crate) fn authorities(&self) -> Option<&Path> {
        self.authorities.as_deref()
    }

    /// `GET`; a refusal is a failure with the gateway's own words.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Failure> {
        json(self.exchange(Method::GET, path, query, None).await?).await
    }

    /// The same as it came: values that a parser would change stay what they are.
    pub(crate) async fn get_text(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, Failure> {
        let response = self.exchange(Method::GET, path, query, None).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let headers = response.headers().clone();
        let bytes = whole(response).await?;
        let text = String::from_utf8(bytes.into()).map_err(|error| Failure::Internal(error.into()))?;
        Ok(Answer { headers, text })
    }

    /// `POST`; a refusal is a failure with the gateway's own words.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        json(self.exchange(Method::POST, path, &[], Some(json!(body))).await?).await
    }

    /// An answer that goes on, line by line.
    pub(crate) async fn stream(&self, path: &str, query: &[(&str, &str)]) -> Result<Lines, Failure> {
        going_on(self.exchange(Method::GET, path, query, None).await?).await
    }

    /// An answer that goes on, of something that changes state.
    pub(crate) async fn post_stream(&self, path: &str, body: &impl Serialize) -> Result<Lines, Failure> {
        going_on(self.exchange(Method::POST, path, &[], Some(json!(body))).await?).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<http::Response<Incoming>, Failure> {
        let url = at(&self.url, path, query);
        let mut request = Request::builder().method(method);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        send(&url, self.authorities(), request, bytes).await.map_err(|error| {
            let hint = "is the gateway running? Its admin address is given by --gateway or HEADGATE_GATEWAY";
            Failure::Unreachable(format!("cannot reach the gateway at {}: {error:#}; {hint}", self.url))
        })
    }
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

async fn going_on(response: http::Response<Incoming>) -> Result<Lines, Failure> {
    match response.status() {
        StatusCode::OK => Ok(Lines {
            body: response.into_body(),
            rest: BytesMut::new(),
            scanned: 0,
        }),
        _ => Err(refusal(response).await),
    }
}

/// An answer of one JSON document a line.
pub(crate) struct Lines {
    body: Incoming,
    rest: BytesMut,
    /// Bytes of `rest` that hold no end of a line.
    scanned: usize,
}

impl Lines {
    /// The next line without its end; `None` when the connection ended. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(end) = self.rest[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(self.scanned + end).freeze();
                self.rest.advance(1);
                self.scanned = 0;
                return Some(line);
            }
            self.scanned = self.rest.len();
            let frame = self.body.frame().await?.ok()?;
            self.rest
                .extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        }
    }
}

/// One request on a connection of its own. `authorities` is a file with those that may vouch for the server; without it they are
/// the system's.
pub(crate) async fn send(
    url: &Url,
    authorities: Option<&Path>,
    request: http::request::Builder,
    body: Bytes,
) -> anyhow::Result<http::Response<Incoming>> {
    let request = request.uri(url.as_str().parse::<Uri>()?).body(Full::new(body))?;
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new());
    let answer = match url.scheme() {
        "https" => {
            let builder = HttpsConnectorBuilder::new().with_tls_config(trusting(authorities)?);
            let connector = builder.https_only().enable_http1().wrap_connector(connector);
            client.build(connector).request(request).await
        }
        _ => client.build(connector).request(request).await,
    };
    answer.map_err(|error| match connect::tls_words(&error) {
        Some(words) if authorities.is_none() => anyhow::anyhow!(
            "{words}; where an authority of your own has signed the gateway's certificate, name its file with --gateway-ca"
        ),
        Some(words) => anyhow::anyhow!(words),
        None => anyhow::anyhow!(chain(&error)),
    })
}

/// TLS that trusts the authorities of this file, or those of the system.
fn trusting(authorities: Option<&Path>) -> anyhow::Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let Some(path) = authorities else {
        let trusting = builder.with_native_roots();
        let trusting = trusting.map_err(|error| anyhow::anyhow!("the system's TLS roots cannot be read: {error}"))?;
        return Ok(trusting.with_no_client_auth());
    };
    let refused = |why: String| anyhow::anyhow!("--gateway-ca {}: {why}", path.display());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in connect::authorities(path).map_err(|error| refused(error.to_string()))? {
        let added = roots.add(certificate);
        added.map_err(|_why| refused("a certificate in it cannot be used".to_owned()))?;
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The URL of a path below the base.
fn at(base: &Url, path: &str, query: &[(&str, &str)]) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(None);
    url.set_fragment(None);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

async fn whole(response: http::Response<Incoming>) -> Result<Bytes, Failure> {
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| Failure::Unreachable(format!("answer broke off: {error}")))?;
    Ok(body.to_bytes())
}

async fn json<T: DeserializeOwned>(response: http::Response<Incoming>) -> Result<T, Failure> {
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let (status, headers) = (response.status(), response.headers().clone());
    serde_json::from_slice(&whole(response).await?).map_err(|_| not_admin(status, &headers))
}

/// The admin API answers in JSON, always.
fn not_admin(status: StatusCode, headers: &HeaderMap) -> Failure {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text(dataplane::server::LISTENER_HEADER) == Some(dataplane::server::INGRESS_LISTENER) {
        let admin = text(dataplane::server::ADMIN_HEADER)
            .unwrap_or("that of the flag --admin of the gateway, by default http://127.0.0.1:8081");
        return Failure::Unreachable(format!(
            "--gateway names the ingress of the gateway, which takes events; its admin address is {admin}"
        ));
    }
    Failure::Wrong(format!(
        "the answer is {status}, and not one of the admin API of a gateway: --gateway or HEADGATE_GATEWAY must be its admin address, \
         by default http://127.0.0.1:8081"
    ))
}

/// The failure that the gateway's own words tell.
async fn refusal(response: http::Response<Incoming>) -> Failure {
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = match whole(response).await {
        Ok(bytes) => bytes,
        Err(failure) => return failure,
    };
    if bytes.starts_with(NEEDS_HTTPS.as_bytes()) {
        return Failure::Unreachable(format!(
            "the gateway answers: {NEEDS_HTTPS} (--gateway or HEADGATE_GATEWAY)"
        ));
    }
    let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
        return not_admin(status, &headers);
    };
    let message = value["message"]
        .as_str()
        .map_or_else(|| format!("the gateway answered {status}"), str::to_owned);
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        Failure::Internal(anyhow::anyhow!(message))
    } else {
        Failure::Wrong(message)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_path_of_the_base_is_kept() {
        for (base, expected) in [
            ("http://127.0.0.1:8081", "http://127.0.0.1:8081/api/v1/info?a=b"),
            (
                "https://a.example/headgate/",
                "https://a.example/headgate/api/v1/info?a=b",
            ),
            (
                "https://a.example/headgate?x=y#z",
                "https://a.example/headgate/api/v1/info?a=b",
            ),
        ] {
            let url = at(&Url::parse(base).unwrap(), "/api/v1/info", &[("a", "b")]);
            assert_eq!(url.as_str(), expected);
        }
        assert!(Gateway::new("127.0.0.1:8081", None, None).is_err());
        assert!(Gateway::new("ftp://127.0.0.1", None, None).is_err());
    }
}
