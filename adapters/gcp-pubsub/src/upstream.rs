//! The connection to Pub/Sub: admin calls by REST, messages by gRPC, both at one endpoint with one identity.
//!
//! Every call is tried once and bounded in time: trying again is the adapter's, which says meanwhile what is wrong.

use std::{fmt::Display, pin::Pin, time::Duration};

use adapter::Reason;
use futures_util::Stream;
use google_cloud_auth::credentials::{self, Credentials, service_account};
use google_cloud_gax::{
    error::{Error, rpc::Code},
    options::RequestOptionsBuilder,
    retry_policy::NeverRetry,
};
use google_cloud_pubsub::{
    client::{Subscriber, SubscriptionAdmin},
    model::{Message, Subscription},
    subscriber::{ShutdownToken, handler::Handler},
};
use tokio::time::timeout;

use crate::{
    Access, ServiceAccountKey,
    fault::{CREDENTIALS_INVALID, Fault, code},
    pull::Inquirer,
};

const GOOGLE: &str = "https://pubsub.googleapis.com";

/// For one admin call. Google answers in well under a second; a slow metadata server or proxy may take some.
const CALL_MAX: Duration = Duration::from_secs(10);

/// The most messages that Google leases to us at a time: enough for a round trip of 100 ms at 10 000 messages a second, few
/// enough to hold while the sink is down.
pub(crate) const OUTSTANDING_MESSAGES: usize = 1000;
/// Three messages of Google's largest size (10 MB).
pub(crate) const OUTSTANDING_BYTES: usize = 32 * 1024 * 1024;

/// A lease is renewed by this much, and lasts as long after we are gone. Our own subscriptions have the same.
pub(crate) const ACK_DEADLINE: Duration = Duration::from_secs(60);

/// Longer than any message is held here (reader.rs, unstorable.rs): otherwise the client gives up the lease, and Google
/// leases us the message a second time.
const LEASE_MAX: Duration = Duration::from_secs(30 * 60);

/// A message and what acknowledges it: dropped, it is released, and Google sends it again.
pub(crate) type LeasedMessage = (Message, Handler);

/// Messages as they come. A reader that pauses holds up Google, by its own limits. Dropping a `next()` of it loses nothing.
pub(crate) struct Messages {
    pub(crate) stream: Pin<Box<dyn Stream<Item = Result<LeasedMessage, Error>> + Send>>,
    token: ShutdownToken,
}

impl Messages {
    /// Sends the acknowledgements that were not sent yet. Drop all leased messages before.
    pub(crate) async fn close(self, patience: Duration) {
        drop(self.stream);
        if timeout(patience, self.token.shutdown()).await.is_err() {
            tracing::debug!("last acknowledgements were not sent: their messages come again");
        }
    }
}

/// Clients for one source.
#[derive(Clone)]
pub(crate) struct Upstream {
    admin: SubscriptionAdmin,
    subscriber: Subscriber,
    inquirer: Inquirer,
}

impl Upstream {
    /// Makes the clients; sends nothing yet.
    pub(crate) async fn connect(access: &Access) -> Result<Self, Fault> {
        let endpoint = match access {
            Access::Emulator(host) if host.contains("://") => host.trim_end_matches('/').to_owned(),
            Access::Emulator(host) => format!("http://{host}"),
            Access::Key(_) | Access::Default => GOOGLE.to_owned(),
        };
        if let Access::Emulator(_) = access {
            let host = endpoint.parse::<http::Uri>().ok();
            let host = host.as_ref().and_then(http::Uri::host).unwrap_or(&endpoint);
            let checked = connect::check_all(host).await;
            checked.map_err(|refused| {
                Fault::new(
                    Reason::EgressRefused,
                    format!("not connected to emulatorHost {host}: its address {refused}"),
                )
            })?;
        }
        let admin = SubscriptionAdmin::builder().with_endpoint(&endpoint);
        let subscriber = Subscriber::builder().with_endpoint(&endpoint);
        let credentials = credentials(access)?;
        let invalid = |error: &dyn Display| {
            let why = format!("cannot set up a client for Pub/Sub: {error}: check emulatorHost and the credentials");
            Fault::new(CREDENTIALS_INVALID, why)
        };
        let admin = admin
            .with_credentials(credentials.clone())
            .with_retry_policy(NeverRetry);
        let admin = admin.build().await.map_err(|error| invalid(&error))?;
        let subscriber = subscriber.with_credentials(credentials.clone());
        let subscriber = subscriber.build().await.map_err(|error| invalid(&error))?;
        let inquirer = Inquirer::new(endpoint, credentials).map_err(|error| invalid(&error))?;
        Ok(Self {
            admin,
            subscriber,
            inquirer,
        })
    }

