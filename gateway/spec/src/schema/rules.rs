//! Rules over several fields, each said once: files are checked by evaluating it, the API server gets it as CEL.
//!
//! A rule is data, so both judges keep the same one and say it in the same words; a file's judge may add what it
//! knows beyond (which word was meant). Paths are fields below the object that has the rule, joined by dots. Rules are asked
//! only about objects whose fields are of the right type: so does the API server.

use serde_json::{Value, json};

use super::{Form, Path, Report};
use crate::tree::{Mark, Node};

pub(crate) enum Test {
    Has(&'static str),
    /// Is `true`.
    True(&'static str),
    /// A text that is one of these.
    Is(&'static str, &'static [&'static str]),
    StartsWith(&'static str, &'static str),
    EndsWith(&'static str, &'static str),
    Contains(&'static str, &'static str),
    /// A text that has this form.
    Fits(&'static str, Form),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

pub(crate) fn not(test: Test) -> Test {
    Test::Not(Box::new(test))
}

/// One of these fields is there at least.
pub(crate) fn any(fields: &[&'static str]) -> Test {
    Test::Any(fields.iter().copied().map(Test::Has).collect())
}

/// `then` must be, where `when` is.
pub(crate) fn given(when: Test, then: Test) -> Test {
    Test::Any(vec![not(when), then])
}

pub(crate) struct Rule {
    pub(crate) test: Test,
    /// The field to point at; empty is the object itself.
    pub(crate) at: &'static str,
    /// The message for a document that breaks the rule.
    pub(crate) words: &'static str,
    /// The whole message for files, where more can be said than the words it contains.
    pub(crate) more: Option<fn(&Node) -> Option<String>>,
}

pub(crate) fn rule(test: Test, at: &'static str, words: &'static str) -> Rule {
    Rule {
        test,
        at,
        words,
        more: None,
    }
}

/// A field that stays as it was made. Of files, `set.rs` judges that, which knows defaults; the API server refuses what is
/// wrong whatever the default is, and leaves the rest to the gateway's condition.
pub(crate) struct Fixed {
    pub(crate) path: &'static str,
    /// Groups of texts that mean the same.
    pub(crate) same: Vec<&'static [&'static str]>,
    pub(crate) words: &'static str,
}

impl Rule {
    pub(crate) fn check(&self, node: &Node, above: Mark, path: &Path<'_>, report: &mut Report) {
        if self.test.holds(node) {
            return;
        }
        let there = !self.at.is_empty() && below(node, self.at).is_some();
        let at = if there { node.mark(self.at) } else { above };
        let message = self.more.and_then(|more| more(node));
        let message = message.unwrap_or_else(|| self.words.to_owned());
        match self.at {
            "" => report.add(at, path, message),
            field => report.add(at, &Path::Key(path, field), message),
        }
    }

    pub(crate) fn cel(&self) -> Value {
        let mut rule = json!({ "rule": self.test.cel(), "message": self.words });
        // Metadata is Kubernetes' own: no path leads there.
        if !self.at.is_empty() && !self.at.starts_with("metadata") {
            rule["fieldPath"] = json!(format!(".{}", self.at));
        }
        rule
    }
}

impl Fixed {
    pub(crate) fn cel(&self) -> Value {
        let (now, before) = (value("self", self.path), value("oldSelf", self.path));
        let mut kept = vec![
            format!("!({})", has("self", self.path)),
            format!("!({})", has("oldSelf", self.path)),
            format!("{now} == {before}"),
        ];
        kept.extend(self.same.iter().map(|names| {
            let names = texts(names);
            format!("({now} in {names} && {before} in {names})")
        }));
        let field = self.path.split('.').next().unwrap_or_default();
        json!({ "rule": kept.join(" || "), "message": self.words, "fieldPath": format!(".{field}") })
    }
}

impl Test {
    pub(crate) fn holds(&self, node: &Node) -> bool {
        let text = |path| below(node, path).and_then(Node::text);
        match self {
            Self::Has(path) => below(node, path).is_some(),
            Self::True(path) => below(node, path).is_some_and(Node::is_true),
            Self::Is(path, words) => text(path).is_some_and(|text| words.contains(&text)),
            Self::StartsWith(path, start) => text(path).is_some_and(|text| text.starts_with(start)),
            Self::EndsWith(path, end) => text(path).is_some_and(|text| text.ends_with(end)),
            Self::Contains(path, part) => text(path).is_some_and(|text| text.contains(part)),
            Self::Fits(path, form) => text(path).is_some_and(|text| form.check(text).is_ok()),
            Self::Not(test) => !test.holds(node),
            Self::All(tests) => tests.iter().all(|test| test.holds(node)),
            Self::Any(tests) => tests.iter().any(|test| test.holds(node)),
        }
    }

    fn cel(&self) -> String {
        let with = |path: &str, what: String| format!("({} && {}{what})", has("self", path), value("self", path));
        match self {
            Self::Has(path) => has("self", path),
            Self::True(path) => with(path, String::new()),
            Self::Is(path, [word]) => with(path, format!(" == {}", quoted(word))),
            Self::Is(path, words) => with(path, format!(" in {}", texts(words))),
            Self::StartsWith(path, start) => with(path, format!(".startsWith({})", quoted(start))),
            Self::EndsWith(path, end) => with(path, format!(".endsWith({})", quoted(end))),
            Self::Contains(path, part) => with(path, format!(".contains({})", quoted(part))),
            Self::Fits(path, form) => {
                let patterns = form.patterns();
                let each = patterns.iter().map(|(pattern, _)| {
                    let matches = format!(".matches({})", quoted(pattern));
                    format!("{}{matches}", value("self", path))
                });
                let all: Vec<String> = std::iter::once(has("self", path)).chain(each).collect();
                format!("({})", all.join(" && "))
            }
            Self::Not(test) => match &**test {
                Self::Has(path) if !path.contains('.') => format!("!{}", has("self", path)),
                test => format!("!({})", test.cel()),
            },
            Self::All(tests) => joined(tests, " && "),
            Self::Any(tests) => joined(tests, " || "),
        }
    }
}

fn joined(tests: &[Test], how: &str) -> String {
    let tests: Vec<String> = tests.iter().map(Test::cel).collect();
    format!("({})", tests.join(how))
}

/// The rule for one text of a form: a message for each pattern it may miss.
pub(crate) fn form_rules(form: Form) -> Vec<Value> {
    let rule = |(pattern, words): &(&str, &str)| json!({ "rule": format!("self.matches({})", quoted(pattern)), "message": words });
    form.patterns().iter().map(rule).collect()
}

/// The rule for the keys of a map.
pub(crate) fn key_rules(form: Form) -> Vec<Value> {
    let rule = |(pattern, words): &(&str, &str)| json!({ "rule": format!("self.all(key, key.matches({}))", quoted(pattern)), "message": words });
    form.patterns().iter().map(rule).collect()
}

/// The rule for a map that may not have some keys.
pub(crate) fn without(keys: &[&str], words: &str) -> Value {
    json!({ "rule": format!("self.all(key, !(key in {}))", texts(keys)), "message": words })
}

fn below<'a>(node: &'a Node, path: &str) -> Option<&'a Node> {
    path.split('.')
        .filter(|step| !step.is_empty())
        .try_fold(node, |node, step| node.get(step))
}

/// Whether every field on the way is there; an object's name always is.
fn has(root: &str, path: &str) -> String {
    if path == "metadata.name" {
        return "true".to_owned();
    }
    let steps: Vec<&str> = path.split('.').collect();
    let each = (1..=steps.len()).map(|end| format!("has({})", value(root, &steps[..end].join("."))));
    each.collect::<Vec<_>>().join(" && ")
}

fn value(root: &str, path: &str) -> String {
    path.split('.')
        .fold(root.to_owned(), |above, step| format!("{above}.{}", escaped(step)))
}

/// A field's name as CEL has it: of its reserved words, the only one that is a field of ours.
fn escaped(name: &str) -> &str {
    if name == "namespace" { "__namespace__" } else { name }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn texts(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::tree::parse;

    fn node(text: &str) -> Node {
        parse(text, 0, 1).ok().flatten().unwrap()
    }

    #[test]
    fn a_rule_is_evaluated_on_files_as_its_cel_says_it() {
        let test = given(
            any(&["a", "b"]),
            Test::All(vec![
                Test::Is("c.namespace", &["x", "z"]),
                not(Test::Has("d")),
                not(Test::StartsWith("c.k", "it's")),
            ]),
        );
        assert_eq!(
            test.cel(),
            "(!((has(self.a) || has(self.b))) || ((has(self.c) && has(self.c.__namespace__) && self.c.__namespace__ in ['x', 'z']) && !has(self.d) && !((has(self.c) && has(self.c.k) && self.c.k.startsWith('it\\'s')))))"
        );
        for (text, holds) in [
            ("{}", true),
            ("{a:}", true),
            ("{a: 1}", false),
            ("{a: 1, c: {namespace: z}}", true),
            ("{b: 1, c: {namespace: w}}", false),
            ("{b: 1, c: {namespace: z}, d: 1}", false),
            ("{b: 1, c: {namespace: z, k: \"it's\"}}", false),
        ] {
            assert_eq!(test.holds(&node(text)), holds, "{text}");
        }
    }

    #[test]
    fn what_is_fixed_may_be_spelled_otherwise_and_left_out() {
        let fixed = Fixed {
            path: "provisioner.name",
            same: vec![&["nats", "natss"]],
            words: "is immutable",
        };
        let rule = fixed.cel();
        assert_eq!(
            rule["rule"],
            "!(has(self.provisioner) && has(self.provisioner.name)) || !(has(oldSelf.provisioner) && has(oldSelf.provisioner.name)) || self.provisioner.name == oldSelf.provisioner.name || (self.provisioner.name in ['nats', 'natss'] && oldSelf.provisioner.name in ['nats', 'natss'])"
        );
        assert_eq!(rule["fieldPath"], ".provisioner");
    }
}
