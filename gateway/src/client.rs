//! How commands talk to a running gateway: plain HTTP/1.1, one connection a request.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use url::Url;

use crate::Failure;

/// The admin endpoint of a gateway.
pub(crate) struct Gateway {
    url: Url,
    token: Option<String>,
}

impl Gateway {
    pub(crate) fn new(url: &str, token: Option<String>) -> Result<Self, Failure> {
        let parsed = Url::parse(url)
            .ok()
            .filter(|url| url.scheme() == "http" && url.has_host());
        let url = parsed.ok_or_else(|| Failure::Usage(format!("--gateway {url:?} is no http:// URL")))?;
        Ok(Self { url, token })
    }

    /// `GET`; a refusal is a failure with the gateway's own words.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Failure> {
        json(self.exchange(Method::GET, path, query, None).await?).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        json(self.exchange(Method::POST, path, &[], Some(body)).await?).await
    }

    /// A body that goes on.
    pub(crate) async fn stream(&self, path: &str, query: &[(&str, &str)]) -> Result<Incoming, Failure> {
        going_on(self.exchange(Method::GET, path, query, None).await?).await
    }

    /// A body that goes on, for something that changes state.
    pub(crate) async fn post_stream(&self, path: &str, body: &Value) -> Result<Incoming, Failure> {
        going_on(self.exchange(Method::POST, path, &[], Some(body)).await?).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<http::Response<Incoming>, Failure> {
        let mut url = self.url.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
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
        send(&url, request, bytes).await.map_err(|error| {
            let hint = "is the gateway running? Its admin address is given by --gateway or HEADGATE_GATEWAY";
            Failure::Unreachable(format!("cannot reach the gateway at {}: {error}; {hint}", self.url))
        })
    }
}

async fn going_on(response: http::Response<Incoming>) -> Result<Incoming, Failure> {
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        _ => Err(json(response)
            .await
            .err()
            .unwrap_or_else(|| Failure::Wrong("unexpected answer".into()))),
    }
}

/// One request on a connection of its own.
pub(crate) async fn send(
    url: &Url,
    request: http::request::Builder,
    body: Bytes,
) -> anyhow::Result<http::Response<Incoming>> {
    let host = url
        .host_str()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let stream = TcpStream::connect((host, url.port_or_known_default().unwrap_or(80))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let request = request
        .uri(target)
        .header(header::HOST, authority)
        .body(Full::new(body))?;
    Ok(sender.send_request(request).await?)
}

async fn json(response: http::Response<Incoming>) -> Result<Value, Failure> {
    let status = response.status();
    let bytes = response
        .into_body()
        .collect()
        .await
        .map_err(|error| Failure::Unreachable(format!("answer broke off: {error}")))?;
    let bytes = bytes.to_bytes();
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if status.is_success() {
        return Ok(value);
    }
    let message = value["message"]
        .as_str()
        .map_or_else(|| format!("the gateway answered {status}"), str::to_owned);
    Err(
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            Failure::Internal(anyhow::anyhow!(message))
        } else {
            Failure::Wrong(message)
        },
    )
}
