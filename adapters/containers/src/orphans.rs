//! Removes containers whose source was deleted while the gateway or the engine was down: no running adapter would.

use std::collections::BTreeSet;

use crate::{Engine, EngineAddress, Trouble};

/// Removes what this gateway made for sources that are not wanted any more, and says for which.
///
/// `desired` is asked after the containers were listed: so a source that is new by then is in it, and its container safe. It
/// gives nothing when what is wanted is not known, because some document cannot be read; then nothing is removed.
pub async fn remove_orphans(
    address: &EngineAddress,
    gateway: &str,
    desired: impl FnOnce() -> Option<BTreeSet<String>>,
) -> Result<Vec<String>, Trouble> {
    let engine = Engine::connect(address).await?;
    let found = engine.owned(gateway, None).await?;
    let Some(desired) = desired() else {
        return Ok(Vec::new());
    };
    let mut removed = Vec::new();
    for orphan in found.into_iter().filter(|found| !desired.contains(&found.source)) {
        engine.remove(&orphan.id).await?;
        tracing::info!(source = orphan.source, "container of a deleted source is removed");
        removed.push(orphan.source);
    }
    Ok(removed)
}
