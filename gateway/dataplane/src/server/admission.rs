//! Asks a channel's publishers about a request, and answers those that are refused (CONTRACT PU).

use std::sync::Arc;

use bytes::Bytes;
use event::Event;
use http::{
    HeaderMap, HeaderValue, Response,
    header::{EXPECT, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use hyper::body::Incoming;

use super::{body, requests};
use crate::{
    ingress::{ChannelEndpoint, Ingress, Origin},
    publishers::{Publishers, Refusal, Sender},
};

type Answer = Response<Full<Bytes>>;

/// The sender of a request that may come in, as far as it is known.
pub(super) enum Admitted {
    /// Another replica, which asked its sender for a credential or writes on behalf of the gateway.
    Replica,
    Sender(Arc<Publishers>, Sender),
}

/// Looks at the head of a request. `is_whole`: the body holds the whole event.
///
/// # Errors
/// The answer for a sender that may not publish here.
pub(super) async fn admit(
    headers: &HeaderMap,
    is_whole: bool,
    ingress: &Ingress,
    endpoint: &ChannelEndpoint,
) -> Result<Admitted, Box<Answer>> {
    if ingress.origin(headers) == Origin::Replica {
        return Ok(Admitted::Replica);
    }
    let publishers = endpoint.publishers();
    match publishers.identify(headers, is_whole).await {
        Ok(sender) => Ok(Admitted::Sender(publishers, sender)),
        Err(refusal) => Err(answer(&publishers, &refusal, endpoint)),
    }
}

impl Admitted {
    /// Verifies a signature, once the body is there.
    pub(super) fn verify(
        self,
        headers: &HeaderMap,
        body: &[u8],
        endpoint: &ChannelEndpoint,
    ) -> Result<Self, Box<Answer>> {
        let Self::Sender(publishers, sender) = self else {
            return Ok(self);
        };
        match publishers.verify(sender, headers, body) {
            Ok(sender) => Ok(Self::Sender(publishers, sender)),
            Err(refusal) => Err(answer(&publishers, &refusal, endpoint)),
        }
    }

    /// Takes events out of the sender's limits.
    pub(super) fn spend(&self, events: &[Event], endpoint: &ChannelEndpoint) -> Result<(), Box<Answer>> {
        let Self::Sender(publishers, sender) = self else {
            return Ok(());
        };
        let spent = publishers.spend(*sender, events);
        spent.map_err(|refusal| answer(publishers, &refusal, endpoint))
    }

    /// The origin of the request's events.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::Replica => Origin::Replica,
            Self::Sender(publishers, sender) => publishers.name(*sender).map_or(Origin::Outside, Origin::Publisher),
        }
    }
}

/// Counts, logs and answers a refusal.
fn answer(publishers: &Publishers, refusal: &Refusal, endpoint: &ChannelEndpoint) -> Box<Answer> {
    endpoint.metrics.refused(refusal.reason);
    publishers.log(refusal);
    let (status, message) = (refusal.status(), &refusal.message);
    let mut answer = match refusal.retry_after {
        Some(after) => requests::retry(status, message, after),
        None => requests::text(status, message),
    };
    if status == http::StatusCode::UNAUTHORIZED {
        let challenges = publishers.challenges(refusal).map(HeaderValue::from_static);
        challenges.for_each(|challenge| {
            answer.headers_mut().append(WWW_AUTHENTICATE, challenge);
        });
    }
    Box::new(answer)
}

/// Leaves the body of a refused request. A client that waits for leave to send it (`Expect: 100-continue`) is not given that
/// leave; what another client is sending already is read, so that it gets to read the answer.
pub(super) fn leave(headers: &HeaderMap, body: Incoming) {
    if !headers.contains_key(EXPECT) {
        body::drain(body);
    }
}
