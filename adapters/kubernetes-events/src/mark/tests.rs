//! The mark by table: what is new, what survives a process, and when there may be a gap.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use super::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + secs).unwrap()
}

/// Reads a whole list; gives what was new in it, and the gap.
fn list(mark: &mut Mark, version: u64, objects: &[(&str, u64)], now: i64) -> (Vec<String>, Option<Gap>) {
    let mut list = mark.begin_list(version);
    let mut new = Vec::new();
    for (uid, version) in objects {
        if mark.meet(&mut list, uid, *version) {
            new.push((*uid).to_owned());
            mark.learn((*uid).into(), *version, at(now));
        }
    }
    let gap = mark.judge(&list, at(now));
    mark.finish_list(&list, version, None, at(now), gap.clone());
    (new, gap)
}

fn watched(mark: &mut Mark, uid: &str, version: u64, now: i64) -> bool {
    let new = mark.is_new(uid, version);
    mark.learn(uid.into(), version, at(now));
    mark.advance(version);
    mark.synced(at(now));
    new
}

fn again(mark: &Mark) -> Mark {
    Mark::read(&mark.write()).unwrap()
}

/// Proves: SR-1, SR-2
#[test]
fn a_second_list_brings_what_is_new_and_what_has_changed() {
    let mut mark = Mark::default();
    assert_eq!(mark.resume(), None);
    assert_eq!(
        list(&mut mark, 10, &[("a", 3), ("b", 7)], 0),
        (vec!["a".into(), "b".into()], None)
    );
    assert_eq!(mark.resume(), Some(10));
    assert!(watched(&mut mark, "c", 12, 1));
    let mut mark = again(&mark);
    assert_eq!(mark.resume(), Some(12));
    assert_eq!(list(&mut mark, 20, &[("a", 3), ("b", 15), ("c", 12)], 60).0, ["b"]);
    assert!(!mark.is_new("b", 15) && !mark.is_new("b", 7) && mark.is_new("b", 21));
}

/// Proves: SR-1
#[test]
fn a_list_that_is_cut_off_goes_on_where_it_was_stored() {
    let mut mark = Mark::default();
    list(&mut mark, 10, &[("a", 3), ("b", 7)], 0);
    let mut cut = mark.begin_list(20);
    assert!(mark.meet(&mut cut, "a", 18));
    mark.learn("a".into(), 18, at(1));
    let mut mark = again(&mark);
    assert_eq!(mark.resume(), None, "the watch must not go on before the list was read");
    let (new, gap) = list(&mut mark, 21, &[("a", 18), ("b", 7), ("c", 19)], 2);
    assert_eq!((new, gap), (vec!["c".to_owned()], None));
}

#[test]
fn what_is_held_back_is_not_passed_by() {
    let mut mark = Mark::default();
    list(&mut mark, 10, &[("a", 3)], 0);
    let mut second = mark.begin_list(20);
    assert!(mark.meet(&mut second, "a", 15));
    mark.finish_list(&second, 20, Some(15), at(1), None);
    assert_eq!(mark.resume(), Some(14));
    assert!(mark.is_new("a", 15));
}

#[test]
fn a_cluster_that_has_gone_back_is_read_anew() {
    let mut mark = Mark::default();
    list(&mut mark, 1000, &[("a", 900), ("b", 950)], 0);
    mark.floor = 1000;
    assert_eq!(list(&mut mark, 500, &[("a", 900), ("n", 400)], 1).0, ["n"]);
    assert_eq!(mark.resume(), Some(500));
}

#[test]
fn another_cluster_is_read_from_its_beginning() {
    let mut mark = Mark::default();
    mark.set_scope("one");
    list(&mut mark, 1000, &[("a", 900)], 0);
    mark.set_scope("one");
    assert_eq!(mark.resume(), Some(1000));
    mark.set_scope("two");
    assert_eq!(mark.resume(), None);
    assert_eq!(
        list(&mut mark, 50, &[("x", 4)], 90_000),
        (vec!["x".into()], None),
        "it was never looked at"
    );
}

