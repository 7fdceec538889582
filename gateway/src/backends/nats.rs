//! NATS: what a provisioner's settings and its secret say about servers.

use channel_nats::{Connection, OpenError, Security};
use spec::{ObjectName, model};

/// Before a stream's name where the provisioner does not say.
const STREAM_PREFIX: &str = "headgate-";

/// Where a provisioner's servers are and who we are there.
pub(super) fn connection(provisioner: &model::Provisioner) -> Result<Connection, model::Unresolved> {
    Ok(Connection {
        servers: super::texts(provisioner.config.get("servers")).join(","),
        security: security(provisioner)?,
    })
}

/// The stream of a channel.
pub(super) fn stream(provisioner: &model::Provisioner, channel: &ObjectName) -> String {
    let prefix = provisioner.config.get("streamPrefix");
    let prefix = prefix.and_then(serde_json::Value::as_str).unwrap_or(STREAM_PREFIX);
    channel_nats::stream_name(prefix, &channel.to_string())
}

/// Where the servers tell whether they sync.
pub(super) fn monitoring_urls(provisioner: &model::Provisioner) -> Vec<String> {
    super::texts(provisioner.config.get("monitoringURLs"))
}

fn security(provisioner: &model::Provisioner) -> Result<Security, model::Unresolved> {
    let credentials = provisioner.credentials.as_ref().map_err(Clone::clone)?;
    let secret = |key: &str| super::secret(credentials, &[key]);
    let tls = provisioner.config.pointer("/security/tls");
    let security = Security {
        tls: tls.and_then(serde_json::Value::as_bool).unwrap_or_default(),
        token: secret("token"),
        user: secret("username").or_else(|| secret("user")),
        password: secret("password"),
        nkey: secret("nkey"),
        credentials: secret("creds"),
        authority: secret("ca.crt"),
        certificate: secret("tls.crt"),
        key: secret("tls.key"),
    };
    let halves = [
        (
            "`username`",
            security.user.is_some(),
            "`password`",
            security.password.is_some(),
        ),
        (
            "`tls.crt`",
            security.certificate.is_some(),
            "`tls.key`",
            security.key.is_some(),
        ),
    ];
    for (one, has_one, other, has_other) in halves {
        if has_one != has_other {
            let (has, lacks) = if has_one { (one, other) } else { (other, one) };
            return Err(model::Unresolved {
                reason: "CredentialsNotFound",
                message: format!(
                    "the secret of provisioner {} has {has} and lacks {lacks}",
                    provisioner.name
                ),
            });
        }
    }
    Ok(security)
}

pub(super) fn not_opened(error: &OpenError) -> model::Unresolved {
    let reason = match error {
        OpenError::Unreachable { .. } => "BackendUnreachable",
        OpenError::Settings(_) => "ConfigInvalid",
        OpenError::NotMade { .. } => "StreamNotMade",
        OpenError::Unfit { .. } => "StreamUnfit",
    };
    model::Unresolved {
        reason,
        message: dataplane::chain(error),
    }
}
