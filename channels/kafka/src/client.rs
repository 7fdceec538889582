//! librdkafka's producer, the thread that hears what became of its records, and what that says about the cluster.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, Message,
    config::FromClientConfigAndContext,
    error::KafkaError,
    producer::{BaseProducer, DeliveryResult, ProducerContext},
    types::RDKafkaErrorCode,
};
use tokio::time::Instant;

use crate::{
    clients::Sends,
    logging,
    producer::{Ticket, Written},
};

/// While the cluster is down, one append in this time is let through to find out whether it still is.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// The thread listens for so long at a time. The crate asks without pause for the last millisecond of it (rdkafka 0.39 cuts
/// what is left down to whole ones): its own thread, which does that ten times a second, took 0.7 % of a core with nothing
/// to do.
const LISTEN: Duration = Duration::from_secs(5);

/// A producer with a thread that hears its reports. The thread is the last to let go of it, within [`LISTEN`] after everybody
/// else: that joins librdkafka's threads, which nobody on the runtime should wait for.
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
            heard.poll(LISTEN);
        }
    };
    let started = thread::Builder::new().name("kafka-reports".into()).spawn(listens);
    started.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
    Ok(client)
}

/// Whether the cluster can be reached, as far as anybody noticed.
#[derive(Default)]
pub(crate) struct Health {
    state: Mutex<State>,
    /// What a client said last about a connection: a refused password is told nowhere else.
    said: Mutex<Option<String>>,
}

#[derive(Default)]
struct State {
    outage: Option<Outage>,
    /// Which of the producers have no connection.
    down: [bool; Sends::ALL.len()],
}

struct Outage {
    last_probe: Instant,
    why: String,
}

impl State {
    fn failed(&mut self, why: &str) {
        if self.outage.is_none() {
            tracing::warn!(why, "Kafka does not acknowledge, appends are refused until it does");
        }
        self.outage = Some(Outage {
            last_probe: Instant::now(),
            why: why.to_owned(),
        });
    }
}

impl Health {
    fn is_well(&self, client: Sends) {
        let mut state = self.state.lock();
        state.down[client as usize] = false;
        if state.outage.take().is_some() {
            tracing::info!("Kafka acknowledges again");
        }
    }

    /// A client has no connection left. One that does nothing loses its own to brokers that close what is idle, while another
    /// is well: that is no outage.
    fn is_down(&self, client: Sends, is_idle: bool, why: &str) {
        let mut state = self.state.lock();
        state.down[client as usize] = true;
        if !is_idle || state.down == [true; Sends::ALL.len()] {
            state.failed(why);
        }
    }

    fn failed(&self, why: &str) {
        self.state.lock().failed(why);
    }

    /// The reason to refuse an append now, unless it is to find out.
    pub(crate) fn refusal(&self) -> Option<String> {
        let mut state = self.state.lock();
        let outage = state.outage.as_mut()?;
        if outage.last_probe.elapsed() >= PROBE_EVERY {
            outage.last_probe = Instant::now();
            return None;
        }
        Some(outage.why.clone())
    }

    /// Why the cluster does not acknowledge now, if it does not.
    pub(crate) fn why(&self) -> Option<String> {
        self.state.lock().outage.as_ref().map(|outage| outage.why.clone())
    }

    pub(crate) fn said(&self) -> Option<String> {
        self.said.lock().clone()
    }
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
            *self.health.said.lock() = Some(reason.to_owned());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_does_nothing_and_loses_its_connection_is_no_outage() {
        let health = Health::default();
        health.is_well(Sends::AtOnce);
        health.is_down(Sends::Together, true, "closed");
        assert_eq!(health.why(), None);
        health.is_down(Sends::AtOnce, true, "all are down");
        assert_eq!(health.why().as_deref(), Some("all are down"));
        health.is_well(Sends::AtOnce);
        assert_eq!(health.why(), None);
        health.is_down(Sends::AtOnce, false, "with work");
        assert_eq!(health.why().as_deref(), Some("with work"));
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_cluster_is_down_one_append_a_second_finds_out() {
        let health = Health::default();
        health.is_down(Sends::AtOnce, false, "down");
        assert!(health.refusal().is_some());
        tokio::time::advance(PROBE_EVERY).await;
        assert!(health.refusal().is_none());
        assert!(health.refusal().is_some());
    }
}
