//! How servers are reached: one connection that all channels on them share.

use std::{fmt, sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectOptions,
    connection::State,
    jetstream::{self, context::ContextBuilder},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{error::OpenError, health::Health};

/// Shows up in the server's connections.
const CLIENT_NAME: &str = "headgate";

/// For connecting, for a request to JetStream's API, and for an acknowledgement.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Connecting takes this long at most, whatever the name server and the servers of the list do: time for three servers that take a
/// connection and say nothing.
const CONNECT_MAX: Duration = Duration::from_secs(15);

/// A connection that does not answer is given up after two of these.
const PING_EVERY: Duration = Duration::from_secs(10);

/// A server that comes back is found again within this, where the client would wait up to 4 s.
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// Appends that wait for their acknowledgement, all channels of a connection together. Their bodies are bounded by the
/// callers.
const UNACKNOWLEDGED_MAX: usize = 16_384;

/// Where servers are and who we are there.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Connection {
    /// URLs or `host:port`, separated by commas.
    pub servers: String,
    /// Whether TLS is used, and how the client signs in.
    pub security: Security,
}

/// The gateway's identity: at most one of token, user, nkey and credentials.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Security {
    /// Asks for TLS even where the server does not.
    pub tls: bool,
    /// The token of the account.
    pub token: Option<String>,
    /// The user name.
    pub user: Option<String>,
    /// The password of the user.
    pub password: Option<String>,
    /// The seed.
    pub nkey: Option<String>,
    /// A credentials file's content: a JWT and its seed.
    pub credentials: Option<String>,
    /// PEM: whom to trust instead of the system's authorities.
    pub authority: Option<String>,
    /// PEM: our certificate and its key.
    pub certificate: Option<String>,
    /// The client's private key, PEM.
    pub key: Option<String>,
}

impl Connection {
    /// The servers for people: a URL may hold a password (CONTRACT SR-6).
    pub(crate) fn shown(&self) -> String {
        let without_user = |one: &str| {
            let one = one.trim();
            match (one.split_once("://"), one.rsplit_once('@')) {
                (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
                (None, Some((_, host))) => host.to_owned(),
                (_, None) => one.to_owned(),
            }
        };
        self.servers.split(',').map(without_user).collect::<Vec<_>>().join(",")
    }

    /// Whom to trust and who we are, for a server's endpoints beside its own protocol.
    pub(crate) fn tls(&self) -> Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
        tls(&self.security)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("servers", &self.shown())
            .field("security", &self.security)
            .finish()
    }
}

/// Never shows a secret (CONTRACT SR-6).
impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// A connection in use. The client reconnects by itself.
pub struct Server {
    connection: Connection,
    pub(crate) client: Client,
    pub(crate) context: jetstream::Context,
    unacknowledged: Semaphore,
    pub(crate) health: Arc<Health>,
}

impl Server {
    /// Connects, within [`CONNECT_MAX`]. Must be called inside a runtime.
    ///
    /// # Cancel safety
    /// Cancel safe: a connection that is dropped is closed.
    pub async fn connect(connection: Connection) -> Result<Arc<Self>, OpenError> {
        let health = Arc::new(Health::new(connection.shown()));
        let options = options(&connection.security, health.clone())?;
        let servers: Vec<String> = connection.servers.split(',').map(|one| one.trim().to_owned()).collect();
        let unreachable = |source| OpenError::Unreachable {
            servers: connection.shown(),
            source,
        };
        let client = match tokio::time::timeout(CONNECT_MAX, options.connect(servers)).await {
            Ok(connected) => connected.map_err(|error| unreachable(error.into()))?,
            Err(_) => {
                let why = format!("no server answered within {} s", CONNECT_MAX.as_secs());
                return Err(unreachable(why.into()));
            }
        };
        let context = ContextBuilder::new()
            .timeout(ANSWER_MAX)
            .ack_timeout(ANSWER_MAX)
            .max_ack_inflight(UNACKNOWLEDGED_MAX)
            .backpressure_on_inflight(true)
            .build(client.clone());
        Ok(Arc::new(Self {
            connection,
            client,
            context,
            unacknowledged: Semaphore::new(UNACKNOWLEDGED_MAX),
            health,
        }))
    }

