//! The clients that all channels on one cluster share: a producer, a reader, a follower of tables, and administration.

use std::sync::Arc;

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    config::ClientConfig,
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use crate::{
    connection::Connection,
    error::OpenError,
    producer::Producer,
    reader::{ASK_MAX, Quiet, Reader},
    table::Follower,
};

/// One cluster, as one identity.
pub struct Cluster {
    pub(crate) connection: Connection,
    pub(crate) producer: Arc<Producer>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) follower: Follower,
    /// Taken when the cluster is dropped.
    admin: Option<AdminClient<Quiet>>,
}

/// A topic to make.
pub(crate) struct DesiredTopic<'a> {
    pub(crate) topic: &'a str,
    /// `None`: what the cluster makes by default.
    pub(crate) replication: Option<i32>,
    pub(crate) partitions: i32,
    pub(crate) settings: Vec<(&'static str, String)>,
}

impl Cluster {
    /// Makes the clients; connecting is theirs, in the background. Must be called inside a runtime.
    pub fn new(connection: Connection) -> Result<Arc<Self>, OpenError> {
        let admin: ClientConfig = connection.config();
        Ok(Arc::new(Self {
            producer: Arc::new(Producer::new(&connection).map_err(unusable)?),
            reader: Arc::new(Reader::new(&connection).map_err(unusable)?),
            follower: Follower::new(&connection).map_err(unusable)?,
            admin: Some(admin.create_with_context(Quiet).map_err(unusable)?),
            connection,
        }))
    }

    /// Returns the settings that the cluster is reached with.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn admin(&self) -> Result<&AdminClient<Quiet>, OpenError> {
        self.admin
            .as_ref()
            .ok_or_else(|| self.unreachable(KafkaError::Canceled))
    }

    pub(crate) fn unreachable(&self, source: KafkaError) -> OpenError {
        OpenError::Unreachable {
            servers: self.connection.bootstrap_servers.clone(),
            reported: self
                .producer
                .reported()
                .map(|reported| format!(" ({reported})"))
                .unwrap_or_default(),
            source: Box::new(source),
        }
    }

    /// Makes a topic; one that is there already is as good.
    pub(crate) async fn make(&self, desired: &DesiredTopic<'_>) -> Result<(), OpenError> {
        // The broker reads -1 as its own default (KIP-464).
        let replication = TopicReplication::Fixed(desired.replication.unwrap_or(-1));
        let mut topic = NewTopic::new(desired.topic, desired.partitions, replication);
        for (name, value) in &desired.settings {
            topic = topic.set(name, value);
        }
        let made = self.admin()?.create_topics([&topic], &options()).await;
        let made = made.map_err(|error| self.unreachable(error))?;
        match made.into_iter().next() {
            None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => Err(OpenError::NotMade {
                topic: desired.topic.to_owned(),
                why: match code {
                    RDKafkaErrorCode::InvalidReplicationFactor => {
                        let asked = desired
                            .replication
                            .map_or_else(|| "the cluster's default".into(), |n| n.to_string());
                        format!(
                            "replication factor {asked} is more than there are brokers: lower replicationFactor or add brokers"
                        )
                    }
                    RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
                        "the user may not create topics: allow Create on the topic, or make it beforehand".into()
                    }
                    code => code.to_string(),
                },
            }),
        }
    }

    /// A topic's settings by name.
    pub(crate) async fn settings(&self, topic: &str) -> Result<std::collections::HashMap<String, String>, OpenError> {
        let described = self
            .admin()?
            .describe_configs([&ResourceSpecifier::Topic(topic)], &options())
            .await;
        let described = described.map_err(|error| self.unreachable(error))?;
        let resource = match described.into_iter().next() {
            Some(Ok(resource)) => resource,
            Some(Err(code)) => {
                return Err(OpenError::Unfit {
                    topic: topic.to_owned(),
                    why: format!("its settings cannot be read ({code}): allow DescribeConfigs on it"),
                });
            }
            None => return Ok(std::collections::HashMap::new()),
        };
        let entries = resource.entries.into_iter();
        Ok(entries.filter_map(|entry| Some((entry.name, entry.value?))).collect())
    }

    /// As a person would, with Kafka's tools.
    #[cfg(test)]
    pub(crate) async fn delete_topic(&self, topic: &str) {
        let admin = self.admin.as_ref().expect("an open cluster");
        admin
            .delete_topics(&[topic], &options())
            .await
            .expect("a deleted topic");
    }

    /// As a person would, with Kafka's tools.
    #[cfg(test)]
    pub(crate) async fn add_partitions(&self, topic: &str, count: usize) {
        let admin = self.admin.as_ref().expect("an open cluster");
        let desired = rdkafka::admin::NewPartitions::new(topic, count);
        let added = admin.create_partitions([&desired], &options()).await;
        assert!(added.expect("an answer").iter().all(Result::is_ok), "no partitions");
    }

    /// A consumer group's state in Kafka's words, and how many members it has; none when there is no such group.
    pub(crate) async fn group(self: &Arc<Self>, group: &str) -> Result<(String, usize), KafkaError> {
        let (own, group) = (self.clone(), group.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let admin = own.admin.as_ref().ok_or(KafkaError::Canceled)?;
            let found = admin.inner().fetch_group_list(Some(&group), ASK_MAX)?;
            let found = found.groups().first();
            Ok(found.map_or_else(Default::default, |group| {
                (group.state().to_owned(), group.members().len())
            }))
        });
        asked.await.unwrap_or(Err(KafkaError::Canceled))
    }

    /// Deletes a consumer group; it may have members of other gateways, or never have been.
    pub(crate) async fn delete_group(&self, group: &str) {
        let Some(admin) = &self.admin else { return };
        let deleted = admin.delete_groups(&[group], &options()).await;
        let result = deleted.ok().and_then(|results| results.into_iter().next());
        if let Some(Err((_, code))) = result
            && code != RDKafkaErrorCode::GroupIdNotFound
        {
            tracing::info!(group, %code, "a consumer group was not deleted; it expires by itself");
        }
    }

    /// Deletes the records of a partition that lie below `before`.
    pub(crate) async fn delete_records(&self, topic: &str, before: &[(i32, u64)]) -> Result<(), KafkaError> {
        let mut list = rdkafka::TopicPartitionList::new();
        for (partition, offset) in before {
            let offset = rdkafka::Offset::Offset(i64::try_from(*offset).unwrap_or_default());
            list.add_partition_offset(topic, *partition, offset)?;
        }
        let admin = self.admin.as_ref().ok_or(KafkaError::Canceled)?;
        admin.delete_records(&list, &options()).await.map(drop)
    }
}

fn unusable(error: KafkaError) -> OpenError {
    OpenError::Settings(Box::new(error))
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ASK_MAX))
        .operation_timeout(Some(ASK_MAX))
}

/// Clients flush and join threads when they are dropped: never on a thread of the runtime.
impl Drop for Cluster {
    fn drop(&mut self) {
        self.follower.stop();
        self.producer.end();
        let (reader, admin) = (self.reader.clone(), self.admin.take());
        std::thread::spawn(move || drop((reader, admin)));
    }
}
