//! Sources. A sink that is no channel gets an outbox: a channel and a subscription of our own, so that fan-out and direct
//! delivery are the same to an adapter (API.md 2.5).

use std::sync::Arc;

use url::Url;

use super::{Building, MAX_IN_FLIGHT};
use crate::{
    ObjectKey, ObjectName,
    document::Document,
    model::{
        self, Arguments, Channel, GitHubSource, Ordering, SecretText, Source, SourceConfig, StartFrom, Subscription,
        Target, Unresolved,
    },
    resource::{self, SourceFields, Token},
    secrets,
    validate::OUTBOX_SUFFIX,
};

impl Building<'_> {
    pub(super) fn github(&mut self, key: &ObjectKey, document: &Document, written: &resource::GitHubSource) {
        let config = GitHubSource {
            owner_and_repository: written.owner_and_repository.clone(),
            event_types: match written.event_types.as_slice() {
                [] => vec!["*".to_owned()],
                types => types.to_vec(),
            },
            api_url: written.github_api_url.as_deref().and_then(|url| Url::parse(url).ok()),
            secret_token: self.token(
                document,
                "secretToken",
                written.secret_token.as_ref(),
                "SecretTokenNotFound",
            ),
            previous_secret_token: self.token(
                document,
                "previousSecretToken",
                written.previous_secret_token.as_ref(),
                "SecretTokenNotFound",
            ),
            access_token: self.token(
                document,
                "accessToken",
                written.access_token.as_ref(),
                "AccessTokenNotFound",
            ),
        };
        self.source(key, document, &written.common, SourceConfig::GitHub(config));
    }

    /// A kind that a later release runs.
    pub(super) fn later_source(&mut self, key: &ObjectKey, document: &Document, common: &SourceFields) {
        self.source(key, document, common, SourceConfig::NotSupportedYet);
    }

    fn token(
        &mut self,
        document: &Document,
        field: &str,
        token: Option<&Token>,
        reason: &'static str,
    ) -> Option<Result<SecretText, Unresolved>> {
        let selector = &token?.secret_key_ref;
        let namespace = &document.key.name.namespace;
        let found = secrets::find(self.set, self.folder, namespace, selector, "", reason);
        if let Err(why) = &found {
            self.dangling
                .push(document.dangling(&format!("spec.{field}.secretKeyRef"), why.reason, &why.message));
        }
        Some(found)
    }

    fn source(&mut self, key: &ObjectKey, document: &Document, common: &SourceFields, config: SourceConfig) {
        let (sink, sink_uri) = match &common.sink {
            None => {
                let why = Unresolved {
                    reason: "SinkEmpty",
                    message: "the source has no sink: set spec.sink".to_owned(),
                };
                self.dangling
                    .push(document.dangling("spec.sink", why.reason, &why.message));
                (Err(why), None)
            }
            Some(written) => match self.target(document, "spec.sink", written) {
                Target::Channel(name) => (Ok(name), None),
                target => self.direct(key, written, target),
            },
        };
        let source = Source {
            key: key.clone(),
            sink,
            sink_uri,
            extensions: common.extensions.clone(),
            config,
        };
        self.spec.sources.insert(key.clone(), Arc::new(source));
    }

    /// The outbox is there even while its target is not: what it holds waits for the target to come back, and meanwhile
    /// the source takes nothing new.
    fn direct(
        &mut self,
        key: &ObjectKey,
        written: &resource::Destination,
        target: Target,
    ) -> (Result<ObjectName, Unresolved>, Option<String>) {
        let (unresolved, uri) = match &target {
            Target::Unresolved(why) => (Some(why.clone()), None),
            Target::Uri(url) => (None, Some(without_credentials(url))),
            Target::Channel(_) => (None, None),
        };
        let is_channel = written.object().is_some_and(|object| object.kind == "Channel");
        if let (true, Some(why)) = (is_channel, &unresolved) {
            return (Err(why.clone()), None);
        }
        let kind = key.kind.as_str().to_lowercase();
        let name = ObjectName::new(&key.name.namespace, format!("{}.{kind}{OUTBOX_SUFFIX}", key.name.name));
        self.outbox(&name, target);
        (unresolved.map_or(Ok(name), Err), uri)
    }

    fn outbox(&mut self, name: &ObjectName, target: Target) {
        // Always durable, whatever the default provisioner is: that is the promise of a direct sink.
        let provisioner = self.provisioners.find("embedded");
        let arguments = Arguments::Embedded {
            retention_age: super::RETENTION_AGE,
            retention_bytes: super::RETENTION_BYTES,
            limit_age: None,
            limit_bytes: None,
        };
        let channel = Channel {
            name: name.clone(),
            provisioner,
            arguments,
            max_event_bytes: None,
            implicit: true,
        };
        let subscription = Subscription {
            name: name.clone(),
            channel: name.clone(),
            subscriber: Some(target),
            reply: None,
            filters: Vec::new(),
            delivery: model::Delivery {
                backoff: backoff::Policy::default(),
                timeout: super::TIMEOUT,
                format: model::Format::Binary,
                max_reply_bytes: super::MAX_REPLY_BYTES,
                dead_letter_sink: None,
            },
            max_in_flight: MAX_IN_FLIGHT,
            ordering: Ordering::None,
            start_from: StartFrom::Earliest,
            paused: false,
            implicit: true,
        };
        self.spec.channels.insert(name.clone(), Arc::new(channel));
        self.spec.subscriptions.insert(name.clone(), Arc::new(subscription));
    }
}

/// As it may be shown.
fn without_credentials(url: &Url) -> String {
    let mut shown = url.clone();
    // Both can only fail for URLs without a host, which http has none of; then there is nothing to leave out.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.into()
}
