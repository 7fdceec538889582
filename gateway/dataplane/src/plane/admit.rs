//! Puts publishers in force: they change while their channel stays open.

use std::sync::Arc;

use spec::model;

use super::{OpenChannel, Plane};
use crate::publishers::Publishers;

impl Plane {
    /// Puts other publishers in force, without reopening the channel.
    pub(super) fn admit(&self, model: &model::Channel) {
        let mut state = self.0.runtime.state.lock();
        if let Some(open) = state.channels.get_mut(&model.name) {
            let publishers = self.publishers(model, Some(open));
            open.endpoint.set_publishers(publishers);
            open.model = Arc::new(model::Channel {
                publishing: model.publishing.clone(),
                ..(*open.model).clone()
            });
        }
    }

    /// The publishers of a channel, which may be open already.
    pub(super) fn publishers(&self, model: &model::Channel, before: Option<&OpenChannel>) -> Publishers {
        let before = before.map(|open| open.endpoint.publishers());
        Publishers::new(
            &model.name,
            &model.publishing,
            before.as_deref(),
            &self.0.ingress.issuers,
        )
    }
}
