//! The home page: what is wrong, then where events come from, where they are and where they go, with rates and backlogs.

mod lanes;
mod view;

pub(super) use lanes::unmet;
pub(super) use view::troubles;

use axum::{
    Extension,
    extract::{Query, State},
    response::Response,
};
use serde::Deserialize;

use super::{
    Console, Trouble,
    guard::Visitor,
    layout::{self, Head},
};
use crate::admin::object;

/// The part of the flow that is shown.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Part {
    /// A namespace; empty: all.
    #[serde(default)]
    namespace: String,
    /// One channel, with all its subscriptions.
    #[serde(default)]
    channel: String,
    /// Counts from 0.
    #[serde(default)]
    page: usize,
}

/// `GET /`.
pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(part): Query<Part>,
) -> Result<Response, Trouble> {
    let channel = Some(&*part.channel).filter(|text| !text.is_empty());
    let channel = channel.map(|text| object("channel", text)).transpose()?;
    let flow = lanes::Flow::of(&console, &part, channel.as_ref());
    if let Some(name) = channel.filter(|_| flow.lanes.is_empty()) {
        return Err(Trouble::not_found(format!("channel {name} not found")));
    }
    let body = view::render(&console, &part, &flow);
    Ok(layout::page(&console, &visitor, &Head::new("Flow").ticking(), &body))
}
