//! The publishers of a channel: who may send events to it over HTTP, and how many (CONTRACT PU).
//!
//! | step | when | what is refused |
//! |--|--|--|
//! | [`identify`](Publishers::identify) | before the body is read | a request without a good credential: 401, 403 or 503 |
//! | [`verify`](Publishers::verify) | the body is there, nothing is stored | a signature that does not fit the body: 401 |
//! | [`spend`](Publishers::spend) | the events are known | more than the publisher's limits: 429 |
//!
//! A channel that names no publishers takes events of every sender. Sources, replies and events from other channels are written
//! inside the gateway and do not come this way, nor do requests of another replica.

mod bearer;
mod issuer;
mod jwt;
mod limit;
mod lines;
mod refusal;
mod signature;
#[cfg(test)]
mod testing;

use std::{sync::Arc, time::SystemTime};

use event::Event;
use http::HeaderMap;
use log_limit::LogLimits;
use spec::{Cause, ObjectName, Reason, model};

pub(crate) use issuer::Issuers;
use limit::Bucket;
pub(crate) use refusal::Refusal;

/// The publishers of one channel.
pub(crate) struct Publishers {
    channel: ObjectName,
    limits: Option<model::Limits>,
    known: Vec<Publisher>,
    /// The limit of the channel as a whole, where it names no publishers.
    whole: Option<Arc<Bucket>>,
    refusals: LogLimits<Reason>,
}

struct Publisher {
    name: Arc<str>,
    credential: Credential,
    bucket: Option<Arc<Bucket>>,
}

/// How a publisher is recognized. An error says why it cannot be: its secret is missing or unusable.
enum Credential {
    Bearer(Result<bearer::Tokens, Cause>),
    Jwt(jwt::Trusted),
    Signature(signature::Signer),
}

/// The sender of a request, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The channel is open to every sender.
    Anyone,
    /// The publisher at this index.
    Publisher(usize),
    /// A signature says who it is, once the body is there.
    Signer,
}

impl Publishers {
    /// `before` are the channel's publishers until now: limits that did not change are not filled up again.
    pub(crate) fn new(
        channel: &ObjectName,
        desired: &model::Publishing,
        before: Option<&Self>,
        issuers: &Issuers,
    ) -> Self {
        let limits = desired.limits;
        let before = before.filter(|before| before.limits == limits);
        let bucket = |kept: Option<Arc<Bucket>>| kept.or_else(|| limits.map(|limits| Arc::new(Bucket::new(limits))));
        let known = desired.publishers.iter().map(|publisher| Publisher {
            name: publisher.name.as_str().into(),
            credential: Credential::new(publisher, issuers),
            bucket: bucket(before.and_then(|before| before.bucket_of(&publisher.name))),
        });
        let known: Vec<_> = known.collect();
        let whole = match known.is_empty() {
            true => bucket(before.and_then(|before| before.whole.clone())),
            false => None,
        };
        Self {
            channel: channel.clone(),
            limits,
            known,
            whole,
            refusals: LogLimits::default(),
        }
    }

    fn bucket_of(&self, publisher: &str) -> Option<Arc<Bucket>> {
        let known = self.known.iter().find(|known| *known.name == *publisher)?;
        known.bucket.clone()
    }

    /// Whether every sender may publish.
    pub(crate) fn is_open(&self) -> bool {
        self.known.is_empty()
    }

    /// Returns the sender, by the head of a request. `is_whole`: the body holds the whole event, its attributes too.
    ///
    /// Waits a few seconds at most, and only for an identity provider whose keys are not known yet. Cancel safe.
    ///
    /// # Errors
    /// The request has no credential that is good for this channel, or what it is compared with is missing; or the limits of
    /// its publisher leave room for nothing.
    pub(crate) async fn identify(&self, headers: &HeaderMap, is_whole: bool) -> Result<Sender, Refusal> {
        let sender = match self.sender(headers).await {
            Ok(sender) => sender,
            Err(_) if self.is_signed(headers) && is_whole => return Ok(Sender::Signer),
            Err(_) if self.is_signed(headers) => return Err(Refusal::signed_in_part()),
            Err(refusal) => return Err(refusal),
        };
        self.bucket(sender)
            .map_or(Ok(sender), |bucket| match bucket.ensure_room() {
                Ok(()) => Ok(sender),
                Err(exceeded) => Err(exceeded.into()),
            })
    }

    async fn sender(&self, headers: &HeaderMap) -> Result<Sender, Refusal> {
        if self.is_open() {
            return Ok(Sender::Anyone);
        }
        let token = bearer::token(headers).ok_or_else(|| self.no_credential())?;
        self.by_token(token).await.map(Sender::Publisher)
    }

    /// Returns the publisher that a token is from.
    async fn by_token(&self, token: &str) -> Result<usize, Refusal> {
        let digest = bearer::digest(token.as_bytes());
        let (mut found, mut unavailable, mut trusted) = (None, None, Vec::new());
        for (index, publisher) in self.known.iter().enumerate() {
            match &publisher.credential {
                Credential::Bearer(Ok(tokens)) if tokens.hold(&digest) => found = Some(index),
                Credential::Bearer(Err(cause)) => unavailable = Some(Refusal::unavailable(cause)),
                Credential::Jwt(jwt) => trusted.push((index, jwt)),
                Credential::Bearer(Ok(_)) | Credential::Signature(_) => {}
            }
        }
        if let Some(found) = found {
            return Ok(found);
        }
        if let Some(token) = jwt::Unverified::parse(token) {
            trusted.retain(|(_, jwt)| jwt.is_issuer_of(&token));
            if !trusted.is_empty() {
                return jwt::publisher(&token, &trusted).await;
            }
        }
        Err(unavailable.unwrap_or_else(Refusal::unknown_token))
    }

