//! Acknowledgements of exactly-once subscriptions, which Google confirms one by one.
//!
//! A message whose acknowledgement was not confirmed may come again. It is stored already, so it is acknowledged again and not
//! stored again: as long as this process remembers it.

use std::collections::{HashMap, VecDeque};

use adapter::Accepted;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use google_cloud_pubsub::subscriber::handler::Handler;

use crate::upstream::LeasedMessage;

/// Messages remembered as stored and not confirmed: ten times what Google leases to us, 1 MiB or so.
const REMEMBERED_MAX: usize = 10_000;

/// The id of a message, and whether its acknowledgement was confirmed.
type Answer = (String, bool);

/// Acknowledgements under way, and the proofs of those that were not confirmed.
#[derive(Default)]
pub(crate) struct Confirmations {
    pending: FuturesUnordered<BoxFuture<'static, Answer>>,
    stored: HashMap<String, Accepted>,
    /// The oldest first; also ids that were confirmed meanwhile.
    order: VecDeque<String>,
}

impl Confirmations {
    /// Acknowledges a message, with the proof that it is stored (CONTRACT SR-1).
    pub(crate) fn acknowledge(&mut self, proof: Accepted, (message, handler): LeasedMessage) {
        match handler {
            Handler::ExactlyOnce(handler) => {
                let id = message.message_id;
                self.remember(id.clone(), proof);
                let confirmed = handler.confirmed_ack().map(|answer| (id, answer.is_ok()));
                self.pending.push(confirmed.boxed());
            }
            best_effort => best_effort.ack(),
        }
    }

    /// The proof that this message is stored, if its acknowledgement was not confirmed.
    pub(crate) fn proof(&self, id: &str) -> Option<Accepted> {
        self.stored.get(id).copied()
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Waits for the next answer.
    pub(crate) async fn answered(&mut self) {
        let Some((id, confirmed)) = self.pending.next().await else {
            return;
        };
        if confirmed {
            self.stored.remove(&id);
        } else {
            tracing::debug!(
                message = id,
                "acknowledgement is not confirmed, the message may come again"
            );
        }
    }

    fn remember(&mut self, id: String, proof: Accepted) {
        if self.stored.insert(id.clone(), proof).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.stored.remove(&oldest);
        }
    }
}
