//! Cuts a file into its documents, so that one that cannot be read leaves the others usable.
//!
//! A line that begins with `---` separates documents wherever it stands: YAML forbids it inside quoted text and block
//! scalars alike. So the cut needs no parser and cannot be fooled by what a parser would stumble over.

use serde::de::IgnoredAny;

/// A document's text, and where it begins in its file.
#[derive(Debug, PartialEq)]
pub(crate) struct Chunk<'a> {
    pub(crate) text: &'a str,
    /// Byte of the file.
    pub(crate) start: usize,
    /// Line of the file, from 1.
    pub(crate) line: usize,
}

/// The documents of a file of YAML or JSON. JSON objects may follow one another, as kubectl takes them, also between separators.
pub(crate) fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    for document in documents(text) {
        let is_json = document.text.trim_start().starts_with('{');
        let objects = if is_json { objects(&document) } else { Vec::new() };
        if objects.len() > 1 {
            chunks.extend(objects);
        } else {
            chunks.push(document);
        }
    }
    chunks
}

/// JSON values one after another. What is left after the last whole one comes last: it is why the rest cannot be read.
fn objects<'a>(document: &Chunk<'a>) -> Vec<Chunk<'a>> {
    let text = document.text;
    let mut chunks = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut start = 0;
    loop {
        let is_whole = matches!(stream.next(), Some(Ok(_)));
        let end = if is_whole { stream.byte_offset() } else { text.len() };
        let chunk = &text[start..end];
        // A document begins where it is written, not in the line before.
        let gap = chunk.len() - chunk.trim_start().len();
        if !chunk.trim().is_empty() {
            chunks.push(Chunk {
                text: &chunk[gap..],
                start: document.start + start + gap,
                line: document.line + text[..start + gap].matches('\n').count(),
            });
        }
        if !is_whole {
            return chunks;
        }
        start = end;
    }
}

/// The documents of a YAML file, empty ones included.
fn documents(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut line, mut at) = (0, 1, 0);
    // Directives (`%YAML 1.2`) belong to the document after the separator that follows them.
    let mut only_directives = true;
    for (index, written) in text.split_inclusive('\n').enumerate() {
        if is_separator(written) && at > start && !(only_directives && text[start..at].contains('%')) {
            chunks.push(Chunk {
                text: &text[start..at],
                start,
                line,
            });
            (start, line) = (at, index + 1);
            only_directives = false;
        } else if is_separator(written) {
            only_directives = false;
        } else {
            let bare = written.trim();
            only_directives &= bare.is_empty() || bare.starts_with(['#', '%']);
        }
        at += written.len();
        if written.trim_end() == "..." {
            chunks.push(Chunk {
                text: &text[start..at],
                start,
                line,
            });
            (start, line) = (at, index + 2);
            only_directives = true;
        }
    }
    chunks.push(Chunk {
        text: &text[start..],
        start,
        line,
    });
    chunks.retain(|chunk| !chunk.text.trim().is_empty());
    chunks
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, &str)> {
        split(text).into_iter().map(|chunk| (chunk.line, chunk.text)).collect()
    }

    #[test]
    fn documents_are_cut_at_separators_and_know_their_lines() {
        assert_eq!(lines("a: 1\n---\nb: 2\n"), [(1, "a: 1\n"), (2, "---\nb: 2\n")]);
        assert_eq!(
            lines("---\na: 1\n--- # next\nb: 2"),
            [(1, "---\na: 1\n"), (3, "--- # next\nb: 2")]
        );
        assert_eq!(lines("a: 1\r\n---\r\nb: 2\r\n").len(), 2);
    }

    #[test]
    fn what_only_looks_like_a_separator_is_text() {
        assert_eq!(lines("a: |\n  ---\n  x\n----: b\n---c: d\n").len(), 1);
    }

    #[test]
    fn directives_stay_with_their_document_and_an_end_mark_ends_one() {
        assert_eq!(lines("%YAML 1.2\n---\na: 1\n").len(), 1);
        assert_eq!(
            lines("a: 1\n...\n%YAML 1.2\n---\nb: 2\n"),
            [(1, "a: 1\n...\n"), (3, "%YAML 1.2\n---\nb: 2\n")]
        );
        assert_eq!(lines("").len(), 0);
    }

    #[test]
    fn json_objects_may_follow_one_another() {
        assert_eq!(
            lines("{\"a\": 1}\n{\"b\":\n 2}\n\n{\"c\": 3}"),
            [(1, "{\"a\": 1}"), (2, "{\"b\":\n 2}"), (5, "{\"c\": 3}")]
        );
        assert_eq!(lines("{\"a\": 1}\n{\"b\": "), [(1, "{\"a\": 1}"), (2, "{\"b\": ")]);
        assert_eq!(lines("{\"a\": 1}\n"), [(1, "{\"a\": 1}\n")]);
        assert_eq!(lines("{a: 'it}'}\n---\n{b: 1}\n").len(), 2, "that is YAML");
        assert_eq!(
            lines("{\"a\": 1}\n{\"b\": 2}\n---\n{\"c\": 3}\n---\n{\"d\": 4}\n"),
            [
                (1, "{\"a\": 1}"),
                (2, "{\"b\": 2}"),
                (3, "---\n{\"c\": 3}\n"),
                (5, "---\n{\"d\": 4}\n")
            ]
        );
    }
}
