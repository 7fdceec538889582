//! One subscription: how it is, what it has left to do, its latest attempts, the settings in force and where each comes from; pause,
//! resume, replay.

mod replay;
mod settings;
mod view;

use std::time::SystemTime;

use axum::{
    Extension,
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use channel::{Attempts, Channel, CursorName, Offset, ReadError, Record, SettlementState};
use spec::{Kind, ObjectKey, ObjectName};

use super::{
    Console, Trouble,
    guard::Visitor,
    layout::{self, Head},
    urls,
};
use crate::admin::Refusal;
pub(super) use replay::{confirm as confirm_replay, start as start_replay};

/// Events that wait and are listed.
const WAITING_MAX: usize = 20;

/// Offsets that are searched for them, from the oldest unsettled one on.
const SEARCHED_MAX: u64 = 2000;

/// Events read at once; the channel bounds their bytes.
const PAGE: usize = 64;

/// Attempts from which latencies are taken, and those that are listed.
const TRIES_MAX: usize = 1000;

/// An event that the subscription has not settled.
struct WaitingEvent {
    id: String,
    source: String,
    offset: Offset,
    stored_at: SystemTime,
    attempts: Attempts,
}

fn name(console: &Console, namespace: String, name: String) -> Result<ObjectName, Trouble> {
    let name = ObjectName::new(namespace, name);
    if console.plane().spec().subscriptions.contains_key(&name) {
        return Ok(name);
    }
    Err(Trouble::not_found(format!("subscription {name} not found")))
}

/// `GET /ui/subscriptions/NAMESPACE/NAME`.
pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Response, Trouble> {
    let name = self::name(&console, namespace, name)?;
    let plane = console.plane();
    let spec = plane.spec();
    let Some(model) = spec.subscriptions.get(&name) else {
        return Err(Trouble::not_found(format!("subscription {name} not found")));
    };
    let waiting = match plane.channel(&model.channel) {
        Some(channel) => {
            // Never closed.
            let _turn = console.0.readers.acquire().await;
            let waiting = waiting(&*channel, &name).await;
            waiting.map_err(|error| Trouble::from(Refusal::unavailable(&error)))?
        }
        None => Vec::new(),
    };
    let traffic = plane.traffic();
    let view = view::SubscriptionView {
        visitor: &visitor,
        model,
        status: plane
            .observe()
            .objects
            .remove(&ObjectKey::new(Kind::Subscription, name.clone())),
        backlog: plane.backlogs().get(&name).copied().unwrap_or_default(),
        recent: console.0.history.subscription(&name, &traffic),
        counts: traffic.subscriptions.get(&name).copied().unwrap_or_default(),
        tries: plane.newest_tries(&name, TRIES_MAX),
        waiting,
        settings: settings::in_force(model, &spec),
        jobs: console.0.jobs.of(Some(&name)),
    };
    let head = Head::new(format!("Subscription {name}")).ticking();
    Ok(layout::page(&console, &visitor, &head, &view.render()))
}

/// The oldest events that it has not settled.
async fn waiting(channel: &dyn Channel, name: &ObjectName) -> Result<Vec<WaitingEvent>, ReadError> {
    let cursor = CursorName::new(name.to_string());
    let depth = channel.depth();
    let Some(status) = depth
        .cursors
        .into_iter()
        .find(|status| status.name == cursor && status.unsettled > 0)
    else {
        return Ok(Vec::new());
    };
    let (mut from, mut found) = (status.settled_below, Vec::new());
    let end = Offset(from.0.saturating_add(SEARCHED_MAX)).min(depth.next);
    while from < end && found.len() < WAITING_MAX {
        let page = channel.read(from, PAGE).await?;
        let Some(last) = page.last() else { break };
        from = last.offset.next();
        let open = page.iter().filter_map(|record| waiting_event(channel, &cursor, record));
        found.extend(open);
    }
    found.truncate(WAITING_MAX);
    Ok(found)
}

fn waiting_event(channel: &dyn Channel, cursor: &CursorName, record: &Record) -> Option<WaitingEvent> {
    match channel.settlement_state(cursor, record.offset)? {
        SettlementState::Settled => None,
        SettlementState::Open(attempts) => Some(WaitingEvent {
            id: record.event.id().to_owned(),
            source: record.event.source().to_owned(),
            offset: record.offset,
            stored_at: record.stored_at,
            attempts,
        }),
    }
}

/// `POST /ui/subscriptions/NAMESPACE/NAME/pause`.
pub(super) async fn pause(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Response, Trouble> {
    let name = self::name(&console, namespace, name)?;
    console.plane().pause(&name).await.map_err(Refusal::from)?;
    visitor.log("pause", &name, 1);
    Ok(Redirect::to(&urls::subscription(&name)).into_response())
}

/// `POST /ui/subscriptions/NAMESPACE/NAME/resume`.
pub(super) async fn resume(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Response, Trouble> {
    let name = self::name(&console, namespace, name)?;
    console.plane().resume(&name).await.map_err(Refusal::from)?;
    visitor.log("resume", &name, 1);
    Ok(Redirect::to(&urls::subscription(&name)).into_response())
}
