//! Subscribers of the tour: they answer by script and remember what they took.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use bytes::Bytes;
use event::{Event, http_form};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::{Failure, commands::tail::summary};

pub(super) struct Recorder {
    pub(super) name: &'static str,
    pub(super) url: String,
    received: Arc<Mutex<Received>>,
}

#[derive(Default)]
struct Received {
    requests: usize,
    /// Ids of the requests that were answered 2xx.
    taken: Vec<String>,
    lines: Vec<String>,
}

impl Recorder {
    /// `answer` gives the status of the n-th request, from 0.
    pub(super) async fn start(name: &'static str, answer: fn(usize) -> u16) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let received = Arc::<Mutex<Received>>::default();
        let shared = received.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let received = shared.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request: http::Request<Incoming>| {
                        let received = received.clone();
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body
                                .collect()
                                .await
                                .map(http_body_util::Collected::to_bytes)
                                .unwrap_or_default();
                            let status = match http_form::decode(&head.headers, body) {
                                Ok(http_form::Decoded::One(event)) => received.lock().record(&event, answer),
                                _ => 400,
                            };
                            let mut response = Response::new(Full::<Bytes>::default());
                            *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
                            Ok::<_, Infallible>(response)
                        }
                    });
                    // The gateway is killed in this tour: broken connections are expected.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self { name, url, received })
    }

    /// Ids of what was taken.
    pub(super) fn taken(&self) -> BTreeSet<String> {
        self.received.lock().taken.iter().cloned().collect()
    }

    pub(super) fn taken_requests(&self) -> usize {
        self.received.lock().taken.len()
    }

    pub(super) fn requests(&self) -> usize {
        self.received.lock().requests
    }

    pub(super) fn first_lines(&self, count: usize) -> Vec<String> {
        self.received.lock().lines.iter().take(count).cloned().collect()
    }
}

impl Received {
    fn record(&mut self, event: &Event, answer: fn(usize) -> u16) -> u16 {
        let status = answer(self.requests);
        self.requests += 1;
        if (200..300).contains(&status) {
            self.taken.push(event.id().to_owned());
            self.lines.push(summary(event));
        }
        status
    }
}
