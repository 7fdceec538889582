//! Cursors of one name and several owners, where several gateways have a channel: one that is behind does no harm.

use std::sync::Arc;

use super::kit::{append, drain, name};
use crate::{Channel, Start};

/// Rounds of two gateways that meet: the more, the closer together some of them come.
const ROUNDS: usize = 8;

/// A subscription was deleted and recreated. One gateway knows, the other still serves the former one or is about to
/// delete its cursor. For channels that several gateways may have: `open` is a further gateway.
///
/// # Panics
/// When the cursor of the new one is not there, or not where it was.
pub async fn a_gateway_that_is_behind_takes_no_cursor_away(open: impl AsyncFn() -> Arc<dyn Channel>) {
    let (first, behind) = (open().await, open().await);
    let of = async |channel: &Arc<dyn Channel>, cursor: &str, owner: &str| {
        let name = name(cursor);
        let subscribed = channel.subscribe(&name, Some(owner), Start::Latest).await;
        subscribed.expect("a cursor")
    };
    drop(of(&first, "a", "former").await);
    let mut present = of(&first, "a", "present").await;
    append(&first, 0..3).await;
    assert_eq!(drain(&mut present, 1).await, [0]);
    // It starts, and takes the former one for the present one.
    drop(of(&behind, "a", "former").await);
    append(&behind, 3..5).await;
    // Then it hears.
    behind.delete(&name("a"), Some("former")).await.expect("it is deleted");
    assert_eq!(drain(&mut present, 4).await, [1, 2, 3, 4]);
    for round in 0..ROUNDS {
        let cursor = format!("r{round}");
        drop(of(&behind, &cursor, "former").await);
        let of_cursor = name(&cursor);
        let deleted = behind.delete(&of_cursor, Some("former"));
        let (deleted, made) = tokio::join!(deleted, of(&first, &cursor, "present"));
        deleted.expect("it is deleted");
        drop(made);
    }
    drop(present);
    first.close().await;
    behind.close().await;
    let mut left: Vec<(String, Option<String>)> = open()
        .await
        .depth()
        .cursors
        .into_iter()
        .map(|cursor| (cursor.name.to_string(), cursor.owner))
        .collect();
    left.sort();
    let mut expected: Vec<_> = (0..ROUNDS)
        .map(|round| (format!("r{round}"), Some("present".to_owned())))
        .collect();
    expected.push(("a".to_owned(), Some("present".to_owned())));
    expected.sort();
    assert_eq!(left, expected);
}
