//! One event's story: where it is stored, what each subscription did with it and when, and its bytes. It shows what `headgate explain`
//! knows, as a time line.

mod data;
mod timeline;
mod view;

use axum::{
    Extension,
    extract::{Path, Query, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use channel::Offset;
use dataplane::Explain;
use futures_util::StreamExt;
use serde::Deserialize;
use spec::ObjectName;

use super::{
    Console, Trouble,
    guard::Visitor,
    layout::{self, Head},
};
use crate::admin::{self, Refusal, object};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    id: String,
    #[serde(default)]
    source: String,
    /// `NAMESPACE/NAME`.
    #[serde(default)]
    channel: String,
    /// How many offsets of each channel are searched.
    last: Option<u64>,
    /// The form in which the data is shown.
    #[serde(default)]
    view: data::Form,
}

/// `GET /ui/events/ID`.
pub(super) async fn by_path(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Trouble> {
    story(&console, &visitor, Asked { id, ..asked }).await
}

/// `GET /ui/events?id=ID`: what the search asks for, and ids that cannot stand in a path.
pub(super) async fn by_query(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Result<Response, Trouble> {
    let asked = Asked {
        id: asked.id.trim().to_owned(),
        ..asked
    };
    if asked.id.is_empty() {
        return Err(Trouble::bad_request("type the id of an event"));
    }
    story(&console, &visitor, asked).await
}

async fn story(console: &Console, visitor: &Visitor, asked: Asked) -> Result<Response, Trouble> {
    let plane = console.plane();
    let channel = Some(&*asked.channel).filter(|text| !text.is_empty());
    let channel = channel.map(|text| object("channel", text)).transpose()?;
    if let Some(name) = channel
        .as_ref()
        .filter(|name| !plane.spec().channels.contains_key(*name))
    {
        return Err(Trouble::not_found(format!("channel {name} not found")));
    }
    let what = Explain {
        id: asked.id.clone(),
        source: Some(asked.source.clone()).filter(|source| !source.is_empty()),
        channel: channel.clone(),
        last: asked.last.unwrap_or(admin::explain::LAST).min(admin::explain::LAST_MAX),
    };
    let explained = {
        // Never closed.
        let _turn = console.0.readers.acquire().await;
        plane.explain(&what).await
    };
    let answer = match explained.dead_letters.first() {
        Some(newest) => whole_answer(console, newest).await?,
        None => None,
    };
    let head = Head::new(format!("Event {}", asked.id));
    let head = match channel.or_else(|| explained.found.first().map(|found| found.channel.clone())) {
        Some(channel) => head.following(&channel),
        None => head.ticking(),
    };
    let is_known = !(explained.found.is_empty() && explained.dead_letters.is_empty() && explained.tries.is_empty());
    let view = view::StoryView {
        asked: &asked,
        last: what.last,
        explained: &explained,
        answer,
        ingress: console.0.admin.ingress_url(),
    };
    let mut page = layout::page(console, visitor, &head, &view.render());
    if !is_known {
        *page.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(page)
}

/// The dead letter with its event's data and the answer's body, which an explanation leaves out; `None` when it was removed since.
async fn whole_answer(
    console: &Console,
    newest: &dataplane::DeadLetter,
) -> Result<Option<dataplane::DeadLetter>, Trouble> {
    let (id, offset) = (newest.event.id().to_owned(), newest.offset);
    let show = move |dead_letter: &dataplane::DeadLetter| {
        (dead_letter.offset == offset && dead_letter.event.id() == id).then(String::new)
    };
    let listed = console.plane().list_dead_letters(Some(&newest.subscription), show);
    let mut listed = std::pin::pin!(listed);
    let failed = |error| Trouble::from(Refusal::from(error));
    match listed.next().await.transpose().map_err(failed)? {
        Some(listed) => listed.read().await.map_err(failed),
        None => Ok(None),
    }
}

/// `GET /ui/data/NAMESPACE/NAME/OFFSET`: the data of an event, byte for byte, as a file. A browser never shows it.
pub(super) async fn download(
    State(console): State<Console>,
    Path((namespace, name, offset)): Path<(String, String, u64)>,
) -> Result<Response, Trouble> {
    let name = ObjectName::new(namespace, name);
    let Some(channel) = console.plane().channel(&name) else {
        return Err(Trouble::not_found(format!("channel {name} not found, or not open")));
    };
    let records = {
        // Never closed.
        let _turn = console.0.readers.acquire().await;
        channel.read(Offset(offset), 1).await
    };
    let records = records.map_err(|error| Trouble::from(Refusal::unavailable(&error)))?;
    let record = records.into_iter().find(|record| record.offset.0 == offset);
    let record = record.ok_or_else(|| {
        Trouble::not_found(format!(
            "channel {name} keeps no event at offset {offset}: it is settled and gone"
        ))
    })?;
    let mut answer = record.event.data().clone().into_response();
    let head = answer.headers_mut();
    head.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    let disposition = format!("attachment; filename=\"event-{offset}.bin\"");
    if let Ok(disposition) = disposition.parse() {
        head.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(answer)
}
