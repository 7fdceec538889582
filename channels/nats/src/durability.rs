//! The durability that a stream really promises (CONTRACT CH-8): pure, from what the server says about it.

use channel::Durability;

/// The settings of a stream that decide its durability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamSettings {
    pub(crate) stream: String,
    pub(crate) replicas: usize,
    /// Storage is `file`.
    pub(crate) on_disk: bool,
    /// `sync_interval: always` on every server that was asked; `None`: no server answered.
    pub(crate) synced: Option<bool>,
    /// Events go when a limit is reached: `discard: old` with the limits that are set.
    pub(crate) discards: Vec<&'static str>,
}

/// The durability and, where it is less than it could be, the settings to change, most important first.
pub(crate) fn judge(facts: &StreamSettings) -> (Durability, Vec<String>) {
    let StreamSettings { stream, .. } = facts;
    let mut findings = Vec::new();
    if !facts.on_disk {
        findings.push(format!(
            "stream {stream} has storage memory: it is gone when its servers restart; make it again with storage file"
        ));
    }
    if facts.replicas < 2 {
        findings.push(format!(
            "stream {stream} has 1 replica: a lost server loses its events; set replicas 3 (nats stream edit {stream} --replicas 3)"
        ));
    }
    if !facts.discards.is_empty() {
        findings.push(format!(
            "stream {stream} discards its oldest events when {} is reached, delivered or not; set discard to new",
            facts.discards.join(" or ")
        ));
    }
    let synced = facts.on_disk && facts.synced == Some(true);
    let durability = match (facts.replicas >= 2, synced) {
        (true, true) => Durability::QuorumFsync,
        (true, false) => Durability::Quorum,
        (false, true) => Durability::Disk,
        (false, false) => Durability::Process,
    };
    if facts.on_disk && !synced && facts.replicas < 2 {
        findings.push(match facts.synced {
            None => format!(
                "whether stream {stream} is synced before an event is acknowledged is not known, so that a power cut may lose two minutes of events (sync_interval); set sync_interval: always in the server's jetstream block, and monitoringURLs in the provisioner's config so that it can be seen"
            ),
            Some(_) => format!(
                "stream {stream} is not synced before an event is acknowledged: a power cut loses what its server had not written yet; set sync_interval: always in the server's jetstream block"
            ),
        });
    }
    (durability, findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: CH-8
    #[test]
    fn each_shortfall_lowers_the_promise_and_names_its_setting() {
        let facts = |replicas, on_disk, synced, discards: &[&'static str]| StreamSettings {
            stream: "s".into(),
            replicas,
            on_disk,
            synced,
            discards: discards.to_vec(),
        };
        let table = [
            (facts(3, true, Some(true), &[]), Durability::QuorumFsync, &[][..]),
            (facts(3, true, Some(false), &[]), Durability::Quorum, &[]),
            (facts(3, true, None, &[]), Durability::Quorum, &[]),
            (facts(3, false, Some(true), &[]), Durability::Quorum, &["storage file"]),
            (facts(1, true, Some(true), &[]), Durability::Disk, &["replicas 3"]),
            (
                facts(1, true, Some(false), &[]),
                Durability::Process,
                &["replicas 3", "sync_interval: always"],
            ),
            (
                facts(1, true, None, &["max_bytes"]),
                Durability::Process,
                &["replicas 3", "discard to new", "monitoringURLs"],
            ),
            (
                facts(1, false, None, &[]),
                Durability::Process,
                &["storage file", "replicas 3"],
            ),
        ];
        for (facts, durability, settings) in table {
            let (found, findings) = judge(&facts);
            assert_eq!(
                (found, findings.len()),
                (durability, settings.len()),
                "{facts:?}: {findings:?}"
            );
            assert!(
                findings
                    .iter()
                    .zip(settings)
                    .all(|(finding, setting)| finding.contains(setting)),
                "{findings:?}"
            );
        }
    }
}
