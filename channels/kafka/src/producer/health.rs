//! Whether the cluster can be reached.

use channel_broker::Outage;
use parking_lot::Mutex;

use super::sends::Sends;

/// Whether the cluster can be reached, as far as anybody noticed.
#[derive(Default)]
pub(crate) struct Health {
    outage: Outage,
    /// Which of the producers have no connection.
    down: Mutex<[bool; Sends::ALL.len()]>,
    /// The last report of a client about a connection: a refused password is reported nowhere else.
    pub(super) reported: Mutex<Option<String>>,
}

impl Health {
    pub(super) fn is_well(&self, client: Sends) {
        self.down.lock()[client as usize] = false;
        if self.outage.end() {
            tracing::info!("Kafka acknowledges again");
        }
    }

    /// A client has no connection left. One that does nothing loses its own to brokers that close what is idle, while another
    /// is well: that is no outage.
    pub(super) fn is_down(&self, client: Sends, is_idle: bool, why: &str) {
        let mut down = self.down.lock();
        down[client as usize] = true;
        if !is_idle || *down == [true; Sends::ALL.len()] {
            self.failed(why);
        }
    }

    pub(super) fn failed(&self, why: &str) {
        if self.outage.failed(why.to_owned()) {
            tracing::warn!(why, "Kafka does not acknowledge, appends are refused until it does");
        }
        // The client reports a cluster that is away again and again. An append that probed it would wait for 15 s.
        self.outage.postpone_probe();
    }

    /// The reason to refuse an append now: see [`Outage::refusal`].
    pub(crate) fn refusal(&self) -> Option<String> {
        self.outage.refusal()
    }

    /// Why the cluster does not acknowledge now, if it does not.
    pub(crate) fn why(&self) -> Option<String> {
        self.outage.why()
    }

    pub(crate) fn reported(&self) -> Option<String> {
        self.reported.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_does_nothing_and_loses_its_connection_is_no_outage() {
        let health = Health::default();
        health.is_well(Sends::AtOnce);
        health.is_down(Sends::Lingering, true, "closed");
        assert_eq!(health.why(), None);
        health.is_down(Sends::AtOnce, true, "all are down");
        assert_eq!(health.why().as_deref(), Some("all are down"));
        health.is_well(Sends::AtOnce);
        assert_eq!(health.why(), None);
        health.is_down(Sends::AtOnce, false, "with work");
        assert_eq!(health.why().as_deref(), Some("with work"));
    }
}
