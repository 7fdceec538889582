//! Ordering: which of the events that were pulled may start, and which wait for one of their own key (CONTRACT CH-6).
//!
//! A lane is a key whose first event is being delivered; the others of that key wait behind it in stored order. Events
//! without a key have no lane. Pure: no time, no I/O.

use std::collections::{HashMap, VecDeque};

use channel::Delivery;
use event::Event;
use spec::model::Ordering;

/// The lane an event ran in, handed back when its journey ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lane(Box<str>);

#[derive(Default)]
pub(crate) struct Lanes {
    /// A key is in here from the moment its first event may start until its last has ended.
    busy: HashMap<Lane, VecDeque<Delivery>, foldhash::fast::RandomState>,
    /// May start, in order, as soon as there is a slot.
    ready: VecDeque<(Delivery, Option<Lane>)>,
    /// Events behind another of their key.
    waiting: usize,
    /// The bytes of all events ready or waiting: added when admitted, subtracted when started.
    bytes: usize,
}

impl Lanes {
    /// Takes a pulled event: it is ready, or waits for its lane.
    pub(crate) fn admit(&mut self, delivery: Delivery, ordering: Ordering) {
        self.bytes += delivery.event().size();
        let Some(lane) = lane(delivery.event(), ordering) else {
            self.ready.push_back((delivery, None));
            return;
        };
        match self.busy.get_mut(&lane) {
            Some(behind) => {
                behind.push_back(delivery);
                self.waiting += 1;
            }
            None => {
                self.busy.insert(lane.clone(), VecDeque::new());
                self.ready.push_back((delivery, Some(lane)));
            }
        }
    }

    /// The next that may start.
    pub(crate) fn start(&mut self) -> Option<(Delivery, Option<Lane>)> {
        let next = self.ready.pop_front()?;
        self.bytes -= next.0.event().size();
        Some(next)
    }

    /// The event that ran in this lane ended: the next of its key is ready, before all others.
    pub(crate) fn ended(&mut self, lane: Lane) {
        let Some(behind) = self.busy.get_mut(&lane) else { return };
        match behind.pop_front() {
            Some(next) => {
                self.waiting -= 1;
                self.ready.push_front((next, Some(lane)));
            }
            None => {
                self.busy.remove(&lane);
            }
        }
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Events held and not started.
    pub(crate) fn held(&self) -> usize {
        self.ready.len() + self.waiting
    }

    /// Attributes and data of those, bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Releases everything held to the channel. A key whose first event is running stays busy until that one ends.
    pub(crate) fn release_all(&mut self) {
        for (_, lane) in self.ready.drain(..) {
            if let Some(lane) = lane {
                self.busy.remove(&lane);
            }
        }
        self.busy.values_mut().for_each(VecDeque::clear);
        (self.waiting, self.bytes) = (0, 0);
    }
}

fn lane(event: &Event, ordering: Ordering) -> Option<Lane> {
    match ordering {
        Ordering::None => None,
        Ordering::Key => event.text("partitionkey").map(|key| Lane(key.into())),
        Ordering::Total => Some(Lane("".into())),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::{Duration, SystemTime};

    use channel::{Attempts, Offset, Settle, SettleError};

    use super::*;

    struct Nothing;
    impl Settle for Nothing {
        fn ack(self: Box<Self>) -> Result<(), SettleError> {
            Ok(())
        }
        fn release(self: Box<Self>, _: Duration) {}
        fn remember(&mut self, _: Attempts) {}
    }

    fn delivery(offset: u64, key: Option<&str>) -> Delivery {
        let builder = Event::builder(&offset.to_string(), "/s", "t");
        let event = key
            .map_or(builder.clone(), |key| builder.set("partitionkey", key))
            .finish()
            .unwrap();
        Delivery::new(
            event,
            Offset(offset),
            SystemTime::UNIX_EPOCH,
            Attempts::default(),
            Box::new(Nothing),
        )
    }

    fn started(lanes: &mut Lanes) -> Vec<(u64, Option<Lane>)> {
        std::iter::from_fn(|| lanes.start())
            .map(|(delivery, lane)| (delivery.offset().0, lane))
            .collect()
    }

    /// Proves: CH-6
    #[test]
    fn a_key_waits_for_its_own_and_others_go_on() {
        let mut lanes = Lanes::default();
        for (offset, key) in [
            (0, Some("a")),
            (1, Some("a")),
            (2, Some("b")),
            (3, None),
            (4, Some("a")),
            (5, None),
        ] {
            lanes.admit(delivery(offset, key), Ordering::Key);
        }
        let first = started(&mut lanes);
        assert_eq!(
            first.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(),
            [0, 2, 3, 5]
        );
        assert_eq!(lanes.held(), 2);
        lanes.ended(first[0].1.clone().unwrap());
        let second = started(&mut lanes);
        assert_eq!(second[0].0, 1);
        assert!(started(&mut lanes).is_empty());
        lanes.ended(second[0].1.clone().unwrap());
        assert_eq!(started(&mut lanes)[0].0, 4);
        assert_eq!((lanes.held(), lanes.held_bytes()), (0, 0));
    }

    /// Proves: CH-6
    #[test]
    fn total_order_is_one_lane_and_none_is_no_lane() {
        let mut lanes = Lanes::default();
        for offset in 0..3 {
            lanes.admit(delivery(offset, Some("k")), Ordering::Total);
        }
        assert_eq!(started(&mut lanes).len(), 1);
        let mut lanes = Lanes::default();
        for offset in 0..3 {
            lanes.admit(delivery(offset, Some("k")), Ordering::None);
        }
        assert_eq!(started(&mut lanes).len(), 3);
    }
}
