//! The pages in docs/reference/documents: every field of every kind, written from what `headgate schema` prints.
//!
//! An object whose schema is the same as that of an object above it on the page is not described twice: its row links to the first.

mod cells;

use std::{collections::BTreeMap, fmt::Write as _};

use cells::{bounds, capital, kind_of, sentence, split_default, text};
use serde_json::{Value, json};

use crate::tree::{self, Source};

/// Where the pages are, below the root.
pub const FOLDER: &str = "docs/reference/documents";

/// The release that brought a field. The first release brings all of them; a field that comes later says so in its description.
const SINCE: &str = "0.1";

const NOTE: &str =
    "<!-- Written from `headgate schema` by `HEADGATE_BLESS=1 cargo test -p e2e --test field_pages`. -->\n";

const INTRODUCTION: &str = include_str!("field_pages/introduction.md");

/// Name -> text of each page.
pub fn pages(schema: &Value) -> BTreeMap<String, String> {
    let definitions = &schema["definitions"];
    let kinds: BTreeMap<&String, Value> = definitions
        .as_object()
        .expect("a schema of all kinds")
        .iter()
        .filter(|(_, schema)| {
            schema["properties"]
                .get("apiVersion")
                .is_some_and(|version| version.get("const").is_some())
        })
        .map(|(kind, schema)| (kind, inlined(schema, definitions, &[])))
        .collect();
    let samples = samples();
    let mut pages: BTreeMap<String, String> = kinds
        .iter()
        .map(|(kind, schema)| {
            let mut page = Page::default();
            page.kind(kind, schema, samples.get(*kind));
            (file(kind), page.text)
        })
        .collect();
    let mut index = format!("{NOTE}{INTRODUCTION}\n");
    index.push_str("| kind | apiVersion | what it is |\n|--|--|--|\n");
    for (kind, schema) in &kinds {
        let (version, described) = (
            text(&schema["properties"]["apiVersion"]["const"]),
            text(&schema["description"]),
        );
        writeln!(index, "| [{kind}]({}) | `{version}` | {described} |", file(kind)).expect("a string grows");
    }
    let mut page = Page::default();
    let metadata = inlined(&definitions["Channel"]["properties"]["metadata"], definitions, &[]);
    page.object("metadata", &metadata);
    index.push_str(&page.text);
    pages.insert("README.md".to_owned(), index);
    pages
}

/// The schema with each reference replaced by its definition. A definition inside of itself is described above.
fn inlined(schema: &Value, definitions: &Value, above: &[&str]) -> Value {
    match schema {
        Value::Object(words) => {
            let name = words
                .get("$ref")
                .and_then(|name| text(name).strip_prefix("#/definitions/"));
            if name.is_some_and(|name| above.contains(&name)) {
                return json!({ "type": "object" });
            }
            let above = [above, name.as_slice()].concat();
            let definition = name.map(|name| inlined(&definitions[name], definitions, &above));
            let mut made = definition
                .and_then(|made| made.as_object().cloned())
                .unwrap_or_default();
            for (word, part) in words.iter().filter(|(word, _)| *word != "$ref") {
                made.insert(word.clone(), inlined(part, definitions, &above));
            }
            Value::Object(made)
        }
        Value::Array(parts) => parts.iter().map(|part| inlined(part, definitions, above)).collect(),
        other => other.clone(),
    }
}

fn file(kind: &str) -> String {
    format!("{}.md", kind.to_lowercase())
}

/// Kind -> its longest document among the samples, and the sample's path.
fn samples() -> BTreeMap<String, (String, String)> {
    let mut longest: BTreeMap<String, (String, String)> = BTreeMap::new();
    let samples = tree::text_files()
        .into_iter()
        .filter(|file| file.path.starts_with("deploy/samples/"));
    for Source { path, text } in samples {
        for document in text.split("\n---\n") {
            let Some(kind) = document.lines().find_map(|line| line.strip_prefix("kind: ")) else {
                continue;
            };
            let bare = document
                .lines()
                .skip_while(|line| line.starts_with('#'))
                .collect::<Vec<_>>()
                .join("\n");
            let known = longest.get(kind).map_or(0, |(_, known)| known.lines().count());
            if bare.lines().count() > known {
                longest.insert(kind.to_owned(), (path.clone(), bare.trim().to_owned()));
            }
        }
    }
    longest
}

#[derive(Default)]
struct Page {
    text: String,
    /// Schema, without its description -> the heading under which it is described.
    described: Vec<(Value, String)>,
}