    /// Finds out who signed the body, where a signature says who the sender is.
    ///
    /// # Errors
    /// The signature is made with no publisher's key, or a key is missing.
    pub(crate) fn verify(&self, sender: Sender, headers: &HeaderMap, body: &[u8]) -> Result<Sender, Refusal> {
        if sender != Sender::Signer {
            return Ok(sender);
        }
        let (mut refusal, now) = (None::<Refusal>, SystemTime::now());
        for (index, signer) in self.signers().filter(|(_, signer)| signer.is_named(headers)) {
            match signer.verify(headers, body, now) {
                Ok(()) => return Ok(Sender::Publisher(index)),
                // A missing key says more than a signature that was compared with others.
                Err(next)
                    if refusal
                        .as_ref()
                        .is_none_or(|refusal| next.is_retriable() || !refusal.is_retriable()) =>
                {
                    refusal = Some(next);
                }
                Err(_) => {}
            }
        }
        Err(refusal.unwrap_or_else(|| self.no_credential()))
    }

    /// Takes the events of one request out of the sender's limits, all or none.
    ///
    /// # Errors
    /// They are more than the limits leave room for.
    pub(crate) fn spend(&self, sender: Sender, events: &[Event]) -> Result<(), Refusal> {
        let Some(bucket) = self.bucket(sender) else {
            return Ok(());
        };
        let bytes = events.iter().map(Event::size).sum::<usize>();
        Ok(bucket.take(events.len() as u64, bytes as u64)?)
    }

    /// The name that the sender's events get.
    pub(crate) fn name(&self, sender: Sender) -> Option<Arc<str>> {
        match sender {
            Sender::Publisher(index) => self.known.get(index).map(|known| known.name.clone()),
            Sender::Anyone | Sender::Signer => None,
        }
    }

    /// Why a publisher cannot be recognized: a secret is missing, or the keys of an identity provider are.
    pub(crate) fn trouble(&self) -> Option<Cause> {
        self.known.iter().find_map(|publisher| {
            let cause = match &publisher.credential {
                Credential::Bearer(tokens) => tokens.as_ref().err().cloned(),
                Credential::Signature(signer) => signer.trouble().cloned(),
                Credential::Jwt(trusted) => trusted.trouble(),
            }?;
            let message = format!("publisher {}: {}", publisher.name, cause.message);
            Some(Cause::new(cause.reason, message))
        })
    }

    /// The values of `WWW-Authenticate`: the kinds of credentials that the channel takes (RFC 9110, 11.6.1; RFC 6750, 3).
    pub(crate) fn challenges(&self, refusal: &Refusal) -> impl Iterator<Item = &'static str> {
        let tokens = match refusal.reason {
            Reason::CredentialInvalid => "Bearer realm=\"headgate\", error=\"invalid_token\"",
            _ => "Bearer realm=\"headgate\"",
        };
        let tokens = self.takes_tokens().then_some(tokens);
        let signatures = self.signers().next().map(|_| "Signature realm=\"headgate\"");
        tokens.into_iter().chain(signatures)
    }

    /// Writes a line about a refusal, one a minute for each reason.
    pub(crate) fn log(&self, refusal: &Refusal) {
        let (channel, reason) = (self.channel.clone(), refusal.reason);
        let is_admitted = self.refusals.admits(reason, move |unlogged| {
            tracing::warn!(%channel, reason = reason.as_str(), unlogged, "more requests of publishers were refused");
        });
        if is_admitted {
            let detail = &refusal.message;
            tracing::warn!(channel = %self.channel, reason = reason.as_str(), %detail, "the request of a publisher is refused");
        }
    }

    fn no_credential(&self) -> Refusal {
        let mut headers: Vec<&str> = self.signers().map(|(_, signer)| signer.header()).collect();
        headers.dedup();
        Refusal::no_credential(self.takes_tokens(), &headers)
    }

    fn signers(&self) -> impl Iterator<Item = (usize, &signature::Signer)> {
        let known = self.known.iter().enumerate();
        known.filter_map(|(index, publisher)| match &publisher.credential {
            Credential::Signature(signer) => Some((index, signer)),
            Credential::Bearer(_) | Credential::Jwt(_) => None,
        })
    }

    fn is_signed(&self, headers: &HeaderMap) -> bool {
        self.signers().any(|(_, signer)| signer.is_named(headers))
    }

    fn takes_tokens(&self) -> bool {
        let is_token = |known: &Publisher| matches!(known.credential, Credential::Bearer(_) | Credential::Jwt(_));
        self.known.iter().any(is_token)
    }

    fn bucket(&self, sender: Sender) -> Option<&Bucket> {
        match sender {
            Sender::Anyone => self.whole.as_deref(),
            Sender::Publisher(index) => self.known.get(index)?.bucket.as_deref(),
            Sender::Signer => None,
        }
    }
}

impl Credential {
    fn new(publisher: &model::Publisher, issuers: &Issuers) -> Self {
        match &publisher.credential {
            model::Credential::Bearer(secret) => {
                let tokens = secret.as_ref().map_err(Clone::clone);
                Self::Bearer(tokens.and_then(bearer::Tokens::read))
            }
            model::Credential::Jwt(jwt) => Self::Jwt(jwt::Trusted::new(jwt, issuers)),
            model::Credential::Signature(signature) => Self::Signature(signature::Signer::new(signature)),
        }
    }
}

#[cfg(test)]
mod tests;
