//! The dead-letter log.

use bytes::Bytes;
use event::{Event, Value, ValueKind};

use super::{Backend, kit::*};
use crate::{ANSWER_MAX_BYTES, Channel, DeadLetterFacts, FACTS_MAX_BYTES, Offset, Start};

fn facts() -> Bytes {
    DeadLetterFacts::default().encode()
}

async fn list(channel: &dyn Channel, from: Offset, max: usize) -> Vec<(u64, Offset)> {
    let page = channel.dead_letters().list(from, max).await.expect("a page of letters");
    page.iter()
        .map(|dead_letter| (number(&dead_letter.event), dead_letter.offset))
        .collect()
}

/// Stored in order, paged, removed one by one; events and letters do not mix.
pub async fn dead_letters_are_kept_listed_and_removed(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 100..101).await;
    assert_eq!(
        (channel.dead_letters().count(), list(&*channel, Offset(0), 10).await),
        (0, vec![])
    );
    for dead_letter in 0..5 {
        let stored = channel
            .dead_letters()
            .store(&event(dead_letter), &facts())
            .await
            .expect("a stored letter");
        assert_eq!(stored.durability(), channel.promises().durability);
    }
    let all = list(&*channel, Offset(0), 10).await;
    assert_eq!(
        all.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4]
    );
    assert_eq!(list(&*channel, Offset(0), 2).await, all[..2]);
    assert_eq!(list(&*channel, all[1].1.next(), 10).await, all[2..]);
    let removed = channel
        .dead_letters()
        .remove(&[all[1].1, all[3].1, all[3].1, Offset(9999)])
        .await;
    assert_eq!(removed.expect("removed letters"), 2);
    assert_eq!(list(&*channel, Offset(0), 10).await, [all[0], all[2], all[4]]);
    assert_eq!(channel.dead_letters().count(), 3);
    let rest: Vec<Offset> = all.iter().map(|(_, offset)| *offset).collect();
    assert_eq!(channel.dead_letters().remove(&rest).await.expect("removed letters"), 3);
    assert_eq!(
        (channel.dead_letters().count(), list(&*channel, Offset(0), 10).await),
        (0, vec![])
    );
    let _ = channel
        .dead_letters()
        .store(&event(7), &facts())
        .await
        .expect("a stored letter");
    assert_eq!(list(&*channel, Offset(0), 10).await.len(), 1);
    assert_eq!(drain(&mut cursor, 1).await, [100]);
    // A letter carries an answer too, so it may be larger than the largest event. Only where that is quickly tried.
    let limit = channel.promises().max_event_bytes;
    if limit <= 1 << 20 {
        let _ = channel
            .dead_letters()
            .store(&sized(8, limit + 1000), &facts())
            .await
            .expect("a stored letter");
    }
}

/// An event with every attribute it may have, some of them named as facts once were.
fn full_event(partition_key: bool) -> Event {
    let mut event = Event::builder("1", "/suite", "dev.headgate.suite")
        .set("headgatesubscription", "default/payments")
        .set("headgatereason", "SinkRejected")
        .set("knativeerrordest", "http://bank.example/")
        .set("subject", " \u{20ac} 100% \"x\" ")
        .set_value(
            "count",
            Value {
                text: "-7",
                kind: ValueKind::Integer,
            },
        )
        .data("application/octet-stream", Bytes::from_static(&[0, 255, 10, 13]));
    if partition_key {
        event = event.set("partitionkey", "k");
    }
    let mut number = 0;
    loop {
        let fuller = event.clone().set(&format!("x{number}"), &"v".repeat(100));
        match fuller.clone().finish() {
            Ok(_) => event = fuller,
            Err(_) => return event.finish().expect("an event with all attributes"),
        }
        number += 1;
    }
}

/// Whatever the event says, and however long the answer: both come back, and neither is taken for the other.
pub async fn a_dead_letter_keeps_event_and_facts_byte_for_byte(backend: &dyn Backend) {
    let mut channel = backend.open().await;
    let reported = DeadLetterFacts {
        subscription: "default/audit".into(),
        reason: "SinkError".into(),
        code: Some(500),
        attempts: 3,
        answer: (0..ANSWER_MAX_BYTES)
            .map(|at| u8::try_from(at % 256).unwrap_or_default())
            .collect(),
        ..DeadLetterFacts::default()
    };
    let any = Bytes::from(vec![0xa7; FACTS_MAX_BYTES]);
    let stored = [
        (full_event(true), reported.encode()),
        (full_event(false), any),
        (event(3), Bytes::new()),
    ];
    assert_eq!(stored[0].0.attributes().count(), 256);
    for (event, facts) in &stored {
        let _ = channel
            .dead_letters()
            .store(event, facts)
            .await
            .expect("a stored letter");
    }
    for restart in [false, true] {
        if restart {
            if !survives(&channel) {
                return;
            }
            backend.crash(channel).await;
            channel = backend.open().await;
        }
        let mut listed = Vec::new();
        while let Some(dead_letter) = {
            let from = listed
                .last()
                .map_or(Offset(0), |dead_letter: &crate::StoredDeadLetter| {
                    dead_letter.offset.next()
                });
            let mut page = channel.dead_letters().list(from, 1).await.expect("a page of letters");
            page.pop()
        } {
            listed.push(dead_letter);
        }
        assert_eq!(listed.len(), stored.len());
        for (dead_letter, (event, facts)) in listed.iter().zip(&stored) {
            assert_eq!(dead_letter.event, *event);
            assert!(dead_letter.facts == *facts, "the facts changed");
        }
        assert_eq!(DeadLetterFacts::decode(&listed[0].facts).as_ref(), Ok(&reported));
        assert!(
            DeadLetterFacts::decode(&listed[2].facts).is_err(),
            "nothing the event says is a fact"
        );
    }
    channel.close().await;
}

/// Letters and their absence survive a clean close and a crash.
pub async fn dead_letters_survive_a_restart(backend: &dyn Backend) {
    let mut channel = backend.open().await;
    if !survives(&channel) {
        return;
    }
    for dead_letter in 0..4 {
        let _ = channel
            .dead_letters()
            .store(&event(dead_letter), &facts())
            .await
            .expect("a stored letter");
    }
    let all = list(&*channel, Offset(0), 10).await;
    assert_eq!(
        channel
            .dead_letters()
            .remove(&[all[0].1, all[2].1])
            .await
            .expect("removed letters"),
        2
    );
    for crash in [false, true, true] {
        if crash {
            backend.crash(channel).await;
        } else {
            channel.close().await;
            drop(channel);
        }
        channel = backend.open().await;
        assert_eq!(list(&*channel, Offset(0), 10).await, [all[1], all[3]]);
        assert_eq!(channel.dead_letters().count(), 2);
    }
}
