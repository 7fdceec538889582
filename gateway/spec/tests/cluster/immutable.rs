//! Fields that may not change while an object lives.

use super::{cluster, whole};

#[tokio::test]
async fn what_is_immutable_is_refused_when_it_changes_and_only_then() {
    let Some(cluster) = cluster().await else { return };
    cluster.kubectl(&["create", "namespace", "immutable"]).await;
    let channel = |spec: &str| format!("kind: Channel\nmetadata: {{ name: c }}\nspec: {spec}");
    let subscription = |channel: &str| {
        format!(
            "kind: Subscription\nmetadata: {{ name: s }}\nspec: {{ channel: {channel}, subscriber: {{ uri: 'http://h/' }} }}"
        )
    };
    let provisioner =
        |name: &str, spec: &str| format!("kind: ClusterChannelProvisioner\nmetadata: {{ name: {name} }}\nspec: {spec}");
    let table = [
        (
            channel("{ provisioner: { name: kafka } }"),
            channel("{ provisioner: { name: nats } }"),
            "spec.provisioner",
        ),
        // The same by another name, or by its whole reference.
        (
            channel("{ provisioner: { name: kafka } }"),
            channel("{ provisioner: { name: kafka-channel } }"),
            "",
        ),
        (
            channel("{ provisioner: { name: kafka } }"),
            channel(
                "{ provisioner: { kind: ClusterChannelProvisioner, name: kafka }, arguments: { numPartitions: 2 } }",
            ),
            "",
        ),
        // Which one the default is, only the gateway knows; it tells in a condition.
        (channel("{ provisioner: { name: kafka } }"), channel("{}"), ""),
        (channel("{}"), channel("{ provisioner: { name: memory } }"), ""),
        (subscription("{ name: c }"), subscription("{ name: d }"), "spec.channel"),
        (
            subscription("{ name: c, namespace: a }"),
            subscription("{ name: c, namespace: b }"),
            "spec.channel",
        ),
        (
            subscription("{ name: c }"),
            subscription("{ kind: Channel, name: c }"),
            "",
        ),
        (
            provisioner("log", "{ backend: embedded }"),
            provisioner("log", "{ backend: memory }"),
            "spec.backend",
        ),
        (
            provisioner("embedded", "{}"),
            provisioner("embedded", "{ backend: embedded }"),
            "",
        ),
    ];
    for (before, after, refused) in table {
        let [before, after] = [before, after].map(|text| whole(&text));
        cluster
            .kubectl_with(&["create", "-n", "immutable", "-f", "-"], &before)
            .await;
        let answer = cluster
            .try_kubectl(&["replace", "-n", "immutable", "-f", "-"], &after)
            .await;
        match (&answer, refused) {
            (Ok(_), "") => {}
            (Err(answer), refused) if !refused.is_empty() => {
                assert!(
                    answer.contains(&format!("{refused}: ")) && answer.contains("is immutable"),
                    "{after}\n{answer}"
                );
            }
            _ => panic!("{before}\n{after}\n{answer:?}"),
        }
        cluster
            .kubectl_with(&["delete", "-n", "immutable", "-f", "-"], &before)
            .await;
    }
}
