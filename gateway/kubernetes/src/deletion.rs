//! Checks that an object was deleted. A watch may lag behind, so the API server is asked: its answer is newer than the
//! cache.

use serde_json::Value;
use spec::ObjectKey;

use crate::{Cluster, collection, refusal::Refusal, request};

impl Cluster {
    /// Returns whether no object has this name and `uid`; without a `uid`, whether no object has this name. Returns
    /// false if the API server does not answer.
    pub async fn is_gone(&self, key: &ObjectKey, uid: Option<&str>) -> bool {
        let path = collection::path(key.kind.api_version(), key.kind.plural(), &key.name);
        let found = request::get(&self.client, &path).await;
        is_gone(found, uid).unwrap_or_else(|refusal| {
            tracing::warn!(object = %key, %refusal, "the API server does not confirm the deletion: what belongs to the object is kept");
            false
        })
    }
}

fn is_gone(found: Result<Value, Refusal>, uid: Option<&str>) -> Result<bool, Refusal> {
    match found {
        Ok(object) => Ok(uid.is_some_and(|uid| object["metadata"]["uid"] != uid)),
        Err(Refusal::NotFound) => Ok(true),
        Err(refusal) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Proves: CH-4
    #[test]
    fn only_the_api_server_says_that_an_object_is_gone() {
        let there = || Ok(json!({ "metadata": { "uid": "1" } }));
        for (found, uid, expected) in [
            (there(), Some("1"), Ok(false)),
            (there(), Some("2"), Ok(true)),
            (there(), None, Ok(false)),
            (Err(Refusal::NotFound), Some("1"), Ok(true)),
            (Err(Refusal::NotFound), None, Ok(true)),
            (Err(Refusal::Forbidden), Some("1"), Err(Refusal::Forbidden)),
        ] {
            let asked = format!("{found:?} {uid:?}");
            assert_eq!(is_gone(found, uid), expected, "{asked}");
        }
    }
}
