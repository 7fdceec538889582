//! The only file that names every channel and adapter: what a document says becomes the thing itself.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use adapter::{Hook, Outlet};
use adapter_github::{Config, GitHubHook, Metrics, Secret};
use async_trait::async_trait;
use channel::Channel;
use channel_embedded::DataFolder;
use channel_memory::MemoryChannel;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use spec::{ObjectName, model};

use crate::log_metrics::{LogMetrics, OpenLogs};

pub(crate) struct Backends {
    folder: DataFolder,
    memory: Mutex<HashMap<ObjectName, Weak<MemoryChannel>>>,
    embedded: OpenLogs,
    deliveries: Metrics,
}

impl Backends {
    pub(crate) fn new(folder: DataFolder, registry: &mut Registry) -> Self {
        let embedded = OpenLogs::default();
        registry.register_collector(Box::new(LogMetrics(embedded.clone())));
        Self {
            folder,
            memory: Mutex::default(),
            embedded,
            deliveries: Metrics::registered(registry),
        }
    }

    fn memory(&self, wanted: &model::Channel, capacity: usize) -> Arc<dyn Channel> {
        let defaults = channel_memory::Settings::default();
        let max_event_bytes = wanted.max_event_bytes.unwrap_or(defaults.max_event_bytes);
        let settings = channel_memory::Settings {
            capacity,
            max_event_bytes,
            ..defaults
        };
        let mut open = self.memory.lock();
        let found = open.get(&wanted.name).and_then(Weak::upgrade);
        // A reader may still hold one that was closed: its channel was deleted and is made anew.
        if let Some(channel) = found.filter(|channel| !channel.is_closed()) {
            channel.configure(settings);
            return channel;
        }
        let channel = Arc::new(MemoryChannel::new(settings));
        open.insert(wanted.name.clone(), Arc::downgrade(&channel));
        channel
    }

    async fn embedded(
        &self,
        wanted: &model::Channel,
        settings: channel_embedded::Settings,
    ) -> Result<Arc<dyn Channel>, model::Unresolved> {
        let found = self.embedded.lock().get(&wanted.name).and_then(Weak::upgrade);
        if let Some(channel) = found.filter(|channel| !channel.is_closed()) {
            channel.configure(settings);
            return Ok(channel);
        }
        // Recovery reads the newest segment: milliseconds, and only where there is one.
        let opened = self.folder.channel(&wanted.name.to_string(), settings);
        let channel = Arc::new(opened.map_err(|error| model::Unresolved {
            reason: "DataFolderUnusable",
            message: format!("{}: check the folder given by --data", dataplane::chain(&error)),
        })?);
        self.embedded
            .lock()
            .insert(wanted.name.clone(), Arc::downgrade(&channel));
        Ok(channel)
    }
}

#[async_trait]
impl dataplane::Backends for Backends {
    async fn open(&self, wanted: &model::Channel) -> Result<Arc<dyn Channel>, model::Unresolved> {
        let provisioner = wanted.provisioner.as_ref().map_err(Clone::clone)?;
        match &wanted.arguments {
            model::Arguments::Memory { capacity } => Ok(self.memory(wanted, *capacity)),
            model::Arguments::Embedded {
                retention_age,
                retention_bytes,
                limit_age,
                limit_bytes,
            } => {
                let defaults = channel_embedded::Settings::default();
                let settings = channel_embedded::Settings {
                    max_event_bytes: wanted.max_event_bytes.unwrap_or(defaults.max_event_bytes),
                    retention_age: *retention_age,
                    retention_bytes: *retention_bytes,
                    limit_age: *limit_age,
                    limit_bytes: *limit_bytes,
                    ..defaults
                };
                self.embedded(wanted, settings).await
            }
            model::Arguments::Other(_) => Err(model::Unresolved {
                reason: "NotSupportedYet",
                message: format!(
                    "provisioner {} has a backend this release does not run: use embedded or memory",
                    provisioner.name
                ),
            }),
        }
    }

    fn hook(&self, source: &model::Source, outlet: Outlet) -> Option<Result<Arc<dyn Hook>, model::Unresolved>> {
        match &source.config {
            model::SourceConfig::GitHub(config) => {
                let hook = |config| Arc::new(GitHubHook::counted(config, outlet, &self.deliveries)) as Arc<dyn Hook>;
                Some(github(source, config).map(hook))
            }
            model::SourceConfig::NotSupportedYet => None,
        }
    }
}

/// A secret that is named and not there stops the source: taking unsigned deliveries instead would be worse.
fn github(source: &model::Source, config: &model::GitHubSource) -> Result<Config, model::Unresolved> {
    let mut secrets = Vec::new();
    for token in [&config.secret_token, &config.previous_secret_token]
        .into_iter()
        .flatten()
    {
        secrets.push(Secret::new(token.as_ref().map_err(Clone::clone)?.expose()));
    }
    let host = config
        .api_url
        .as_ref()
        .and_then(|url| url.host_str())
        .map_or("github.com", |host| match host {
            "api.github.com" => "github.com",
            enterprise => enterprise,
        });
    Ok(Config {
        name: source.key.name.to_string(),
        source: format!("https://{host}/{}", config.owner_and_repository),
        event_types: config.event_types.clone(),
        secrets,
        extensions: source.extensions.clone(),
    })
}
