//! Helpers of the cases.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use event::Event;

use crate::{Channel, Cursor, CursorName, Delivered, Delivery, Discard, Disposition, Start};

/// Longer than anything a case waits for on purpose; time is paused there, so it costs nothing.
pub(super) const LONG: Duration = Duration::from_secs(3600);

pub(super) fn name(name: &str) -> CursorName {
    CursorName::new(name)
}

/// An event that says which one it is.
pub(super) fn event(number: u64) -> Event {
    sized(number, 16)
}

/// An event with that many bytes of data.
pub(super) fn sized(number: u64, bytes: usize) -> Event {
    let data: Vec<u8> = number
        .to_string()
        .bytes()
        .chain(std::iter::repeat(b' '))
        .take(bytes.max(20))
        .collect();
    Event::builder(&format!("e-{number}"), "/suite", "dev.headgate.suite")
        .data("application/octet-stream", Bytes::from(data))
        .finish()
        .expect("a valid event")
}

pub(super) fn number(event: &Event) -> u64 {
    event
        .id()
        .strip_prefix("e-")
        .and_then(|number| number.parse().ok())
        .expect("an event of this suite")
}

pub(super) async fn append(channel: &Arc<dyn Channel>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let stored = channel.append(&[event(number)]).await.expect("space for an event");
        assert_eq!(stored.durability(), channel.promises().durability);
    }
}

pub(super) async fn subscribe(channel: &Arc<dyn Channel>, cursor: &str, start: Start) -> Box<dyn Cursor> {
    channel.subscribe(&name(cursor), None, start).await.expect("a cursor")
}

/// Exactly so many deliveries, by as many calls as it takes.
pub(super) async fn take(cursor: &mut Box<dyn Cursor>, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let page = cursor.next(count - taken.len()).await.expect("deliveries");
        assert!(
            !page.is_empty() && page.len() <= count - taken.len(),
            "a page of {}",
            page.len()
        );
        taken.extend(page);
    }
    taken
}

pub(super) fn ack(delivery: Delivery) {
    let proof = Delivered::by_status(204).expect("a 2xx");
    delivery
        .ack(Disposition::Accepted(proof))
        .expect("a cursor that is there");
}

pub(super) fn discard(deliveries: Vec<Delivery>) {
    for delivery in deliveries {
        delivery
            .ack(Disposition::Discarded(Discard::Filtered))
            .expect("a cursor that is there");
    }
}

pub(super) fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| number(delivery.event())).collect()
}

/// Takes and settles so many; returns their numbers.
pub(super) async fn drain(cursor: &mut Box<dyn Cursor>, count: usize) -> Vec<u64> {
    let taken = take(cursor, count).await;
    let drained = numbers(&taken);
    taken.into_iter().for_each(ack);
    drained
}

/// Asserts that the cursor has nothing to hand out: not now, and not within `time` (which should be paused).
pub(super) async fn nothing(cursor: &mut Box<dyn Cursor>, time: Duration) {
    if let Ok(page) = tokio::time::timeout(time, cursor.next(1)).await {
        let page = page.expect("a cursor that is there");
        panic!("nothing was expected, and {:?} came", numbers(&page));
    }
}

/// Asserts that the cursor has nothing to hand out right now.
pub(super) async fn idle(cursor: &mut Box<dyn Cursor>) {
    nothing(cursor, Duration::from_millis(1)).await;
}

pub(super) fn survives(channel: &Arc<dyn Channel>) -> bool {
    channel.promises().survives_restart
}
