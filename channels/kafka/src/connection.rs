//! How a cluster is reached, and the configuration of every client from it.

use std::fmt;

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

/// Sent with every request; shows up in the broker's logs and quotas.
const CLIENT_ID: &str = "headgate";

/// A broker that comes back is found again within this, where librdkafka would wait up to 10 s (milliseconds).
const RECONNECT_MAX_MS: &str = "1000";

/// A topic that is made, deleted or gets more partitions is noticed within this (milliseconds). librdkafka's default is five minutes:
/// so long lay what others wrote to new partitions. More often would cost a request of each of many subscriptions.
const REFRESH_MS: &str = "10000";

/// Where a cluster is and who we are there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// Whether TLS is used, and how the client signs in.
    pub security: Security,
}

/// Kafka's own words: `security.protocol`, `sasl.mechanism`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Security {
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`; empty means `PLAINTEXT`.
    pub protocol: String,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: Option<String>,
    /// The user name of SASL.
    pub user: Option<String>,
    /// The password of SASL.
    pub password: Option<String>,
    /// PEM: whom to trust instead of the system's authorities.
    pub authority: Option<String>,
    /// PEM: our certificate and its key.
    pub certificate: Option<String>,
    /// The client's private key, PEM.
    pub key: Option<String>,
}

/// Never shows a secret (CONTRACT SR-6).
impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("protocol", &self.protocol)
            .field("mechanism", &self.mechanism)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// The part that producers, consumers and administration share.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", CLIENT_ID)
            .set("reconnect.backoff.max.ms", RECONNECT_MAX_MS)
            // A connection that does not answer is replaced sooner than after a minute.
            .set("socket.timeout.ms", "10000")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            // This client is observed by the gateway's own metrics alone; and what librdkafka keeps for that (KIP-714),
            // histograms for each connection of each subscription, was the most of its memory.
            .set("enable.metrics.push", "false")
            .set("topic.metadata.refresh.interval.ms", REFRESH_MS)
            .set_log_level(RDKafkaLogLevel::Warning);
        let security = &self.security;
        let optional = [
            ("sasl.mechanism", &security.mechanism),
            ("sasl.username", &security.user),
            ("sasl.password", &security.password),
            ("ssl.ca.pem", &security.authority),
            ("ssl.certificate.pem", &security.certificate),
            ("ssl.key.pem", &security.key),
        ];
        if !security.protocol.is_empty() {
            config.set("security.protocol", &security.protocol);
        }
        for (name, value) in optional {
            if let Some(value) = value {
                config.set(name, value);
            }
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: SR-6
    #[test]
    fn secrets_are_not_shown() {
        let security = Security {
            protocol: "SASL_SSL".into(),
            password: Some("hunter2".into()),
            key: Some("-----BEGIN".into()),
            ..Security::default()
        };
        let shown = format!("{security:?}");
        assert!(shown.contains("SASL_SSL") && !shown.contains("hunter2") && !shown.contains("BEGIN"));
    }
}
