//! Reload as a table: what was in force, what is read now, what is in force then.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path as FilePath;

use proptest::prelude::*;

use super::*;
use crate::{document::read, fault::File};

fn contents(files: &[(&str, &str)]) -> Contents {
    let mut all = Contents::default();
    for (path, text) in files {
        let one = read(&File::new(FilePath::new(path), (*text).to_owned()));
        all.documents.extend(one.documents);
        all.faults.extend(one.faults);
        all.warnings.extend(one.warnings);
    }
    all
}

fn over(before: &Set, files: &[(&str, &str)]) -> (Set, Vec<String>) {
    let (set, findings) = merge(
        before,
        contents(files),
        &BTreeSet::new(),
        &AssignedProvisioners::new("embedded"),
    );
    let shown = |fault: &Fault| format!("{}:{} {}", fault.file, fault.line, fault.reason);
    (set, findings.faults.iter().map(shown).collect())
}

fn first(files: &[(&str, &str)]) -> Set {
    let (set, faults) = over(&Set::default(), files);
    assert_eq!(faults, Vec::<String>::new());
    set
}

/// `Kind name`, with a `!` when a newer version of it has faults.
fn in_force(set: &Set) -> Vec<String> {
    let mark = |entry: &Entry| if entry.faults.is_empty() { "" } else { "!" };
    set.valid
        .iter()
        .map(|(key, entry)| format!("{} {}{}", key.kind, key.name.name, mark(entry)))
        .collect()
}