/// Proves: SR-4
#[test]
fn a_gap_is_told_exactly_when_something_may_have_expired_unseen() {
    let hour = 3600;
    type Case = (&'static str, i64, &'static [(&'static str, u64)], Option<&'static str>);
    let cases: [Case; 7] = [
        ("a short absence", 60, &[("a", 3), ("b", 7)], None),
        (
            "longer than events live",
            hour + 1,
            &[("n", 90)],
            Some("RetentionExceeded"),
        ),
        (
            "as long, but something known is still there: they live longer here",
            hour + 1,
            &[("b", 7), ("n", 90)],
            None,
        ),
        (
            "as long, and the one that is there was written again since",
            hour + 1,
            &[("b", 91)],
            Some("RetentionExceeded"),
        ),
        ("all young ones are gone", 60, &[("n", 90)], Some("EventsVanished")),
        ("all old ones are gone", hour - 10, &[("n", 90)], None),
        ("one was written again", 60, &[("b", 91)], None),
    ];
    for (what, away, objects, expected) in cases {
        let mut mark = Mark::default();
        // The newest known event is 20 s older than the last look.
        list(&mut mark, 10, &[("a", 3), ("b", 7)], -20);
        mark.synced(at(0));
        let (_, gap) = list(&mut again(&mark), 100, objects, away);
        assert_eq!(gap.as_ref().map(|gap| &*gap.reason), expected, "{what}");
        if let Some(gap) = gap {
            assert_eq!((gap.from, gap.to), (at(0), at(away)), "{what}");
        }
    }
}

/// Proves: SR-2, SR-4
#[test]
fn a_gap_is_an_event_that_is_the_same_when_it_is_told_again() {
    let gap = |to| Gap {
        from: at(0),
        to: at(to),
        reason: gap::EXCEEDED.into(),
    };
    let made = |to, source| gap(to).event(source, "uid-1", &BTreeMap::new()).unwrap();
    let event = made(4000, "/apis/v1/namespaces/a/events");
    assert_eq!(event.kind(), "dev.headgate.gap");
    assert_eq!(event.id(), made(4100, "/apis/v1/namespaces/a/events").id());
    let data: serde_json::Value = serde_json::from_slice(event.data()).unwrap();
    assert_eq!(data["from"], at(0).to_string());
    assert_eq!(data["to"], at(4000).to_string());
    assert_eq!(data["reason"], "RetentionExceeded");
}

#[test]
fn a_mark_is_bounded_and_still_repeats_nothing() {
    let mut mark = Mark::default();
    list(&mut mark, 1, &[], 0);
    let count = KNOWN_MAX as u64 + 10;
    for version in 2..count {
        assert!(watched(
            &mut mark,
            &format!("3bd6e1a4-8a3c-4c6e-a1f0-{version:012}"),
            version,
            1
        ));
    }
    assert!(mark.known.len() <= KNOWN_MAX);
    let text = mark.write();
    assert!(text.len() < adapter::MARK_MAX_BYTES / 2, "{} bytes", text.len());
    let mut mark = Mark::read(&text).unwrap();
    let uid = |version| format!("3bd6e1a4-8a3c-4c6e-a1f0-{version:012}");
    let objects: Vec<_> = [2, 500, count - 1, count + 7]
        .map(|version| (uid(version), version))
        .into();
    let objects: Vec<_> = objects.iter().map(|(uid, version)| (uid.as_str(), *version)).collect();
    let (new, gap) = list(&mut mark, count + 8, &objects, 60);
    assert_eq!((new, gap), (vec![uid(count + 7)], None));
}

/// Where a ConfigMap is all the room there is.
#[test]
fn a_mark_that_has_no_room_is_shortened_and_repeats_nothing() {
    let mut mark = Mark::default();
    list(&mut mark, 1, &[], 0);
    let uid = |version| format!("3bd6e1a4-8a3c-4c6e-a1f0-{version:012}");
    let last = 2_000;
    for version in 2..=last {
        assert!(watched(&mut mark, &uid(version), version, 1));
    }
    mark.advance(last);
    let whole = mark.write();
    assert_eq!(mark.write_within(whole.len()), (whole.clone(), false));
    let max = whole.len() / 4;
    let (text, is_shortened) = mark.write_within(max);
    assert!(
        is_shortened && text.len() <= max && text.len() > max / 2,
        "{} of {max}",
        text.len()
    );
    let mut mark = Mark::read(&text).unwrap();
    assert_eq!(mark.resume(), Some(last), "a watch goes on where it was");
    assert!(mark.known.contains_key(&*uid(last)) && !mark.known.contains_key(&*uid(2)));
    let objects: Vec<_> = [2, 500, last, last + 7].map(|version| (uid(version), version)).into();
    let objects: Vec<_> = objects.iter().map(|(uid, version)| (uid.as_str(), *version)).collect();
    let (new, gap) = list(&mut mark, last + 8, &objects, 60);
    assert_eq!((new, gap), (vec![uid(last + 7)], None));
}

#[test]
fn a_list_beyond_the_bound_is_told_by_its_order_afterwards() {
    let mut mark = Mark::default();
    let objects: Vec<_> = (0..KNOWN_MAX as u64 + 5)
        .map(|version| (format!("u{version}"), version + 1))
        .collect();
    let objects: Vec<_> = objects.iter().map(|(uid, version)| (uid.as_str(), *version)).collect();
    let version = objects.len() as u64 + 1;
    assert_eq!(list(&mut mark, version, &objects, 0).0.len(), objects.len());
    let mut mark = again(&mark);
    assert_eq!(mark.known.len(), KNOWN_MAX);
    assert!(list(&mut mark, version, &objects, 1).0.is_empty());
}

#[test]
fn what_is_no_mark_is_none() {
    for not in [&b""[..], b"{}", b"[]", br#"{"form":2}"#, b"\xff"] {
        assert_eq!(Mark::read(not), None);
    }
}
