//! Filters as they are written, and as they are run: every dialect becomes one kind of expression.
//!
//! What is wrong with an expression is told beforehand, at its place, by the description (`schema/special.rs`).

use std::collections::BTreeMap;

use cesql::{Expression, Filter};
use serde::{Deserialize, Deserializer, de::Error};

/// One dialect of the CloudEvents Subscriptions API.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Written {
    Exact(BTreeMap<String, String>),
    Prefix(BTreeMap<String, String>),
    Suffix(BTreeMap<String, String>),
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    /// `sql` is its name in that specification, `cesql` in Knative.
    #[serde(alias = "sql")]
    Cesql(String),
}

pub(super) fn compiled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Filter>, D::Error> {
    let written = Vec::<Written>::deserialize(deserializer)?;
    written
        .iter()
        .map(|filter| filter.compiled().map_err(D::Error::custom))
        .collect()
}

impl Written {
    fn compiled(&self) -> Result<Filter, String> {
        let each = |filters: &[Self]| filters.iter().map(Self::compiled).collect::<Result<Vec<_>, _>>();
        let filter = match self {
            Self::Exact(wanted) => Ok(Filter::exact(pairs(wanted))),
            Self::Prefix(wanted) => Ok(Filter::prefix(pairs(wanted))),
            Self::Suffix(wanted) => Ok(Filter::suffix(pairs(wanted))),
            Self::All(filters) => Filter::all(each(filters)?),
            Self::Any(filters) => Filter::any(each(filters)?),
            Self::Not(filter) => Filter::negated(filter.compiled()?),
            Self::Cesql(text) => Filter::cesql(text.parse::<Expression>().map_err(|error| error.to_string())?),
        };
        filter.map_err(|error| format!("a filter: {error}"))
    }
}

fn pairs(wanted: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    wanted.iter().map(|(name, value)| (&**name, &**value))
}
