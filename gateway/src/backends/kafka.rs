//! Kafka: what a provisioner's settings and its secret say about brokers.

use channel_kafka::{Connection, OpenError, Security};
use spec::model;

/// Before a topic's name where the provisioner does not say.
const TOPIC_PREFIX: &str = "headgate.";

/// Where a provisioner's brokers are, and the prefix of its topics.
pub(super) fn config(provisioner: &model::Provisioner) -> Result<(Connection, String), model::Unresolved> {
    let config = &provisioner.config;
    let bootstrap_servers = super::texts(config.get("bootstrapServers")).join(",");
    let prefix = config.get("topicPrefix").and_then(serde_json::Value::as_str);
    let connection = Connection {
        bootstrap_servers,
        security: security(provisioner)?,
    };
    Ok((connection, prefix.unwrap_or(TOPIC_PREFIX).to_owned()))
}

fn security(provisioner: &model::Provisioner) -> Result<Security, model::Unresolved> {
    let credentials = provisioner.credentials.as_ref().map_err(Clone::clone)?;
    let setting = |name: &str| {
        let found = provisioner.config.pointer(&format!("/security/{name}"));
        found.and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    let secret = |keys: &[&str]| super::secret(credentials, keys);
    let security = Security {
        protocol: setting("protocol").unwrap_or_default(),
        mechanism: setting("mechanism"),
        user: secret(&["username", "user"]),
        password: secret(&["password"]),
        authority: secret(&["ca.crt"]),
        certificate: secret(&["tls.crt", "user.crt"]),
        key: secret(&["tls.key", "user.key"]),
    };
    let needed = [
        ("security.mechanism in its spec", security.mechanism.is_none()),
        ("`username` in its secret", security.user.is_none()),
        ("`password` in its secret", security.password.is_none()),
    ];
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(_, missing)| *missing)
        .map(|(what, _)| *what)
        .collect();
    if security.protocol.starts_with("SASL") && !missing.is_empty() {
        return Err(model::Unresolved {
            reason: "CredentialsNotFound",
            message: format!(
                "provisioner {} has protocol {} and lacks {}",
                provisioner.name,
                security.protocol,
                missing.join(", ")
            ),
        });
    }
    Ok(security)
}

pub(super) fn not_opened(error: &OpenError) -> model::Unresolved {
    let reason = match error {
        OpenError::Unreachable { .. } => "BackendUnreachable",
        OpenError::Settings(_) => "ConfigInvalid",
        OpenError::NotMade { .. } => "TopicNotMade",
        OpenError::Unfit { .. } => "TopicUnfit",
    };
    model::Unresolved {
        reason,
        message: dataplane::chain(error),
    }
}
