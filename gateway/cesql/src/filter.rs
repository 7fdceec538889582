//! What a subscription has: each dialect of the CloudEvents Subscriptions API as an expression.
//!
//! ```text
//! exact:  { tier: gold }             EXISTS tier AND tier = 'gold'
//! prefix: { type: com.example. }     type LIKE 'com.example.%'
//! all, any, not                      AND, OR, NOT
//! cesql:  EXPRESSION                 the expression, which must be true or false without a cast
//! ```
//!
//! A missing attribute is a non-match for `exact`, `prefix` and `suffix`, as that specification has it; in an expression of
//! the user's own it is an error.

use std::fmt;

use event::Event;

use crate::{
    Comparison, EvaluationError, Expression, Logic, Node, Pattern, TooDeep, Value,
    evaluate::{shorten, with_scope},
};

#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    expression: Expression,
}

/// A filter that could not be evaluated: not a non-match, the event is dead-lettered (CONTRACT DL-7).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter {expression} failed at {part}: {message}{}", Given(.attribute, .value))]
pub struct FilterError {
    pub expression: String,
    /// The part of it that has no value.
    pub part: String,
    pub message: String,
    /// The attribute that the part addresses; empty when it addresses none.
    pub attribute: String,
    /// What the event has under that name, shortened; empty when it has none.
    pub value: String,
}

/// Bytes of an expression that a log line and a letter show; the document has the whole.
const EXPRESSION_SHOWN_MAX: usize = 500;

/// Attributes that every event has: whether they exist needs no question.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

impl Filter {
    /// Every attribute has its value.
    pub fn exact<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> Self {
        Self::each(pairs, |attribute, wanted| {
            let wanted = Node::literal(Value::String(wanted.to_owned().into()));
            Node::comparison(attribute, Comparison::Equal, wanted)
        })
    }

    /// Every attribute begins with its text.
    pub fn prefix<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> Self {
        Self::each(pairs, |attribute, wanted| {
            Node::like(attribute, false, Pattern::prefix(wanted))
        })
    }

    /// Every attribute ends with its text.
    pub fn suffix<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> Self {
        Self::each(pairs, |attribute, wanted| {
            Node::like(attribute, false, Pattern::suffix(wanted))
        })
    }

    /// All match; so does every event when there are none.
    pub fn all(filters: impl IntoIterator<Item = Self>) -> Result<Self, TooDeep> {
        Self::new(combined(Logic::And, filters.into_iter().map(Self::into_root)))
    }

    /// At least one matches.
    pub fn any(filters: impl IntoIterator<Item = Self>) -> Result<Self, TooDeep> {
        Self::new(combined(Logic::Or, filters.into_iter().map(Self::into_root)))
    }

    pub fn negated(filter: Self) -> Result<Self, TooDeep> {
        Self::new(Node::negation(filter.into_root()))
    }

    pub fn cesql(expression: Expression) -> Result<Self, TooDeep> {
        Self::new(Node::predicate(expression.into_root()))
    }

    /// What is evaluated.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// Whether the event passes.
    pub fn evaluate(&self, event: &Event) -> Result<bool, FilterError> {
        with_scope(&self.expression, event, |scope| scope.boolean(self.expression.root()))
            .map_err(|error| self.failed(&error, event))
    }

    fn new(root: Node) -> Result<Self, TooDeep> {
        Expression::new(root).map(|expression| Self { expression })
    }

    fn into_root(self) -> Node {
        self.expression.into_root()
    }

    fn each<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>, clause: impl Fn(Node, &str) -> Node) -> Self {
        let clauses = pairs.into_iter().flat_map(|(name, wanted)| {
            let exists = (!REQUIRED.contains(&name)).then(|| Node::exists(name));
            exists.into_iter().chain([clause(Node::attribute(name), wanted)])
        });
        // A chain of comparisons, however many: three levels.
        Self {
            expression: Expression::shallow(combined(Logic::And, clauses)),
        }
    }

    fn failed(&self, error: &EvaluationError<'_>, event: &Event) -> FilterError {
        let attribute = error.node.attributes().first().map_or("", |attribute| attribute.name());
        FilterError {
            expression: cut(&self.expression.to_string()).to_owned(),
            part: cut(&error.node.to_string()).to_owned(),
            message: error.message.clone(),
            attribute: attribute.to_owned(),
            value: event.text(attribute).map_or_else(String::new, shorten),
        }
    }
}

/// What nothing is combined to is what changes nothing in such a combination.
fn combined(operator: Logic, mut nodes: impl Iterator<Item = Node>) -> Node {
    let neutral = Node::literal(Value::Boolean(operator == Logic::And));
    let first = nodes.next().unwrap_or(neutral);
    nodes.fold(first, |left, right| Node::logic(left, operator, right))
}

