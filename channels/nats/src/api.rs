//! JetStream's API, as far as channels use it: every call answers with the server's own error code, which the client's many
//! error types do not agree on how to carry.

use async_nats::{
    client::{PublishError, RequestError},
    jetstream::{
        self, ErrorCode,
        consumer::{self, IntoConsumerConfig, pull},
        response::Response,
        stream::{self, PurgeRequest},
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};

use crate::connection::Server;

/// Where JetStream's API is, as the client has it.
const PREFIX: &str = "$JS.API";

/// Consumers listed of one stream at most: 256 a page.
const PAGES_MAX: usize = 64;

/// Why a call did not do what it says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("JetStream refused: {0}")]
    Refused(jetstream::Error),
    #[error("JetStream does not answer")]
    NoAnswer(#[source] RequestError),
    #[error("JetStream's answer cannot be read")]
    NotJson(#[source] serde_json::Error),
}

impl ApiError {
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(error) => Some(error.error_code()),
            Self::NoAnswer(_) | Self::NotJson(_) => None,
        }
    }

    /// The stream or consumer does not exist.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(
            self.code(),
            Some(ErrorCode::STREAM_NOT_FOUND | ErrorCode::CONSUMER_NOT_FOUND | ErrorCode::CONSUMER_DOES_NOT_EXIST)
        )
    }
}

#[derive(Serialize)]
struct ConsumerRequest<'a> {
    stream_name: &'a str,
    config: &'a consumer::Config,
}

#[derive(Serialize)]
struct PageRequest {
    offset: usize,
}

#[derive(Deserialize)]
struct ConsumerPage {
    total: usize,
    consumers: Option<Vec<consumer::Info>>,
}

#[derive(Serialize)]
struct DeleteRequest {
    seq: u64,
}

#[derive(Serialize)]
struct Group<'a> {
    group: &'a str,
}

impl Server {
    /// The subject of a call that is made without the client's help.
    pub(crate) fn api(&self, call: &str) -> String {
        format!("{PREFIX}.{call}")
    }

    async fn call<T: DeserializeOwned>(&self, call: String, payload: &impl Serialize) -> Result<T, ApiError> {
        let payload = serde_json::to_vec(payload).map_err(ApiError::NotJson)?;
        self.send(&call, payload).await
    }

    /// A call that takes no payload, not even `null`.
    async fn ask<T: DeserializeOwned>(&self, call: String) -> Result<T, ApiError> {
        self.send(&call, Vec::new()).await
    }

    async fn send<T: DeserializeOwned>(&self, call: &str, payload: Vec<u8>) -> Result<T, ApiError> {
        let answer = self
            .client
            .request(self.api(call), payload.into())
            .await
            .map_err(ApiError::NoAnswer)?;
        match serde_json::from_slice(&answer.payload).map_err(ApiError::NotJson)? {
            Response::Ok(answer) => Ok(answer),
            Response::Err { error } => Err(ApiError::Refused(error)),
        }
    }

    /// `None`: there is none.
    pub(crate) async fn stream_info(&self, stream: &str) -> Result<Option<stream::Info>, ApiError> {
        match self.ask(format!("STREAM.INFO.{stream}")).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn create_stream(&self, config: &stream::Config) -> Result<stream::Info, ApiError> {
        self.call(format!("STREAM.CREATE.{}", config.name), config).await
    }

    pub(crate) async fn update_stream(&self, config: &stream::Config) -> Result<stream::Info, ApiError> {
        self.call(format!("STREAM.UPDATE.{}", config.name), config).await
    }

    pub(crate) async fn purge(&self, stream: &str, request: &PurgeRequest) -> Result<(), ApiError> {
        let _: IgnoredAny = self.call(format!("STREAM.PURGE.{stream}"), request).await?;
        Ok(())
    }

    /// Purges a subject without waiting for an answer.
    pub(crate) async fn purge_untold(&self, stream: &str, subject: String) -> Result<(), PublishError> {
        let request = PurgeRequest {
            filter: Some(subject),
            ..PurgeRequest::default()
        };
        // Text alone: cannot fail.
        let payload = serde_json::to_vec(&request).unwrap_or_default();
        self.client
            .publish(self.api(&format!("STREAM.PURGE.{stream}")), payload.into())
            .await
    }

    pub(crate) async fn delete_message(&self, stream: &str, seq: u64) -> Result<(), ApiError> {
        let _: IgnoredAny = self
            .call(format!("STREAM.MSG.DELETE.{stream}"), &DeleteRequest { seq })
            .await?;
        Ok(())
    }

    /// Makes a consumer with a name, or finds it as it is asked for.
    pub(crate) async fn create_consumer(
        &self,
        stream: &str,
        config: &pull::Config,
    ) -> Result<consumer::Info, ApiError> {
        let name = config.durable_name.as_deref().unwrap_or_default();
        self.change_consumer(stream, name, &config.into_consumer_config()).await
    }

    /// Makes a consumer, or changes what may be changed of one that is there.
    pub(crate) async fn change_consumer(
        &self,
        stream: &str,
        name: &str,
        config: &consumer::Config,
    ) -> Result<consumer::Info, ApiError> {
        let request = ConsumerRequest {
            stream_name: stream,
            config,
        };
        self.call(format!("CONSUMER.CREATE.{stream}.{name}"), &request).await
    }

    pub(crate) async fn consumer_info(&self, stream: &str, name: &str) -> Result<consumer::Info, ApiError> {
        self.ask(format!("CONSUMER.INFO.{stream}.{name}")).await
    }

    /// One that is not there is as good.
    pub(crate) async fn delete_consumer(&self, stream: &str, name: &str) -> Result<(), ApiError> {
        let deleted: Result<IgnoredAny, _> = self.ask(format!("CONSUMER.DELETE.{stream}.{name}")).await;
        match deleted {
            Err(error) if !error.is_gone() => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) async fn unpin(&self, stream: &str, name: &str, group: &str) -> Result<(), ApiError> {
        let _: IgnoredAny = self
            .call(format!("CONSUMER.UNPIN.{stream}.{name}"), &Group { group })
            .await?;
        Ok(())
    }

    pub(crate) async fn consumers(&self, stream: &str) -> Result<Vec<consumer::Info>, ApiError> {
        let mut all = Vec::new();
        for _ in 0..PAGES_MAX {
            let request = PageRequest { offset: all.len() };
            let page: ConsumerPage = self.call(format!("CONSUMER.LIST.{stream}"), &request).await?;
            let found = page.consumers.unwrap_or_default();
            let last = found.is_empty();
            all.extend(found);
            if last || all.len() >= page.total {
                break;
            }
        }
        Ok(all)
    }
}
