//! The channel suite on a real broker, each case with a topic of its own.

use std::sync::Arc;

use async_trait::async_trait;
use channel::{Channel, suite::Backend};
use uuid::Uuid;

use crate::{Cluster, Connection, KafkaChannel, Security, Settings};

struct Broker {
    cluster: Arc<Cluster>,
    settings: Settings,
}

impl Broker {
    fn on(servers: &str) -> Self {
        let connection = Connection {
            bootstrap_servers: servers.to_owned(),
            security: Security::default(),
        };
        Self {
            cluster: Cluster::new(connection).expect("clients"),
            settings: Settings {
                topic: format!("suite.{}", Uuid::now_v7().simple()),
                partitions: None,
                replication: None,
                retention: None,
                max_event_bytes: Some((1 << 20) + (64 << 10)),
            },
        }
    }
}

#[async_trait]
impl Backend for Broker {
    async fn open(&self) -> Arc<dyn Channel> {
        let opened = KafkaChannel::open(self.cluster.clone(), &self.settings).await;
        Arc::new(opened.expect("a channel"))
    }

    /// Only the broker's disk bounds a topic.
    async fn open_small(&self) -> Option<Arc<dyn Channel>> {
        None
    }

    async fn crash(&self, channel: Arc<dyn Channel>) {
        drop(channel);
    }
}

mod suite {
    use super::Broker;

    macro_rules! on_a_broker {
        () => {{
            let Some(servers) = servers::Kafka::shared().await else {
                return;
            };
            Broker::on(servers)
        }};
    }

    channel::cases!(on_a_broker!());
}
