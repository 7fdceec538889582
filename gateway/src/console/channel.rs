//! The events of a channel: the newest, and back through what it keeps; by attribute or expression; each with its fate.

mod read;
mod view;

use axum::{
    Extension,
    extract::{Path, Query, State},
    response::Response,
};
use cesql::Filter;
use serde::Deserialize;
use spec::{ObjectName, expression};

use super::{
    Console, Trouble,
    guard::Visitor,
    layout::{self, Head},
};
use crate::admin::Refusal;
use read::{Before, Selection};

/// The channel's fates are shown for each event up to so many subscriptions; each costs a look at its cursor and its filters.
const FATES_MAX: usize = 32;

/// The attributes and the expression that narrow the list.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Narrowed {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    subject: String,
    /// A CESQL expression.
    #[serde(default)]
    filter: String,
    /// The offset before which each range is read, as an older page's link has it.
    #[serde(default)]
    before: String,
}

impl Narrowed {
    fn pairs(&self) -> [(&'static str, &str); 4] {
        [
            ("type", &*self.kind),
            ("source", &*self.source),
            ("subject", &*self.subject),
            ("filter", &*self.filter),
        ]
    }

    fn selection(&self) -> Result<Selection, Trouble> {
        let exact = || self.pairs().into_iter().take(3).filter(|(_, value)| !value.is_empty());
        let exact = (exact().count() > 0).then(|| Filter::exact(exact()));
        let expression = (!self.filter.is_empty()).then(|| parsed(&self.filter)).transpose()?;
        Ok(Selection { exact, expression })
    }
}

/// An expression as a person types it. A fault is shown with a caret below the text.
fn parsed(text: &str) -> Result<Filter, Trouble> {
    let checked = expression::read(text).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(|fault| fault.caret(text)).collect();
        Trouble::bad_request(format!("the expression cannot be used: {}", faults.join("\n")))
    })?;
    Filter::cesql(checked.expression).map_err(|error| Trouble::bad_request(error.to_string()))
}

/// `GET /ui/channels/NAMESPACE/NAME`.
pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path((namespace, name)): Path<(String, String)>,
    Query(narrowed): Query<Narrowed>,
) -> Result<Response, Trouble> {
    let name = ObjectName::new(namespace, name);
    let plane = console.plane();
    let spec = plane.spec();
    if !spec.channels.contains_key(&name) {
        return Err(Trouble::not_found(format!("channel {name} not found")));
    }
    let head = Head::new(format!("Channel {name}")).following(&name);
    let (selection, fault) = match narrowed.selection() {
        Ok(selection) => (Some(selection), None),
        Err(trouble) => (None, Some(trouble.message)),
    };
    let channel = plane.channel(&name);
    let mut view = view::ChannelView {
        name: &name,
        narrowed: &narrowed,
        fault,
        status: plane
            .observe()
            .objects
            .remove(&spec::ObjectKey::new(spec::Kind::Channel, name.clone())),
        subscriptions: spec.subscriptions.values().filter(|of| of.channel == name).count(),
        depth: channel.as_ref().map(|channel| channel.depth()),
        address: format!("{}/{name}", console.0.admin.ingress_url()),
        slice: None,
        fates: Vec::new(),
    };
    if let (Some(channel), Some(selection)) = (channel, selection) {
        // Never closed.
        let _turn = console.0.readers.acquire().await;
        let before = Before::parse(&narrowed.before)?;
        let slice = read::newest(&*channel, before, &selection).await;
        let slice = slice.map_err(|error| Trouble::from(Refusal::unavailable(&error)))?;
        if (1..=FATES_MAX).contains(&view.subscriptions) {
            let fates = plane.fates(&name, &*channel, &slice.records).await;
            view.fates = fates.map_err(|error| Trouble::from(Refusal::from(error)))?;
        }
        view.slice = Some(slice);
    }
    Ok(layout::page(&console, &visitor, &head, &view.render()))
}
