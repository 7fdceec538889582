//! Whether output is as a page shows it.
//!
//! A line `...` stands for any number of lines, `...` within a line for any text. Times, durations and UUIDs differ from run to
//! run: one is as good as another. So are the widths of columns.

/// How many lines of `seen` are as `shown`, from its first line on; all of them with `is_whole`.
pub(crate) fn matching(shown: &[String], seen: &[&str], is_whole: bool) -> Option<usize> {
    match (shown.split_first(), seen.split_first()) {
        (None, _) => (!is_whole || seen.is_empty()).then_some(0),
        (Some((first, rest)), _) if first.trim() == "..." => {
            (0..=seen.len()).find_map(|skipped| matching(rest, &seen[skipped..], is_whole).map(|end| skipped + end))
        }
        (Some((first, rest)), Some((line, below))) if is_alike(first, line) => {
            matching(rest, below, is_whole).map(|end| end + 1)
        }
        _ => None,
    }
}

/// The line with every number the same.
pub(crate) fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    for c in line.chars() {
        if !c.is_ascii_digit() {
            text.push(c);
        } else if !text.ends_with('0') {
            text.push('0');
        }
    }
    text
}

fn is_alike(shown: &str, seen: &str) -> bool {
    // As it is, too: `...` may stand for a part of an id.
    fits(&plain(shown), &plain(seen)) || fits(&general(shown), &general(seen))
}

/// One space between words.
fn plain(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The same with the kind of a value in place of values that differ from run to run.
fn general(line: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || ".:+-".contains(c);
    let (mut text, mut word) = (String::new(), String::new());
    for c in plain(line).chars() {
        if is_part(c) {
            word.push(c);
        } else {
            text += &kind(&std::mem::take(&mut word));
            text.push(c);
        }
    }
    text + &kind(&word)
}

fn kind(word: &str) -> String {
    let value = word.trim_end_matches(['.', ':', '+', '-']);
    let is_uuid = value.len() == 36
        && value.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        });
    let units = ["ns", "us", "µs", "ms", "s", "m", "h", "d"];
    let numbers = units.iter().filter_map(|unit| value.strip_suffix(unit));
    let is_duration = numbers.into_iter().any(|number| number.parse::<f64>().is_ok());
    let kind = match () {
        () if word.contains("...") => value,
        () if is_uuid => "UUID",
        () if value.parse::<jiff::Timestamp>().is_ok() => "TIME",
        () if is_duration => "DURATION",
        () => value,
    };
    format!("{kind}{}", &word[value.len()..])
}

/// Whether the text is as the pattern, in which `...` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once("...") {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            let starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            starts.into_iter().any(|at| fits(after, &rest[at..]))
        }),
    }
}

#[test]
fn values_that_differ_from_run_to_run_are_alike() {
    for (shown, seen) in [
        (
            "stored  id=019ad5c8-1111-7222-8333-944455556666",
            "stored id=019ad5c9-aaaa-7bbb-8ccc-9dddeeeeffff",
        ),
        (
            "at 2026-11-30T07:54:08.25Z, 1.2ms",
            "at 2026-12-01T00:00:00.123456Z, 17s",
        ),
        ("202  ...  push", "202  2026-12-01T00:00:00.123Z  push"),
        ("{\"id\": ...}", "{\"id\": \"1\", \"a\": {}}"),
        ("NAME   AGE", "NAME      AGE"),
    ] {
        assert!(is_alike(shown, seen), "{shown} and {seen}");
    }
    for (shown, seen) in [
        ("2 documents, 0 faults", "2 documents, 1 fault"),
        ("READY True", "READY False"),
        ("at 2026-11-30T07:54:08.25Z", "at noon"),
        ("took 1.2ms", "took long"),
        ("a ... c", "a b"),
    ] {
        assert!(!is_alike(shown, seen), "{shown} and {seen}");
    }
}

#[test]
fn lines_are_shown_whole_or_in_part() {
    let shown = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
    let seen = ["a", "b", "c"];
    assert_eq!(matching(&shown(&["a", "b", "c"]), &seen, true), Some(3));
    assert_eq!(matching(&shown(&["a", "...", "c"]), &seen, true), Some(3));
    assert_eq!(matching(&shown(&["a", "..."]), &seen, true), Some(3));
    assert_eq!(matching(&shown(&["a", "b"]), &seen, true), None);
    assert_eq!(matching(&shown(&["a", "b"]), &seen, false), Some(2));
    assert_eq!(matching(&shown(&["b"]), &seen, false), None);
    assert_eq!(matching(&shown(&[]), &seen, true), None);
}
