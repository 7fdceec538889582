//! librdkafka's producer, and the thread that receives its reports about records.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use channel::supervised;
use rdkafka::{
    ClientConfig, ClientContext, Message,
    config::FromClientConfigAndContext,
    error::KafkaError,
    producer::{BaseProducer, DeliveryResult, ProducerContext},
    types::RDKafkaErrorCode,
};

use super::{batch::Ticket, health::Health, record::Written, sends::Sends};
use crate::logging;

/// The thread listens for so long at a time. The crate asks without pause for the last millisecond of it (rdkafka 0.39 cuts
/// what is left down to whole ones): its own thread, which does that ten times a second, took 0.7 % of a core with nothing
/// to do.
const LISTEN: Duration = Duration::from_secs(5);

/// A producer with a thread that hears its reports. The thread is the last to let go of it, within [`LISTEN`] after everybody
/// else: that joins librdkafka's threads, which no task of the runtime should wait for.
pub(crate) type Client = BaseProducer<Reports>;

/// # Errors
/// What librdkafka says of the configuration.
pub(crate) fn start(config: &ClientConfig, client: Sends, health: Arc<Health>) -> Result<Arc<Client>, KafkaError> {
    let reports = Reports {
        client,
        health,
        under_way: AtomicUsize::new(0),
    };
    let client = Arc::new(Client::from_config_and_context(config, reports)?);
    let heard = client.clone();
    let listens = move || {
        while Arc::strong_count(&heard) > 1 {
            // Without this thread no append would have an answer again.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| heard.poll(LISTEN))) {
                tracing::error!(
                    panic = supervised::message(&*panic),
                    "a report of Kafka's was not understood, going on"
                );
            }
        }
    };
    let started = thread::Builder::new().name("kafka-reports".into()).spawn(listens);
    started.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
    Ok(client)
}

pub(crate) struct Reports {
    client: Sends,
    health: Arc<Health>,
    /// Records without a report.
    under_way: AtomicUsize,
}

impl Reports {
    /// A record is about to be handed over.
    pub(crate) fn one_more(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    /// It has its report, or was not taken.
    pub(crate) fn one_less(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ClientContext for Reports {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        logging::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            let is_idle = self.under_way.load(Ordering::Relaxed) == 0;
            self.health.is_down(self.client, is_idle, reason);
        } else {
            *self.health.reported.lock() = Some(reason.to_owned());
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, delivery: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        self.one_less();
        let result = match delivery {
            Ok(message) => {
                self.health.is_well(self.client);
                Ok(Written {
                    partition: message.partition(),
                    offset: u64::try_from(message.offset()).unwrap_or_default(),
                })
            }
            Err((error, _)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut) {
                    self.health.failed("no acknowledgement within 15 s");
                }
                Err(error.clone())
            }
        };
        ticket.report(result);
    }
}
