//! The names of subscribers that a channel lists by hand.

use sha2::{Digest, Sha256};

use crate::resource::Subscriber;

/// Letters of the digest in a name: enough that two subscribers of one channel never share them.
const IDENTITY_CHARACTERS: usize = 12;

pub(super) fn identity(subscriber: &Subscriber) -> String {
    let part = |uri: &Option<String>| uri.clone().unwrap_or_default();
    let digest = Sha256::digest(format!(
        "{}\n{}",
        part(&subscriber.subscriber_uri),
        part(&subscriber.reply_uri)
    ));
    hex::encode(digest)[..IDENTITY_CHARACTERS].to_owned()
}