impl Page {
    fn kind(&mut self, kind: &str, schema: &Value, sample: Option<&(String, String)>) {
        let properties = &schema["properties"];
        self.line(&format!("{NOTE}# {kind}\n\n{}\n", text(&schema["description"])));
        self.line(&format!(
            "    apiVersion: {}\n    kind: {kind}\n",
            text(&properties["apiVersion"]["const"])
        ));
        self.line(&format!(
            "`metadata` is described [for all kinds](README.md#metadata). Every field is there since {SINCE}."
        ));
        if let Some((path, document)) = sample {
            let name = path.rsplit('/').next().unwrap_or(path);
            self.line(&format!(
                "\n## Example\n\nFrom [{name}](../../../{path}):\n\n```yaml\n{document}\n```"
            ));
        }
        self.rules(schema);
        for name in ["spec", "stringData", "data"] {
            if let Some(part) = properties.get(name) {
                self.object(name, part);
            }
        }
        for (path, variants) in variants(schema) {
            for variant in variants {
                self.object(&format!("{path} ({})", text(&variant["title"])), variant);
            }
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A section for an object, and then for those in it.
    fn object(&mut self, path: &str, schema: &Value) {
        self.described.push((bare(schema), path.to_owned()));
        self.line(&format!("\n## {path}"));
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            let described = text(&schema["description"]);
            return self.line(&format!("\n{}. {described}", capital(&kind_of(schema))));
        };
        let is_read = |field: &&(&String, &Value)| !text(&field.1["description"]).starts_with("Not read");
        let fields: Vec<(&String, &Value)> = properties.iter().collect();
        let (read, unread): (Vec<_>, Vec<_>) = fields.into_iter().partition(|field| is_read(&field));
        let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().map(text).collect();
        if read.is_empty() {
            self.line("\nThere are no fields.");
        } else {
            self.line("\n| field | type | default | bounds | meaning |\n|--|--|--|--|--|");
        }
        let mut below = Vec::new();
        for (name, field) in read {
            let here = format!("{}.{name}", path.split(" (").next().unwrap_or(path));
            let (meaning, default) = split_default(text(&field["description"]));
            let default = if required.contains(&name.as_str()) {
                "required".to_owned()
            } else {
                default
            };
            let mut meaning = sentence(&meaning);
            if SETTINGS.contains(&here.as_str()) {
                meaning.push_str(" The fields depend on the backend: see the sections below.");
            }
            if let Some((heading, object)) = self.nested(&here, field) {
                let known = self.described.iter().find(|(known, _)| *known == bare(object));
                let (verb, at) = known.map_or(("See", &heading), |(_, at)| ("Fields as in", at));
                write!(meaning, " {verb} [{at}](#{}).", anchor(at)).expect("a string grows");
                if known.is_none() {
                    self.described.push((bare(object), heading.clone()));
                    below.push((heading, object));
                }
            }
            let cells = [
                kind_of(field),
                default,
                bounds(field).join("; "),
                meaning.trim().to_owned(),
            ];
            let cells = cells.map(|cell| cell.replace('|', "\\|"));
            self.line(&format!("| `{name}` | {} |", cells.join(" | ")));
        }
        self.rules(schema);
        if !unread.is_empty() {
            let names: Vec<String> = unread.iter().map(|(name, _)| format!("`{name}`")).collect();
            self.line(&format!("\nAccepted and not read: {}.", names.join(", ")));
        }
        for (heading, object) in below {
            self.object(&heading, object);
        }
    }

    /// The heading and schema of the object that a field is, or has many of.
    fn nested<'a>(&self, path: &str, field: &'a Value) -> Option<(String, &'a Value)> {
        if field.get("properties").is_some() {
            return Some((path.to_owned(), field));
        }
        let item = field.get("items").filter(|item| item.get("properties").is_some())?;
        Some((format!("{path}[]"), item))
    }

    /// The rules that hold between several fields.
    fn rules(&mut self, schema: &Value) {
        let rules = schema["allOf"].as_array().into_iter().flatten();
        let messages: Vec<&str> = rules.filter_map(|rule| rule["errorMessage"].as_str()).collect();
        if !messages.is_empty() {
            self.line("\nA document is refused with one of these messages when it breaks a rule:\n");
        }
        for rule in messages {
            self.line(&format!("- {rule}"));
        }
    }
}

/// A schema without what differs between two uses of it.
fn bare(schema: &Value) -> Value {
    let mut bare = schema.clone();
    if let Value::Object(words) = &mut bare {
        words.remove("description");
    }
    bare
}

/// The objects whose fields depend on the backend.
const SETTINGS: [&str; 2] = ["spec.arguments", "spec.config"];

/// Settings that depend on the backend: where they are, and one schema for each backend.
fn variants(schema: &Value) -> Vec<(&'static str, Vec<&Value>)> {
    let of = |rules: &'static str, then: &'static str| -> Vec<&Value> {
        let rules = schema.pointer(rules).and_then(Value::as_array).into_iter().flatten();
        rules
            .filter_map(|rule| rule.pointer(then))
            .filter(|part| part.get("title").is_some())
            .collect()
    };
    let arguments = of("/properties/spec/allOf", "/then/properties/arguments");
    let config = of("/allOf", "/then/properties/spec/properties/config");
    let all = [(SETTINGS[0], arguments), (SETTINGS[1], config)];
    all.into_iter().filter(|(_, variants)| !variants.is_empty()).collect()
}

/// As GitHub makes them.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_those_of_github() {
        assert_eq!(anchor("spec.arguments (kafka)"), "specarguments-kafka");
        assert_eq!(anchor("spec.subscribable.subscribers[]"), "specsubscribablesubscribers");
    }
}
