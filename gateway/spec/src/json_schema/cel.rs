//! The rules of the CRDs as JSON Schema: the part of CEL that they use, read and said again.
//!
//! Rules are read from the text that the API server gets, so that nothing here depends on how they are written down in Rust.

use serde_json::{Value, json};

/// A rule over `self` as a schema; `None` where JSON Schema cannot say it: a rule that compares with `oldSelf`.
pub(super) fn schema(rule: &str) -> Option<Value> {
    if let Some(of_keys) = rule
        .strip_prefix("self.all(key, ")
        .and_then(|rest| rest.strip_suffix(')'))
    {
        let names = Reader { rest: of_keys }.whole()?;
        return Some(json!({ "propertyNames": names }));
    }
    Reader { rest: rule }.whole()
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn whole(mut self) -> Option<Value> {
        let read = self.any()?;
        self.rest.trim().is_empty().then_some(read)
    }

    fn takes(&mut self, word: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// `a || b`. With `!a` first it is a condition, of which editors show what is wrong rather than what is not.
    fn any(&mut self) -> Option<Value> {
        let mut parts = vec![self.all()?];
        while self.takes("||") {
            parts.push(self.all()?);
        }
        if parts.len() == 1 {
            return parts.pop();
        }
        if let Some(when) = parts[0].get("not").cloned() {
            parts.remove(0);
            let then = if parts.len() == 1 {
                parts.remove(0)
            } else {
                json!({ "anyOf": parts })
            };
            return Some(json!({ "if": when, "then": then }));
        }
        Some(json!({ "anyOf": parts }))
    }

    fn all(&mut self) -> Option<Value> {
        let mut parts = vec![self.one()?];
        while self.takes("&&") {
            parts.push(self.one()?);
        }
        if parts.len() == 1 {
            return parts.pop();
        }
        Some(json!({ "allOf": parts }))
    }

    fn one(&mut self) -> Option<Value> {
        if self.takes("!") {
            let denied = self.one()?;
            return Some(json!({ "not": denied }));
        }
        if self.takes("(") {
            let inner = self.any()?;
            return self.takes(")").then_some(inner);
        }
        if self.takes("true") {
            return Some(json!({}));
        }
        if self.takes("has(") {
            let path = self.path()?;
            return self.takes(")").then(|| at(&path, None));
        }
        let mut path = self.path()?;
        if self.takes("==") {
            let text = self.text()?;
            return Some(at(&path, Some(json!({ "const": text }))));
        }
        if self.takes("in ") {
            let words = self.texts()?;
            return Some(at(&path, Some(json!({ "enum": words }))));
        }
        if !self.takes("(") {
            return Some(at(&path, Some(json!({ "const": true }))));
        }
        let function = path.pop()?;
        let text = self.text()?;
        let pattern = match function {
            "startsWith" => format!("^{}", escaped(&text)),
            "endsWith" => format!("{}$", escaped(&text)),
            "contains" => escaped(&text),
            "matches" => ecma(&text),
            _ => return None,
        };
        self.takes(")").then(|| at(&path, Some(json!({ "pattern": pattern }))))
    }

    /// `self.a.b` or `key`, without its first word; CEL writes a field named `namespace` with underscores.
    fn path(&mut self) -> Option<Vec<&'a str>> {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
        let (word, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let mut steps = word.split('.');
        if !matches!(steps.next(), Some("self" | "key")) {
            return None;
        }
        self.rest = rest;
        Some(
            steps
                .map(|step| if step == "__namespace__" { "namespace" } else { step })
                .collect(),
        )
    }

    /// `'text'`, with its escapes undone.
    fn text(&mut self) -> Option<String> {
        if !self.takes("'") {
            return None;
        }
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\'' => {
                    self.rest = &self.rest[at + 1..];
                    return Some(text);
                }
                '\\' => text.push(chars.next()?.1),
                c => text.push(c),
            }
        }
        None
    }

    fn texts(&mut self) -> Option<Vec<String>> {
        if !self.takes("[") {
            return None;
        }
        let mut texts = vec![self.text()?];
        while self.takes(",") {
            texts.push(self.text()?);
        }
        self.takes("]").then_some(texts)
    }
}

/// The value at a path fits `leaf`, or is there at all.
fn at(path: &[&str], leaf: Option<Value>) -> Value {
    let Some((step, below)) = path.split_first() else {
        return leaf.unwrap_or_else(|| json!({}));
    };
    if below.is_empty() && leaf.is_none() {
        return json!({ "required": [step] });
    }
    json!({ "required": [step], "properties": { (*step): at(below, leaf) } })
}

fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\^$.|?*+()[]{}/".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// A pattern of RE2 as one of ECMAScript, which has no `(?i:...)` and `(?s:...)`: letters in both cases, and any character at all.
pub(super) fn ecma(pattern: &str) -> String {
    let mut made = String::with_capacity(pattern.len());
    // The flags of each open group: whether it ignores case, and whether its dots match line breaks.
    let mut groups = vec![(false, false)];
    let mut chars = pattern.char_indices();
    let mut in_class = false;
    while let Some((at, c)) = chars.next() {
        let (ignores_case, dots_all) = groups.last().copied().unwrap_or((false, false));
        match c {
            '\\' => {
                made.push(c);
                made.extend(chars.next().map(|(_, escaped)| escaped));
            }
            '[' | ']' => {
                in_class = c == '[';
                made.push(c);
            }
            '(' if !in_class => {
                let flags = ["(?i:", "(?s:"].iter().position(|flag| pattern[at..].starts_with(flag));
                groups.push((ignores_case || flags == Some(0), dots_all || flags == Some(1)));
                if flags.is_some() {
                    made.push_str("(?:");
                    chars.nth(2);
                } else {
                    made.push(c);
                }
            }
            ')' if !in_class => {
                groups.pop();
                made.push(c);
            }
            '.' if dots_all && !in_class => made.push_str(r"[\s\S]"),
            c if ignores_case && !in_class && c.is_ascii_alphabetic() => {
                made.extend(['[', c.to_ascii_lowercase(), c.to_ascii_uppercase(), ']']);
            }
            c => made.push(c),
        }
    }
    made
}
