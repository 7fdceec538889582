//! The words of this code base: names and comments use the terms of CloudEvents, Kafka, NATS, Kubernetes and HTTP.
//!
//! The test reads what ships and lists every identifier with a word of [`BANNED`], every type in [`VAGUE`] and every comment
//! that opens with a stand-in for a noun. [`LEFT`] is how many are left in each room. It only goes down.

use std::collections::{BTreeMap, BTreeSet};

use e2e::tree::rust_files;

/// Words that identifiers are not made of, and what to say instead.
const BANNED: &[(&[&str], &str)] = &[
    (&["anew"], "again, recreated"),
    (
        &["company", "crowd", "gather", "gathers", "together"],
        "batch, group commit",
    ),
    (&["door", "doors"], "endpoint"),
    (&["forget", "forgets", "forgotten"], "delete, remove"),
    (&["hand", "hands"], "in flight"),
    (&["headroom"], "reserved space"),
    (&["letter", "letters"], "dead letter (dead_letter, DeadLetter)"),
    (&["look", "looks"], "poll, probe, refresh"),
    (&["manner", "manners"], "route kind, send options"),
    (&["nobody", "somebody", "whoever"], "the actor's name"),
    (&["place", "places"], "offset, position"),
    (&["poison"], "malformed"),
    (&["said", "told"], "reported"),
    (&["seat", "seats"], "lease"),
    (&["standing"], "progress, state"),
    (&["stay", "stays"], "heartbeat"),
    (&["stretch", "stretches"], "range"),
    (&["surroundings"], "resolver"),
    (&["wanted"], "desired"),
];

/// Identifiers of libraries, and a reason that documents and conditions name.
const FOREIGN: &[&str] = &["block_in_place", "forget_permits", "NotWanted"];

/// Names of types that say nothing about what they hold.
const VAGUE: &[&str] = &[
    "Built", "Facts", "Found", "Given", "Kept", "Place", "Said", "Seen", "Shared", "Taken", "Told", "Wanted",
];

/// Names of files that no reader would search for.
const VAGUE_FILES: &[&str] = &[
    "apart",
    "gone",
    "hand",
    "handled",
    "kept",
    "known",
    "lately",
    "look",
    "parked",
    "plain",
    "surroundings",
    "together",
    "told",
];

/// A comment does not begin with these in place of a noun.
const OPENINGS: &[&str] = &["By which ", "Of ", "What ", "Who ", "Whose "];

/// Words that hide who acts, in comments.
const HIDDEN_ACTORS: &[&str] = &["anew", "nobody", "somebody", "whoever"];

/// How many are left in each room. A room that is not listed has none.
const LEFT: &[(&str, usize)] = &[];

#[test]
fn names_and_comments_use_the_words_of_the_field() {
    let mut left: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in rust_files().iter().filter(|source| !source.is_test()) {
        let room = source.path.split('/').take(2).collect::<Vec<_>>().join("/");
        let text = source
            .text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        let found = left.entry(room).or_default();
        let stem = source
            .path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches(".rs");
        if VAGUE_FILES.contains(&stem) {
            found.insert(format!("{}: a file name that nobody searches for", source.path));
        }
        for fault in faults(text) {
            found.insert(format!("{}: {fault}", source.path));
        }
    }
    let allowed: BTreeMap<&str, usize> = LEFT.iter().copied().collect();
    let mut wrong = Vec::new();
    for (room, found) in &left {
        let limit = allowed.get(&**room).copied().unwrap_or_default();
        if found.len() > limit {
            wrong.push(format!(
                "{room}: {} where {limit} are left:\n  {}",
                found.len(),
                join(found)
            ));
        } else if found.len() < limit {
            wrong.push(format!("{room}: {} are left; write that into LEFT", found.len()));
        }
    }
    wrong.extend(
        allowed
            .keys()
            .filter(|room| !left.contains_key(**room))
            .map(|room| format!("{room} is no room")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_words_are_found_in_code_and_comments_alone() {
    let text = r##"
        /// Of this source: who looks.
        //! What it is
        /// and
        /// Whose line goes on.
        // somebody acts
        fn place_of(letter: &str, dead_letter: &str, replaced: u8) -> Found {}
        let text = "a place // of a letter" + 'p' + r#"wanted "stay""#;
        fn f<'place>() { block_in_place() }
    "##;
    let found: Vec<String> = faults(text).into_iter().collect();
    assert_eq!(
        found,
        [
            "`Found` does not say what it holds",
            "`letter` says `letter`: dead letter (dead_letter, DeadLetter)",
            "`place_of` says `place`: offset, position",
            "`place` says `place`: offset, position",
            "a comment begins with `Of`: Of this source: who looks.",
            "a comment begins with `What`: What it is",
            "a comment says `somebody`: somebody acts",
        ]
    );
}

fn join(found: &BTreeSet<String>) -> String {
    found.iter().cloned().collect::<Vec<_>>().join("\n  ")
}

fn faults(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut begins = true;
    for line in text.lines().map(str::trim) {
        let Some(comment) = line.strip_prefix("//") else {
            begins = true;
            continue;
        };
        let comment = comment.trim_start_matches(['/', '!']).trim();
        if begins && let Some(opening) = OPENINGS.iter().find(|opening| comment.starts_with(**opening)) {
            found.insert(format!("a comment begins with `{}`: {comment}", opening.trim()));
        }
        for word in comment.split(|c: char| !c.is_alphanumeric()) {
            if HIDDEN_ACTORS.contains(&&*word.to_lowercase()) {
                found.insert(format!("a comment says `{word}`: {comment}"));
            }
        }
        begins = comment.is_empty() || comment.ends_with(['.', ':', '|']);
    }
    for name in identifiers(text) {
        if VAGUE.contains(&&*name) {
            found.insert(format!("`{name}` does not say what it holds"));
        }
        if FOREIGN.contains(&&*name) {
            continue;
        }
        let words = words(&name);
        for (at, word) in words.iter().enumerate() {
            let Some((_, instead)) = BANNED.iter().find(|(banned, _)| banned.contains(&&**word)) else {
                continue;
            };
            let is_dead_letter = word.starts_with("letter") && at > 0 && words[at - 1] == "dead";
            if !is_dead_letter {
                found.insert(format!("`{name}` says `{word}`: {instead}"));
            }
        }
    }
    found
}

/// Splits `dead_letter` and `DeadLetter` into `dead` and `letter`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Every identifier of the code, lifetimes included, without comments and literals.
fn identifiers(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            string(rest)
        } else if first == '\'' {
            character(rest).unwrap_or(1)
        } else if first.is_alphabetic() || first == '_' {
            let length = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            found.insert(rest[..length].to_owned());
            length
        } else if first.is_numeric() {
            // The type of a number is no name of ours.
            rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    found
}

/// The length of the raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + length)
}

/// The length of the string that begins here.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the character that begins here; `None` for a lifetime.
fn character(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        return text[2..].find('\'').map(|at| (at + 3).max(4));
    }
    let (at, second) = chars.next()?;
    (second == '\'').then_some(at + 1)
}
