//! The cells of a row: type, default, bounds and meaning of a field.

use serde_json::Value;

/// A description as a sentence; required fields have a phrase.
pub(super) fn sentence(described: &str) -> String {
    let is_version = described.starts_with("v0.");
    let described = if is_version {
        described.to_owned()
    } else {
        capital(described)
    };
    let stop = if described.is_empty() || described.ends_with('.') {
        ""
    } else {
        "."
    };
    described + stop
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn capital(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

pub(super) fn kind_of(field: &Value) -> String {
    match &field["type"] {
        Value::String(kind) => match kind.as_str() {
            "string" if field["format"] == "date-time" => "time".to_owned(),
            "string" if is_duration(field) => "duration".to_owned(),
            "string" => "text".to_owned(),
            "array" => format!("list of {}", kind_of(&field["items"])),
            "object" if field["additionalProperties"].is_object() => {
                format!("map of {}", kind_of(&field["additionalProperties"]))
            }
            other => other.to_owned(),
        },
        // A number of bytes, or text such as 512Mi.
        Value::Array(_) => "size".to_owned(),
        _ if field["anyOf"][0].get("type").is_some() => {
            let parts = field["anyOf"].as_array().into_iter().flatten();
            parts.map(kind_of).collect::<Vec<_>>().join(" or ")
        }
        _ => {
            let is_text = field["pattern"].as_str().is_some_and(|pattern| pattern != "$.");
            let parts = [
                (is_text, "text"),
                (field.get("items").is_some(), "list"),
                (field["additionalProperties"].is_object(), "map"),
                (field.get("properties").is_some(), "object"),
            ];
            let parts: Vec<&str> = parts.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
            if parts.is_empty() {
                "any".to_owned()
            } else {
                parts.join(" or ")
            }
        }
    }
}

/// The words with which another text than a duration is refused.
const DURATION: &str = "expected an ISO 8601 duration";

fn is_duration(field: &Value) -> bool {
    messages(field).any(|message| message.starts_with(DURATION))
}

/// The words with which a text is refused.
fn messages(field: &Value) -> impl Iterator<Item = &str> {
    let rules = field["allOf"].as_array().into_iter().flatten();
    rules
        .chain([field])
        .filter_map(|rule| rule["patternErrorMessage"].as_str())
}

/// The bounds of a value: those of the schema, and the messages with which a wrong value is refused.
pub(super) fn bounds(field: &Value) -> Vec<String> {
    let mut bounds = Vec::new();
    if let Some(words) = field["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|word| format!("`{}`", text(word))).collect();
        bounds.push(words.join(", "));
    }
    if field.get("type").is_some() && field["type"].is_string() {
        match (field["minimum"].as_i64(), field["maximum"].as_i64()) {
            (Some(least), Some(most)) => bounds.push(format!("{least} to {most}")),
            (Some(least), None) => bounds.push(format!("at least {least}")),
            _ => {}
        }
    }
    for (word, least, what) in [
        ("maxLength", "at most", "characters"),
        ("minItems", "at least", "entries"),
        ("maxItems", "at most", "entries"),
        ("maxProperties", "at most", "keys"),
    ] {
        if let Some(count) = field[word].as_u64().filter(|count| *count > 1 && !is_duration(field)) {
            bounds.push(format!("{least} {count} {what}"));
        }
    }
    if field.get("properties").is_none() {
        for message in messages(field).filter(|message| !message.starts_with(DURATION)) {
            if !bounds.iter().any(|known| known == message) {
                bounds.push(message.to_owned());
            }
        }
    }
    bounds.extend(
        field
            .get("items")
            .filter(|item| item.get("properties").is_none())
            .map(self::bounds)
            .unwrap_or_default(),
    );
    bounds
}

/// A description without the default that it names, and the default.
pub(super) fn split_default(described: &str) -> (String, String) {
    let lower = described.to_lowercase();
    let Some(at) = lower.find("default ").or_else(|| lower.find("default: ")) else {
        return (described.to_owned(), String::new());
    };
    let rest = &described[at + "default".len()..];
    let rest = rest.trim_start_matches(':').trim_start();
    let ends = ["; ", ", ", ". "].iter().filter_map(|end| rest.find(end)).min();
    let (default, after) = rest.split_at(ends.unwrap_or(rest.len()));
    let before = described[..at].trim_end_matches([' ', ';', ',']);
    let after = after.trim_start_matches([';', ',', '.', ' ']);
    let stop = if before.is_empty() || before.ends_with('.') {
        ""
    } else {
        "."
    };
    let meaning = format!("{before}{stop} {}", capital(after));
    (meaning.trim().to_owned(), default.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_is_taken_out_of_its_description() {
        for (described, meaning, default) in [
            ("Default PT0.2S.", "", "PT0.2S"),
            ("Events; default 10 000.", "Events.", "10 000"),
            (
                "Attempts; default 24, about two hours.",
                "Attempts. About two hours.",
                "24",
            ),
            (
                "Kept; default 1 GiB. With more, it waits.",
                "Kept. With more, it waits.",
                "1 GiB",
            ),
            ("Nothing of the kind.", "Nothing of the kind.", ""),
        ] {
            assert_eq!(
                split_default(described),
                (meaning.to_owned(), default.to_owned()),
                "{described}"
            );
        }
    }
}
