//! The durability that a topic really promises (CONTRACT CH-8): pure, from what the broker reports about it.

use channel::Durability;

/// The settings of a topic that decide its durability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicSettings {
    pub(crate) topic: String,
    /// Replicas of the partition with the fewest.
    pub(crate) replicas: usize,
    pub(crate) min_insync_replicas: usize,
    pub(crate) unclean_leader_election: bool,
    /// `flush.messages`: records until the broker syncs its log.
    pub(crate) flush_messages: u64,
}

/// The durability and, where it is less than it could be, the settings to change, most important first.
pub(crate) fn judge(facts: &TopicSettings) -> (Durability, Vec<String>) {
    let TopicSettings { topic, .. } = facts;
    let mut findings = Vec::new();
    let synced = facts.flush_messages == 1;
    if facts.replicas < 2 {
        findings.push(format!(
            "topic {topic} has 1 replica: a lost broker loses its events; create it with replicationFactor 3, or raise it with kafka-reassign-partitions"
        ));
    } else if facts.min_insync_replicas < 2 {
        findings.push(format!(
            "topic {topic} has min.insync.replicas {}: an event is acknowledged with one copy when the other replicas lag; set min.insync.replicas to 2",
            facts.min_insync_replicas
        ));
    }
    if facts.unclean_leader_election {
        findings.push(format!(
            "topic {topic} has unclean.leader.election.enable true: a replica that lags may become leader and drop acknowledged events; set it to false"
        ));
    }
    let quorum = facts.replicas >= 2 && facts.min_insync_replicas >= 2 && !facts.unclean_leader_election;
    let durability = match (quorum, synced) {
        (true, true) => Durability::QuorumFsync,
        (true, false) => Durability::Quorum,
        (false, true) => Durability::Disk,
        (false, false) => Durability::Process,
    };
    if durability == Durability::Process {
        findings.push(format!(
            "topic {topic} is not synced before events are acknowledged (flush.messages is not 1): a power cut at its one copy loses what its system had not written yet"
        ));
    }
    (durability, findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: CH-8
    #[test]
    fn each_shortfall_lowers_the_promise_and_names_its_setting() {
        let facts = |replicas, min_insync_replicas, unclean_leader_election, flush_messages| TopicSettings {
            topic: "t".into(),
            replicas,
            min_insync_replicas,
            unclean_leader_election,
            flush_messages,
        };
        let table = [
            (facts(3, 2, false, u64::MAX), Durability::Quorum, &[][..]),
            (facts(3, 2, false, 1), Durability::QuorumFsync, &[]),
            (facts(2, 2, false, 1), Durability::QuorumFsync, &[]),
            (
                facts(3, 1, false, u64::MAX),
                Durability::Process,
                &["min.insync.replicas", "flush.messages"],
            ),
            (
                facts(3, 2, true, u64::MAX),
                Durability::Process,
                &["unclean.leader.election.enable", "flush.messages"],
            ),
            (
                facts(1, 1, false, u64::MAX),
                Durability::Process,
                &["replicationFactor", "flush.messages"],
            ),
            (facts(1, 1, false, 1), Durability::Disk, &["replicationFactor"]),
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
