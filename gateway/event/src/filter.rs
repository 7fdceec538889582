//! Filters of the CloudEvents Subscriptions API: exact, prefix, suffix, all, any, not.

use crate::Event;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Every pair matches: attribute and value are equal. A missing attribute does not match.
    Exact(Vec<(String, String)>),
    Prefix(Vec<(String, String)>),
    Suffix(Vec<(String, String)>),
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
}

/// An expression that could not be evaluated: not a non-match, the event is dead-lettered (CONTRACT DL-7).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter {expression:?} failed on attribute {attribute} with value {value:?}: {message}")]
pub struct FilterError {
    pub expression: String,
    pub attribute: String,
    pub value: String,
    pub message: String,
}

impl Filter {
    /// Whether the event passes.
    pub fn evaluate(&self, event: &Event) -> Result<bool, FilterError> {
        let each = |pairs: &[(String, String)], matches: fn(&str, &str) -> bool| {
            pairs
                .iter()
                .all(|(name, wanted)| event.text(name).is_some_and(|value| matches(value, wanted)))
        };
        match self {
            Self::Exact(pairs) => Ok(each(pairs, |value, wanted| value == wanted)),
            Self::Prefix(pairs) => Ok(each(pairs, |value, wanted| value.starts_with(wanted))),
            Self::Suffix(pairs) => Ok(each(pairs, |value, wanted| value.ends_with(wanted))),
            Self::All(filters) => {
                for filter in filters {
                    if !filter.evaluate(event)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Any(filters) => {
                for filter in filters {
                    if filter.evaluate(event)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Not(filter) => filter.evaluate(event).map(|passes| !passes),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn pairs(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.into(), value.into())]
    }

    #[test]
    fn each_dialect_means_what_the_subscriptions_api_says() {
        let event = Event::builder("1", "/shop/eu", "order.created")
            .set("tier", "gold")
            .finish()
            .unwrap();
        let exact = |name, value| Filter::Exact(pairs(name, value));
        let passes = |filter: Filter| filter.evaluate(&event).unwrap();
        assert!(passes(exact("type", "order.created")) && !passes(exact("type", "order")));
        assert!(!passes(exact("absent", "")), "a missing attribute does not match");
        assert!(passes(Filter::Prefix(pairs("type", "order."))) && passes(Filter::Suffix(pairs("source", "/eu"))));
        assert!(passes(Filter::Not(Box::new(exact("tier", "silver")))));
        assert!(passes(Filter::All(vec![exact("tier", "gold"), exact("id", "1")])));
        assert!(passes(Filter::Any(vec![exact("tier", "silver"), exact("id", "1")])));
        assert!(!passes(Filter::Any(vec![])) && passes(Filter::All(vec![])));
    }
}
