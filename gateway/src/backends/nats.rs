//! Channels on NATS JetStream: the settings of a channel, its provisioner and its secret.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use channel::Channel;
use channel_nats::{Connection, NatsBroker, NatsChannel, OpenError, Security, Server, Settings};
use parking_lot::Mutex;
use spec::{
    Cause, ObjectName, Reason,
    model::{self, NatsArguments, NatsConfig},
};
use tokio::time::Instant;

use super::{ChannelOpener, NatsOpener, broker_settings, in_use};

/// The default prefix of streams.
const STREAM_PREFIX: &str = "headgate-";

/// Returns the opener of channels on NATS.
pub(super) fn channels() -> NatsOpener {
    Box::new(NatsChannels::default())
}

#[derive(Default)]
struct NatsChannels {
    open: Mutex<HashMap<ObjectName, Weak<NatsChannel>>>,
    servers: Servers,
}

#[async_trait]
impl ChannelOpener<NatsConfig, NatsArguments> for NatsChannels {
    async fn open(
        &self,
        desired: &model::Channel,
        provisioner: &model::Provisioner,
        config: &NatsConfig,
        arguments: &NatsArguments,
    ) -> Result<Arc<dyn Channel>, Cause> {
        let connection = connection(provisioner, config)?;
        let settings = settings(&desired.name, config, arguments);
        let found = in_use(&self.open, &desired.name);
        if let Some(channel) = found.filter(|channel| !channel.is_closed()) {
            channel.broker().configure(settings.max_event_bytes);
            return Ok(channel);
        }
        let server = self.servers.get(connection).await?;
        let opened = NatsBroker::open(server, &settings).await;
        let channel = Arc::new(opened.map_err(|error| not_opened(&error))?);
        self.open.lock().insert(desired.name.clone(), Arc::downgrade(&channel));
        Ok(channel)
    }
}

/// Returns the connection of a provisioner.
fn connection(provisioner: &model::Provisioner, config: &NatsConfig) -> Result<Connection, Cause> {
    Ok(Connection {
        servers: config.servers.0.join(","),
        security: security(provisioner, config.security.tls)?,
    })
}

/// Returns the settings of a channel's stream.
fn settings(channel: &ObjectName, config: &NatsConfig, arguments: &NatsArguments) -> Settings {
    let prefix = config.stream_prefix.as_deref().unwrap_or(STREAM_PREFIX);
    let name = channel.to_string();
    Settings {
        stream: channel_nats::stream_name(prefix, &name),
        description: Some(format!("channel {name} of Headgate")),
        channel: name,
        replicas: arguments.replicas,
        max_age: arguments.max_age,
        max_bytes: arguments.max_bytes,
        max_event_bytes: arguments.max_event_bytes,
        monitoring_urls: config.monitoring_urls.clone().map_or_else(Vec::new, |urls| urls.0),
    }
}

fn security(provisioner: &model::Provisioner, tls: bool) -> Result<Security, Cause> {
    let credentials = provisioner.credentials.as_ref().map_err(Clone::clone)?;
    let secret = |keys: &[&str]| broker_settings::secret(provisioner, credentials, keys);
    let security = Security {
        tls,
        token: secret(&["token"])?,
        user: secret(&["username", "user"])?,
        password: secret(&["password"])?,
        nkey: secret(&["nkey"])?,
        credentials: secret(&["creds"])?,
        authority: secret(&["ca.crt"])?,
        certificate: secret(&["tls.crt"])?,
        key: secret(&["tls.key"])?,
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
            return Err(Cause {
                reason: Reason::CredentialsNotFound,
                message: format!(
                    "the secret of provisioner {} has {has} and lacks {lacks}",
                    provisioner.name
                ),
            });
        }
    }
    Ok(security)
}

fn not_opened(error: &OpenError) -> Cause {
    let reason = match error {
        OpenError::Unreachable { .. } => Reason::BackendUnreachable,
        OpenError::Settings(_) => Reason::ConfigInvalid,
        OpenError::NotMade { .. } => Reason::StreamNotMade,
        OpenError::Unfit { .. } => Reason::StreamUnfit,
    };
    Cause {
        reason,
        message: dataplane::chain(error),
    }
}

/// The client of each connection, which its channels share.
#[derive(Default)]
struct Servers(Mutex<HashMap<Connection, Arc<tokio::sync::Mutex<ServerSlot>>>>);

/// The client of a connection, or when and why connecting failed.
#[derive(Default)]
struct ServerSlot {
    server: Weak<Server>,
    failed: Option<(Instant, Cause)>,
}

impl Servers {
    /// Returns the client of a connection. Channels are opened concurrently: the first one of a connection connects,
    /// and the others wait for it and share its failure.
    async fn get(&self, connection: Connection) -> Result<Arc<Server>, Cause> {
        let asked = Instant::now();
        let slot = {
            let mut servers = self.0.lock();
            servers.retain(|_, slot| {
                Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|slot| slot.server.strong_count() > 0)
            });
            servers.entry(connection.clone()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(server) = slot.server.upgrade() {
            return Ok(server);
        }
        if let Some((failed, why)) = &slot.failed
            && *failed >= asked
        {
            return Err(why.clone());
        }
        match Server::connect(connection).await {
            Ok(server) => {
                slot.server = Arc::downgrade(&server);
                Ok(server)
            }
            Err(error) => {
                let why = not_opened(&error);
                slot.failed = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }
}
