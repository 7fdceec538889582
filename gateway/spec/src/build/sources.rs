//! Sources. A sink that is no channel gets an outbox: a channel and a subscription of our own, so that fan-out and direct
//! delivery are the same to an adapter (API.md 2.5).

use std::sync::Arc;

use status::{Cause, Reason};
use url::Url;

use super::{Building, MAX_IN_FLIGHT};
use crate::{
    ObjectKey, ObjectName,
    document::Document,
    model::{
        self, Arguments, Channel, ContainerSource, EmbeddedArguments, FoundSecret, GcpPubSubSource, GitHubApp,
        GitHubSource, KubernetesEventSource, Ordering, Source, SourceConfig, StartFrom, Subscription, Target, Variable,
        VariableValue,
    },
    resolver::Resolver,
    resource::{self, SecretSelector, SourceFields, Token},
    schema::kinds::OUTBOX_SUFFIX,
    secrets,
    tree::Node,
};

impl Building<'_> {
    pub(super) fn github(&mut self, key: &ObjectKey, document: &Document, written: &resource::GitHubSource) {
        let config = GitHubSource {
            owner_and_repository: written.owner_and_repository.clone(),
            event_types: written.event_types.clone(),
            api_url: written.github_api_url.clone(),
            secret_token: self.token(
                document,
                "secretToken",
                &written.secret_token,
                Reason::SecretTokenNotFound,
            ),
            previous_secret_token: self.token(
                document,
                "previousSecretToken",
                &written.previous_secret_token,
                Reason::SecretTokenNotFound,
            ),
            allow_unsigned: written.allow_unsigned,
            access_token: self.token(
                document,
                "accessToken",
                &written.access_token,
                Reason::AccessTokenNotFound,
            ),
            app: written.app.as_ref().map(|app| GitHubApp {
                id: app.id,
                installation_id: app.installation_id,
                private_key: self.secret(
                    document,
                    "app.privateKey.secretKeyRef",
                    &app.private_key.secret_key_ref,
                    ("", Reason::PrivateKeyNotFound),
                ),
            }),
            mode: written.mode,
            sweep_interval: (!written.sweep_interval.is_zero()).then_some(written.sweep_interval),
        };
        self.source(key, document, &written.common, SourceConfig::GitHub(config));
    }

    pub(super) fn kubernetes_events(
        &mut self,
        key: &ObjectKey,
        document: &Document,
        written: &resource::KubernetesEventSource,
    ) {
        let config = KubernetesEventSource {
            namespace: (!written.all_namespaces).then(|| match written.namespace.as_deref() {
                None | Some("") => key.name.namespace.clone(),
                Some(named) => named.to_owned(),
            }),
            types: written.types.clone(),
            reasons: written.reasons.clone(),
            kinds: written.kinds.clone(),
            coalesce: written.coalesce.filter(|window| !window.is_zero()),
        };
        self.source(key, document, &written.common, SourceConfig::KubernetesEvents(config));
    }

    pub(super) fn gcp_pubsub(&mut self, key: &ObjectKey, document: &Document, written: &resource::GcpPubSubSource) {
        let credentials = written.gcp_creds_secret.as_ref();
        let config = GcpPubSubSource {
            project: written.google_cloud_project.clone(),
            topic: written.topic.clone(),
            credentials: credentials.map(|selector| {
                let default = (resource::GCP_CREDENTIALS_KEY, Reason::CredentialsNotFound);
                self.secret(document, "gcpCredsSecret", selector, default)
            }),
            subscription: written.subscription.clone(),
            emulator_host: written.emulator_host.clone(),
            deletion: written.deletion_policy,
            ordering: written.ordering,
        };
        self.source(key, document, &written.common, SourceConfig::GcpPubSub(config));
    }

    pub(super) fn container(&mut self, key: &ObjectKey, document: &Document, written: &resource::ContainerSource) {
        let mut env = Vec::with_capacity(written.env.0.len());
        for (index, variable) in written.env.0.iter().enumerate() {
            env.push(Variable {
                name: variable.name.clone(),
                value: self.variable(document, index, variable),
            });
        }
        let config = ContainerSource {
            image: written.image.clone(),
            args: written.args.clone(),
            env,
            template: written.template.clone(),
            restart: written.restart_policy,
        };
        self.source(key, document, &written.common, SourceConfig::Container(config));
    }

    fn variable(&mut self, document: &Document, index: usize, variable: &resource::Variable) -> VariableValue {
        let Some(from) = &variable.value_from else {
            return VariableValue::Text(variable.value.clone().unwrap_or_default());
        };
        // The process that runs the pod reads it there; the gateway need not be allowed to.
        if let Resolver::Cluster(_) = self.resolver {
            return VariableValue::Reference(from.written.clone());
        }
        match &from.secret {
            Some(selector) => {
                let field = format!("env[{index}].valueFrom.secretKeyRef");
                VariableValue::Secret(self.secret(document, &field, selector, ("", Reason::SecretNotFound)))
            }
            None => VariableValue::Reference(from.written.clone()),
        }
    }

    fn token(
        &mut self,
        document: &Document,
        field: &str,
        token: &Option<Token>,
        reason: Reason,
    ) -> Option<FoundSecret> {
        let selector = &token.as_ref()?.secret_key_ref;
        Some(self.secret(document, &format!("{field}.secretKeyRef"), selector, ("", reason)))
    }

    /// `field` is its path below `spec`; a key that is not named is `default_key`.
    pub(super) fn secret(
        &mut self,
        document: &Document,
        field: &str,
        selector: &SecretSelector,
        (default_key, reason): (&str, Reason),
    ) -> FoundSecret {
        let namespace = &document.key.name.namespace;
        let found = secrets::find(self.set, self.resolver, namespace, selector, default_key, reason);
        if let Err(why) = &found {
            self.dangling
                .push(document.dangling(&format!("spec.{field}"), why.reason, &why.message));
        }
        found
    }

    fn source(&mut self, key: &ObjectKey, document: &Document, common: &SourceFields, config: SourceConfig) {
        let (sink, sink_uri) = match &common.sink {
            None => {
                let why = Cause {
                    reason: Reason::SinkEmpty,
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
        // An object's is known apart from what was written; a document that a pod is given has it written.
        let written = document.root.get("metadata").and_then(|metadata| metadata.get("uid"));
        let uid = match &document.of_object {
            Some(object) => Some(object.uid.clone()),
            None => written.and_then(Node::text).map(str::to_owned),
        };
        let source = Source {
            key: key.clone(),
            sink,
            sink_uri,
            service_account: common
                .service_account_name
                .as_ref()
                .or(common.service_account_name_v02.as_ref())
                .cloned(),
            uid,
            extensions: common.ce_overrides.extensions.clone(),
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
    ) -> (Result<ObjectName, Cause>, Option<String>) {
        let (unresolved, uri) = match &target {
            Target::Unresolved(why) => (Some(why.clone()), None),
            Target::Uri { url, .. } => (None, Some(without_credentials(url))),
            Target::Channel(_) | Target::Elsewhere { .. } => (None, None),
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
        let channel = Channel {
            name: name.clone(),
            provisioner,
            arguments: Arguments::Embedded(EmbeddedArguments::default()),
            implicit: true,
            publishing: model::Publishing::default(),
        };
        let subscription = Subscription {
            name: name.clone(),
            uid: None,
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

/// As it may be shown: queries hold tokens as often as the part before the host does.
fn without_credentials(url: &Url) -> String {
    let mut shown = url.clone();
    // Both can only fail for URLs without a host, which http has none of; then there is nothing to leave out.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.into()
}
