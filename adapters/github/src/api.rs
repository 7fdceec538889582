//! GitHub's REST API, as far as a source needs it: one place to call, every answer read within bounds.
//!
//! A thin client over hyper, and not octocrab, because a delivery's payload must be had as the bytes that came (CONTRACT
//! SR-3), rate-limit headers and `Link` decide what is done next, a creation must never be repeated unseen, no answer may be
//! read without a bound, and a token must never follow a redirect or a link to another host (SR-6). What octocrab would
//! add, signing an App's token, is forty lines in token.rs.

mod budget;
mod error;
mod link;
mod requests;
mod token;

use std::{sync::Arc, time::Duration};

use adapter::chain;
use bytes::Bytes;
use connect::{Connector, Dialer};
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, PROXY_AUTHORIZATION, USER_AGENT},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use url::Url;

pub(crate) use budget::Budget;
pub(crate) use error::{ApiError, Trouble};
pub(crate) use link::Cursor;
pub(crate) use requests::{Attempt, Hook, HookSpec, Page};
use token::Tokens;

use crate::{Config, Credentials};

/// A delivery has at most 25 MiB of payload, and its headers and our answer beside it.
const ANSWER_MAX_BYTES: usize = 32 * 1024 * 1024;

/// Head and body of one answer: GitHub ends requests after 10 s by itself, the rest is for a large payload on a slow line.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A host that needs longer will not do better on the same packet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Servers close idle connections after a minute or so; a sweep's requests come one after another.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// A renamed repository is one redirect away; more in a row lead nowhere.
const REDIRECTS_MAX: usize = 3;

/// The version whose answers are understood.
const API_VERSION: HeaderValue = HeaderValue::from_static("2022-11-28");

/// One answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// When GitHub answered, by its own clock.
    pub(crate) fn date(&self) -> Timestamp {
        budget::date(&self.headers).unwrap_or_else(Timestamp::now)
    }
}

/// The API with one source's credentials.
pub(crate) struct Api {
    http: legacy::Client<Connector, Full<Bytes>>,
    /// As `http` connects: says what a proxy wants.
    dialer: Dialer,
    root: Url,
    /// `repos/OWNER/REPOSITORY` or `orgs/OWNER`, by segments.
    base: Vec<String>,
    tokens: Tokens,
    budget: Arc<Budget>,
    /// Ends waiting for an answer.
    stop: CancellationToken,
}

impl Api {
    pub(crate) fn new(
        config: &Config,
        credentials: &Credentials,
        budget: Arc<Budget>,
        stop: CancellationToken,
    ) -> Result<Self, ApiError> {
        let checked = connect::Egress::current().check_host(config.api.host_str().unwrap_or_default());
        checked.map_err(|refused| ApiError::egress(&config.api, &refused))?;
        let dialer = Dialer::new(CONNECT_TIMEOUT);
        let connector = connect::connector(dialer.clone()).map_err(|error| ApiError::setting(&error))?;
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE_TIMEOUT).pool_timer(TokioTimer::new());
        let base = match config.repository.split_once('/') {
            Some((owner, repository)) => vec!["repos".to_owned(), owner.to_owned(), repository.to_owned()],
            None => vec!["orgs".to_owned(), config.repository.clone()],
        };
        Ok(Self {
            http: builder.build(connector),
            dialer,
            root: config.api.clone(),
            base,
            tokens: Tokens::new(credentials)?,
            budget,
            stop,
        })
    }

    /// A URL below the source's repository or organisation.
    fn below(&self, segments: &[&str]) -> Result<Url, ApiError> {
        let base = self.base.iter().map(String::as_str);
        self.url(base.chain(segments.iter().copied()))
    }

    fn url<'a>(&self, segments: impl Iterator<Item = &'a str>) -> Result<Url, ApiError> {
        let mut url = self.root.clone();
        url.set_query(None);
        match url.path_segments_mut() {
            Ok(mut path) => path.pop_if_empty().extend(segments),
            Err(()) => return Err(ApiError::setting(&"githubAPIURL is no URL of a server")),
        };
        Ok(url)
    }

    /// One request with the source's credentials, answered as the caller expects or an error. Never repeated, but after an
    /// installation's token was found to be no longer good: nothing was done then.
    async fn call(&self, method: &Method, url: &Url, body: Option<&Value>) -> Result<Answer, ApiError> {
        let token = self.tokens.current(self).await?;
        match self.send(method, url, body, &token).await {
            Err(error) if error.trouble == Trouble::Unauthorized && self.tokens.delete(&token).await => {
                let token = self.tokens.current(self).await?;
                self.send(method, url, body, &token).await
            }
            answer => answer,
        }
    }

    /// One request; redirects within the API's own host are followed.
    async fn send(
        &self,
        method: &Method,
        url: &Url,
        body: Option<&Value>,
        token: &HeaderValue,
    ) -> Result<Answer, ApiError> {
        let mut url = url.clone();
        for _ in 0..REDIRECTS_MAX {
            self.budget.permits(Timestamp::now())?;
            let what = format!("{method} {}", url.path());
            let request = request(method, &url, body, token).map_err(|error| ApiError::unreachable(&what, &error))?;
            let answer = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(ApiError::new(Trouble::Stopped, what)),
                answer = tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(request, &what)) => answer,
            };
            let answer = answer.unwrap_or_else(|_| {
                let late = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs());
                Err(ApiError::unreachable(&what, &late))
            })?;
            self.budget.learn(&answer);
            match answer.status.as_u16() {
                200..=299 => return Ok(answer),
                301 | 302 | 307 | 308 => url = self.redirected(&url, &answer, &what)?,
                _ => return Err(error::refused(&what, &answer)),
            }
        }
        Err(ApiError::unreachable(url.path(), &"redirected too often"))
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>, what: &str) -> Result<Answer, ApiError> {
        let forwards = self.dialer.forwards(request.uri());
        if let Some(Some(authorization)) = forwards.map_err(|error| ApiError::setting(&error))? {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
        }
        let response = self.http.request(request).await;
        let response = response.map_err(|error| {
            if let Some(refused) = connect::egress_refused(&error) {
                return ApiError::egress(&self.root, refused);
            }
            let words = connect::tls_words(&error).unwrap_or_else(|| chain(&error));
            ApiError::unreachable(what, &words)
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await;
        let body = body.map_err(|error| ApiError::unreachable(what, &chain(&*error)))?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    /// A token goes to no other host (CONTRACT SR-6).
    fn redirected(&self, from: &Url, answer: &Answer, what: &str) -> Result<Url, ApiError> {
        let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let to = location.and_then(|location| from.join(location).ok());
        to.filter(|to| to.origin() == self.root.origin())
            .ok_or_else(|| ApiError::unreachable(what, &"redirected to another host"))
    }
}

fn request(
    method: &Method,
    url: &Url,
    body: Option<&Value>,
    token: &HeaderValue,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::builder()
        .method(method)
        .uri(url.as_str())
        // GitHub refuses requests that do not say who asks.
        .header(USER_AGENT, concat!("headgate/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/vnd.github+json")
        .header("X-GitHub-Api-Version", API_VERSION)
        .header(AUTHORIZATION, token);
    let body = match body {
        Some(body) => {
            request = request.header(CONTENT_TYPE, "application/json");
            Bytes::from(body.to_string())
        }
        None => Bytes::new(),
    };
    request.body(Full::new(body))
}
