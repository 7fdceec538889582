//! A Secret's values, which no message and no excerpt ever shows.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    model::SecretText,
    resource::Secret,
    schema::{self, Form, Path, Report},
    tree::{Node, Value},
};

pub(super) fn secret(root: &Node, report: &mut Report) -> Secret {
    let mut secret = Secret::default();
    for (name, encoded) in [("data", true), ("stringData", false)] {
        let Some((written, node)) = root.entry(name) else {
            continue;
        };
        let path = Path::Key(&Path::Root, name);
        let Value::Map(entries) = &node.value else {
            report.add(
                written.at,
                &path,
                format!("expected a map of key to text, found {}", node.kind()),
            );
            continue;
        };
        schema::twice(node, &path, report);
        for (key, value) in entries {
            let here = Path::Key(&path, &key.name);
            if let Err(message) = Form::SecretKey.check(&key.name) {
                report.add(key.at, &here, message);
            }
            let Value::Text(text) = &value.value else {
                if !value.is_null() {
                    report.add(
                        key.at,
                        &here,
                        format!("expected text, found {}: put it in quotes", value.kind()),
                    );
                }
                continue;
            };
            let bytes = if encoded {
                // Long values are folded over lines in many manifests.
                let joined: String = text.split_ascii_whitespace().collect();
                STANDARD
                    .decode(joined)
                    .map_err(|_| "is no base64: write plain text under stringData")
            } else {
                Ok(text.as_bytes().to_vec())
            };
            match bytes {
                // stringData comes second and wins, as in Kubernetes.
                Ok(bytes) => drop(secret.values.insert(key.name.clone(), SecretText::new(bytes))),
                Err(message) => report.add(key.at, &here, message),
            }
        }
    }
    secret
}