    /// Returns the settings that the servers are reached with.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Leave to publish so many messages at once. The client counts them one by one: groups that have sent a part of theirs
    /// could wait for each other. Cancel safe.
    pub(crate) async fn admit(&self, messages: usize) -> Option<SemaphorePermit<'_>> {
        let messages = u32::try_from(messages.min(UNACKNOWLEDGED_MAX)).unwrap_or(u32::MAX);
        // Never closed.
        self.unacknowledged.acquire_many(messages).await.ok()
    }

    /// Whether the server is at least of this version.
    pub(crate) fn is_at_least(&self, major: i64, minor: i64) -> bool {
        self.client.is_server_compatible(major, minor, 0)
    }

    pub(crate) fn unreachable(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> OpenError {
        OpenError::Unreachable {
            servers: self.connection.shown(),
            source: source.into(),
        }
    }
}

fn options(security: &Security, health: Arc<Health>) -> Result<ConnectOptions, OpenError> {
    let unusable = |error: Box<dyn std::error::Error + Send + Sync>| OpenError::Settings(error);
    let mut options = ConnectOptions::new();
    if let Some(credentials) = &security.credentials {
        options = options
            .credentials(credentials)
            .map_err(|error| unusable(error.into()))?;
    } else if let Some(seed) = &security.nkey {
        options = options.nkey(seed.trim().to_owned());
    } else if let (Some(user), Some(password)) = (&security.user, &security.password) {
        options = options.user_and_password(user.clone(), password.clone());
    } else if let Some(token) = &security.token {
        options = options.token(token.clone());
    }
    if security.authority.is_some() || security.certificate.is_some() {
        options = options
            .tls_client_config(tls(security).map_err(unusable)?)
            .require_tls(true);
    } else if security.tls {
        options = options.require_tls(true);
    }
    Ok(options
        .name(CLIENT_NAME)
        // Every subject is made of names that were checked when a stream was opened, or comes from the server.
        .skip_subject_validation(true)
        .connection_timeout(ANSWER_MAX)
        .request_timeout(Some(ANSWER_MAX))
        .ping_interval(PING_EVERY)
        .reconnect_delay_callback(|attempts| {
            let doubled = Duration::from_millis(50).saturating_mul(1 << attempts.min(10));
            doubled.min(RECONNECT_MAX)
        })
        .event_callback(move |event| {
            let health = health.clone();
            async move { health.reported(&event) }
        }))
}

fn tls(security: &Security) -> Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    match &security.authority {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate.map_err(|error| format!("ca.crt is no PEM: {error}"))?)?;
            }
            if roots.is_empty() {
                return Err("ca.crt holds no certificate".into());
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(match (&security.certificate, &security.key) {
        (Some(certificate), Some(key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| format!("tls.crt is no PEM: {error}"))?;
            let key =
                PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| format!("tls.key is no PEM: {error}"))?;
            config.with_client_auth_cert(chain, key)?
        }
        _ => config.with_no_client_auth(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: SR-6
    #[test]
    fn secrets_are_not_shown() {
        let security = Security {
            tls: true,
            token: Some("hunter2".into()),
            nkey: Some("SUACSSL3".into()),
            credentials: Some("-----BEGIN".into()),
            ..Security::default()
        };
        let shown = format!("{security:?}");
        assert!(
            shown.contains("true")
                && !["hunter2", "SUACSSL3", "BEGIN"]
                    .iter()
                    .any(|secret| shown.contains(secret))
        );
    }

    /// Proves: SR-6
    #[test]
    fn a_password_in_a_url_is_not_shown() {
        let connection = Connection {
            servers: "nats://alice:hunter2@one:4222, token@two, three:4222".into(),
            security: Security::default(),
        };
        assert_eq!(connection.shown(), "nats://one:4222,two,three:4222");
    }

    /// Proves: CH-2
    #[tokio::test(start_paused = true)]
    async fn servers_that_take_connections_and_say_nothing_are_given_up() {
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        // Taken, and kept without a word.
        let mute = tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                taken.push(stream);
            }
        });
        let servers = (1..=4).map(|host| format!("127.0.0.{host}:{port}"));
        let connection = Connection {
            servers: servers.collect::<Vec<_>>().join(","),
            security: Security::default(),
        };
        let begun = tokio::time::Instant::now();
        let refused = Server::connect(connection).await.err();
        assert!(matches!(refused, Some(OpenError::Unreachable { .. })), "{refused:?}");
        assert!(begun.elapsed() <= CONNECT_MAX, "{:?}", begun.elapsed());
        mute.abort();
    }

    #[test]
    fn unusable_certificates_say_which() {
        let security = Security {
            authority: Some("not a certificate".into()),
            ..Security::default()
        };
        let health = Arc::new(Health::new(String::new()));
        let refused = options(&security, health).err().map(|error| format!("{error:?}"));
        assert!(refused.is_some_and(|error| error.contains("ca.crt")));
    }
}