    /// Whether a message waits that no subscriber has leased; `None`: the pull cannot tell.
    pub(crate) async fn waits(&self, name: &str) -> Option<bool> {
        self.inquirer.waits(name).await
    }

    /// Reads the subscription; `None` if it does not exist.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Subscription>, Fault> {
        let act = format!("look at {name}");
        let call = self.admin.get_subscription().set_subscription(name);
        match timeout(CALL_MAX, call.with_attempt_timeout(CALL_MAX).send()).await {
            Ok(Ok(found)) => Ok(Some(found)),
            Ok(Err(error)) if code(&error) == Some(Code::NotFound) => Ok(None),
            Ok(Err(error)) => Err(Fault::of(&act, &error)),
            Err(_) => Err(Fault::late(&act)),
        }
    }

    pub(crate) async fn create(&self, desired: Subscription) -> Result<Subscription, NotCreated> {
        let act = format!("make {}", desired.name);
        let call = self.admin.create_subscription().with_request(desired);
        match timeout(CALL_MAX, call.with_attempt_timeout(CALL_MAX).send()).await {
            Ok(Ok(made)) => Ok(made),
            Ok(Err(error)) => Err(match code(&error) {
                Some(Code::NotFound) => NotCreated::NoTopic,
                Some(Code::AlreadyExists) => NotCreated::Exists,
                _ => NotCreated::Other(Fault::of(&act, &error)),
            }),
            Err(_) => Err(NotCreated::Other(Fault::late(&act))),
        }
    }

    /// Deletes the subscription; succeeds if it does not exist.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), Fault> {
        let act = format!("delete {name}");
        let call = self.admin.delete_subscription().set_subscription(name);
        match timeout(CALL_MAX, call.with_attempt_timeout(CALL_MAX).send()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if code(&error) == Some(Code::NotFound) => Ok(()),
            Ok(Err(error)) => Err(Fault::of(&act, &error)),
            Err(_) => Err(Fault::late(&act)),
        }
    }

    /// Opens the stream of a subscription's messages, which begins to read when it is polled.
    pub(crate) fn read(&self, name: &str) -> Messages {
        let on_the_wire = |limit| i64::try_from(limit).unwrap_or(i64::MAX);
        let stream = self
            .subscriber
            .subscribe(name)
            .set_max_outstanding_messages(on_the_wire(OUTSTANDING_MESSAGES))
            .set_max_outstanding_bytes(on_the_wire(OUTSTANDING_BYTES))
            .set_max_lease_extension(ACK_DEADLINE)
            .set_max_lease(LEASE_MAX)
            .build();
        let token = stream.shutdown_token();
        Messages {
            stream: Box::pin(stream.into_stream()),
            token,
        }
    }
}

/// Why a subscription was not created.
pub(crate) enum NotCreated {
    NoTopic,
    Exists,
    Other(Fault),
}

/// The client's own messages about a key are not passed on: they may quote it (CONTRACT SR-6).
fn credentials(access: &Access) -> Result<Credentials, Fault> {
    match access {
        Access::Emulator(_) => Ok(credentials::anonymous::Builder::new().build()),
        Access::Key(key) => from_key(key).ok_or_else(|| {
            let why = "the secret named by gcpCredsSecret holds no key of a service account: it has to be the JSON file that `gcloud iam service-accounts keys create` writes";
            Fault::new(CREDENTIALS_INVALID, why)
        }),
        Access::Default => credentials::Builder::default().build().map_err(|error| {
            let why = format!("there are no Application Default Credentials: {error}: name a key in gcpCredsSecret, or set GOOGLE_APPLICATION_CREDENTIALS");
            Fault::new(CREDENTIALS_INVALID, why)
        }),
    }
}

fn from_key(key: &ServiceAccountKey) -> Option<Credentials> {
    let key = serde_json::from_slice(key.json()).ok()?;
    service_account::Builder::new(key).build().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Proves: SR-6
    #[tokio::test]
    async fn a_key_that_is_none_is_not_quoted() {
        for json in [
            "hunter2",
            r#"{"type":"service_account","private_key":"hunter2"}"#,
            r#"["hunter2"]"#,
        ] {
            let access = Access::Key(ServiceAccountKey::new(json.as_bytes()));
            let fault = Upstream::connect(&access).await.err().unwrap();
            assert_eq!(fault.reason, CREDENTIALS_INVALID);
            assert!(!fault.message.contains("hunter2"), "{}", fault.message);
            assert!(!format!("{access:?}").contains("hunter2"));
        }
    }
}
