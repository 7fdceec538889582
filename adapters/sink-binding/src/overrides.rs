//! The variable `K_CE_OVERRIDES`.

use std::collections::BTreeMap;

use serde_json::json;

/// Formats `K_CE_OVERRIDES` as Knative does: empty where there are none.
pub fn overrides(extensions: &BTreeMap<String, String>) -> String {
    if extensions.is_empty() {
        return String::new();
    }
    json!({ "extensions": extensions }).to_string()
}