fn channel(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn subscription(name: &str, channel: &str, more: &str) -> String {
    format!(
        "apiVersion: eventing.knative.dev/v1alpha1\nkind: Subscription\nmetadata: {{name: {name}}}\n\
         spec: {{channel: {{name: {channel}}}, subscriber: {{uri: 'http://h/'}}{more}}}\n---\n"
    )
}

#[test]
fn what_is_gone_from_a_file_that_can_be_read_is_gone() {
    let before = first(&[("a", &channel("a", "")), ("b", &channel("b", ""))]);
    let (after, faults) = over(&before, &[("a", &channel("a", ""))]);
    assert_eq!(
        (in_force(&after), faults.len(), after.incomplete),
        (vec!["Channel a".to_owned()], 0, false)
    );
}

#[test]
fn an_invalid_version_leaves_the_last_valid_one_in_force_again_and_again() {
    let before = first(&[("a", &(channel("a", "") + &subscription("s", "a", "")))]);
    let broken = channel("a", "") + &subscription("s", "a", ", maxInFlight: 0");
    let (after, faults) = over(&before, &[("a", &broken)]);
    assert_eq!(in_force(&after), ["Channel a", "Subscription s!"]);
    assert_eq!(faults, ["a:9 Invalid"]);
    let (again, _) = over(&after, &[("a", &broken)]);
    assert_eq!(in_force(&again), ["Channel a", "Subscription s!"]);
    let (mended, faults) = over(
        &again,
        &[("a", &(channel("a", "") + &subscription("s", "a", ", maxInFlight: 1")))],
    );
    assert_eq!(
        (in_force(&mended), faults.len()),
        (vec!["Channel a".to_owned(), "Subscription s".to_owned()], 0)
    );
    let (gone, _) = over(&again, &[("a", &channel("a", ""))]);
    assert_eq!(
        in_force(&gone),
        ["Channel a"],
        "taking an invalid document away takes its last valid version away"
    );
}

#[test]
fn a_document_that_was_never_valid_is_known_and_not_in_force() {
    let (set, faults) = over(
        &Set::default(),
        &[("a", &(channel("a", "quux: 1") + &channel("b", "")))],
    );
    assert_eq!(
        (in_force(&set), faults.len(), set.invalid.len(), set.incomplete),
        (vec!["Channel b".to_owned()], 1, 1, false)
    );
}

#[test]
fn a_document_without_a_header_may_be_any_of_its_file_and_none_of_another() {
    let before = first(&[("a", &(channel("a", "") + &channel("b", ""))), ("c", &channel("c", ""))]);
    for broken in [
        "kind: [",
        "kind: Channel\n",
        "apiVersion: eventing.knative.dev/v1alpha1\nkind: Chanel\nmetadata: {name: b}\n",
    ] {
        let (after, faults) = over(&before, &[("a", &(channel("a", "") + broken))]);
        assert_eq!(
            in_force(&after),
            ["Channel a", "Channel b"],
            "{broken}: c is gone, b may be meant"
        );
        assert!(after.incomplete && !faults.is_empty());
    }
}

#[test]
fn a_file_that_cannot_be_read_keeps_what_it_held() {
    let before = first(&[("a", &channel("a", "")), ("b", &channel("b", ""))]);
    let unread = BTreeSet::from([Arc::from("b")]);
    let (after, _) = merge(
        &before,
        contents(&[("a", &channel("a", ""))]),
        &unread,
        &AssignedProvisioners::new("embedded"),
    );
    assert_eq!(
        (in_force(&after), after.incomplete),
        (vec!["Channel a".to_owned(), "Channel b".to_owned()], true)
    );
}

#[test]
fn what_is_immutable_stays_as_it_was_and_says_so() {
    let before = first(&[(
        "a",
        &(channel("a", "") + &channel("b", "") + &subscription("s", "a", "")),
    )]);
    let moved = channel("a", "") + &channel("b", "") + &subscription("s", "b", "");
    let (after, faults) = over(&before, &[("a", &moved)]);
    assert_eq!(faults, ["a:14 Immutable"]);
    let Some(Resource::Subscription(kept)) = after.get(Kind::Subscription, &ObjectName::new("default", "s")) else {
        panic!("gone")
    };
    assert_eq!(kept.channel.name, "a");

    for (spec, fault) in [
        ("provisioner: {name: embedded}", false),
        ("provisioner: {name: memory}", true),
        ("arguments: {retention: {age: PT1H}}", false),
    ] {
        let (_, faults) = over(
            &before,
            &[(
                "a",
                &(channel("a", spec) + &channel("b", "") + &subscription("s", "a", "")),
            )],
        );
        assert_eq!(faults == ["a:4 Immutable"], fault, "{spec}: {faults:?}");
    }
    let memory = first(&[("a", &channel("a", "provisioner: {name: memory}"))]);
    let (_, faults) = over(
        &memory,
        &[("a", &channel("a", "provisioner: {name: in-memory-channel}"))],
    );
    assert_eq!(faults.len(), 0, "another name of the same");
}

#[test]
fn of_two_documents_of_one_name_the_one_that_runs_stays() {
    let (set, faults) = over(&Set::default(), &[("a", &channel("x", "")), ("b", &channel("x", ""))]);
    assert_eq!(
        (in_force(&set), faults),
        (vec!["Channel x".to_owned()], vec!["b:3 Duplicate".to_owned()])
    );
    let before = first(&[("b", &channel("x", "arguments: {maxEventBytes: 5}"))]);
    let (after, faults) = over(
        &before,
        &[
            ("a", &channel("x", "")),
            ("b", &channel("x", "arguments: {maxEventBytes: 5}")),
        ],
    );
    assert_eq!(
        faults,
        ["a:3 Duplicate"],
        "a new file that sorts first takes nothing over"
    );
    assert_eq!(&*after.valid.values().next().unwrap().document.file.path, "b");
    let (moved, faults) = over(&after, &[("a", &channel("x", ""))]);
    assert_eq!(
        (in_force(&moved), faults.len()),
        (vec!["Channel x".to_owned()], 0),
        "moving a document is no fault"
    );
}

#[test]
fn arguments_follow_the_backend_of_a_provisioner_that_comes_with_them() {
    let provisioner = |backend: &str| {
        format!(
            "apiVersion: eventing.knative.dev/v1alpha1\nkind: ClusterChannelProvisioner\nmetadata: {{name: p}}\nspec: {{backend: {backend}}}\n---\n"
        )
    };
    let text = channel("a", "provisioner: {name: p}, arguments: {capacity: 5}");
    let before = first(&[("a", &(text.clone() + &provisioner("memory")))]);
    let (after, faults) = over(&before, &[("a", &(text.clone() + &provisioner("embedded")))]);
    assert_eq!(faults, ["a:9 Immutable"], "its channels' events lie in the old backend");
    assert_eq!(in_force(&after), ["Channel a", "ClusterChannelProvisioner p!"]);

    let (without, _) = over(&before, &[("a", &text)]);
    let (after, faults) = over(&without, &[("a", &(text + &provisioner("embedded")))]);
    assert_eq!(
        (faults, in_force(&after)),
        (
            vec!["a:4 Invalid".to_owned()],
            vec!["Channel a!".into(), "ClusterChannelProvisioner p".into()]
        )
    );
    let built = crate::build::build(
        &after,
        crate::resolver::Resolver::Files(&crate::secrets::Folder::default()),
        &AssignedProvisioners::new("embedded"),
        &crate::Spec::default(),
        jiff::Timestamp::now(),
    );
    let channel = built.spec.channels.values().next().unwrap();
    assert_eq!(channel.provisioner.as_ref().unwrap_err().reason, "ArgumentsInvalid");
}

/// Documents of every kind, as material for what a person might do to them.
fn material() -> String {
    let samples = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples");
    let mut all: Vec<_> = std::fs::read_dir(samples)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all.iter()
        .map(|path| std::fs::read_to_string(path).unwrap() + "\n---\n")
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Cut, doubled and overwritten anywhere, documents are told about and never end the process.
    #[test]
    fn no_text_whatever_makes_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..30, "[-\\[\\]{}:,#&*!|>'\"%@` \n\tTé05a-f.]{0,6}"), 1..12),
    ) {
        let mut text: Vec<char> = material().chars().collect();
        for (at, length, put) in edits {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        let (set, findings) = merge(&Set::default(), contents(&[("a", &text), ("b.json", &text)]), &BTreeSet::new(), &AssignedProvisioners::new("embedded"));
        for fault in &findings.faults {
            prop_assert!(fault.line >= 1 && fault.column >= 1 && !fault.to_string().is_empty());
            prop_assert!(fault.line <= text.lines().count() + 1);
        }
        for warning in &findings.warnings {
            prop_assert!(!warning.to_string().is_empty());
        }
        let built = crate::build::build(&set, crate::resolver::Resolver::Files(&crate::secrets::Folder::default()), &AssignedProvisioners::new("embedded"), &crate::Spec::default(), jiff::Timestamp::UNIX_EPOCH);
        for fault in &built.dangling {
            prop_assert!(!fault.to_string().is_empty());
        }
    }
}