fn cut(text: &str) -> &str {
    let end = (0..=EXPRESSION_SHOWN_MAX.min(text.len())).rfind(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// `, where tier is 'gold'`, when the message does not say so already.
struct Given<'a>(&'a str, &'a str);

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            ("", _) | (_, "") => Ok(()),
            (attribute, value) => write!(f, ", where {attribute} is {value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn event() -> Event {
        let event = Event::builder("1", "/shop/eu", "order.created").set("tier", "gold");
        event.finish().unwrap()
    }

    fn exact(name: &str, value: &str) -> Filter {
        Filter::exact([(name, value)])
    }

    fn cesql(text: &str) -> Filter {
        Filter::cesql(text.parse().unwrap()).unwrap()
    }

    fn passes(filter: &Filter) -> bool {
        filter.evaluate(&event()).unwrap()
    }

    #[test]
    fn each_dialect_means_what_the_subscriptions_api_says() {
        assert!(passes(&exact("type", "order.created")) && !passes(&exact("type", "order")));
        assert!(!passes(&exact("absent", "")), "a missing attribute does not match");
        assert!(passes(&Filter::prefix([("type", "order.")])));
        assert!(!passes(&Filter::prefix([("absent", "")])));
        assert!(passes(&Filter::suffix([("source", "/eu"), ("tier", "old")])));
        assert!(!passes(&Filter::suffix([("source", "/eu"), ("tier", "new")])));
        assert!(passes(&Filter::negated(exact("tier", "silver")).unwrap()));
        assert!(passes(&Filter::negated(exact("absent", "silver")).unwrap()));
        assert!(passes(&Filter::all([exact("tier", "gold"), exact("id", "1")]).unwrap()));
        assert!(passes(
            &Filter::any([exact("tier", "silver"), exact("id", "1")]).unwrap()
        ));
        assert!(!passes(&Filter::any([]).unwrap()) && passes(&Filter::all([]).unwrap()));
        assert!(
            !passes(&Filter::prefix([("type", "order_")])),
            "no wildcard in a prefix"
        );
    }

    #[test]
    fn a_dialect_is_an_expression_that_can_be_read() {
        assert_eq!(exact("type", "it's").expression().to_string(), r"type = 'it\'s'");
        let both = Filter::exact([("id", "1"), ("tier", "gold")]);
        assert_eq!(
            both.expression().to_string(),
            "id = '1' AND EXISTS tier AND tier = 'gold'"
        );
        let nested = Filter::negated(Filter::any([Filter::suffix([("source", "_")]), cesql("tier = 'a'")]).unwrap());
        assert_eq!(
            nested.unwrap().expression().to_string(),
            r"NOT (source LIKE '%\_' OR tier = 'a')"
        );
    }

    /// Proves: DL-7
    #[test]
    fn what_cannot_be_evaluated_is_told_with_the_attribute_and_its_value() {
        let error = cesql("type = 'order.created' AND INT(tier) > 3")
            .evaluate(&event())
            .unwrap_err();
        assert_eq!(
            (&*error.attribute, &*error.value, &*error.part),
            ("tier", "'gold'", "tier")
        );
        assert_eq!(
            error.to_string(),
            "filter type = 'order.created' AND INT(tier) > 3 failed at tier: 'gold' is no Integer, where tier is 'gold'"
        );
        let error = cesql("absent = 'x'").evaluate(&event()).unwrap_err();
        assert_eq!((&*error.attribute, &*error.value), ("absent", ""));
        assert_eq!(
            error.to_string(),
            "filter absent = 'x' failed at absent: the event has no attribute `absent`"
        );
    }

    /// Proves: DL-7
    #[test]
    fn a_value_that_is_not_boolean_is_no_match_and_no_silence() {
        for text in ["1", "tier", "'true'", "LENGTH(id)"] {
            assert!(cesql(text).evaluate(&event()).is_err(), "{text}");
            // Not even where an operator around it would cast.
            assert!(
                Filter::negated(cesql(text)).unwrap().evaluate(&event()).is_err(),
                "{text}"
            );
            assert!(
                Filter::all([exact("id", "1"), cesql(text)])
                    .unwrap()
                    .evaluate(&event())
                    .is_err(),
                "{text}"
            );
        }
        let truth = Event::builder("1", "/s", "t").set_value(
            "ok",
            event::Value {
                text: "true",
                kind: event::ValueKind::Boolean,
            },
        );
        assert_eq!(cesql("ok").evaluate(&truth.finish().unwrap()), Ok(true));
    }
}
