//! Filters of subscriptions: each dialect of the CloudEvents Subscriptions API as an expression.
//!
//! ```text
//! exact:  { tier: gold }             EXISTS tier AND tier = 'gold'
//! prefix: { type: com.example. }     type LIKE 'com.example.%'
//! all, any, not                      AND, OR, NOT
//! cesql:  EXPRESSION                 the expression, which must be true or false; a text may be `true` or `false`
//! ```
//!
//! A missing attribute is a non-match for `exact`, `prefix` and `suffix`, as that specification has it; in an expression of
//! the user's own it is an error.

use std::fmt;

use event::Event;

use crate::{
    Budget, Comparison, EvaluationError, Expression, Logic, Node, Pattern, TooDeep, Value,
    evaluate::{shorten, with_scope},
};

/// A filter of a subscription, ready to be applied to events.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    expression: Expression,
}

/// A filter that could not be evaluated: not a non-match, the event is dead-lettered (CONTRACT DL-7).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter {expression} failed at {part}: {message}{}", WhereClause(.attribute, .value))]
pub struct FilterError {
    /// The expression as text.
    pub expression: String,
    /// The part of it that has no value.
    pub part: String,
    /// The mistake, for people.
    pub message: String,
    /// The attribute that the part addresses; empty when it addresses none.
    pub attribute: String,
    /// The event's value of that name, shortened; empty when it has none.
    pub value: String,
}

/// Bytes of an expression that a log line and a letter show; the document has the whole.
const EXPRESSION_SHOWN_MAX: usize = 500;

/// Attributes that every event has: whether they exist needs no question.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

impl Filter {
    /// Every attribute has its value.
    pub fn exact<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> Self {
        Self::each(pairs, |attribute, expected| {
            let expected = Node::literal(Value::String(expected.to_owned().into()));
            Node::comparison(attribute, Comparison::Equal, expected)
        })
    }

    /// Every attribute begins with its text.
    pub fn prefix<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> Self {
        Self::each(pairs, |attribute, expected| {
            Node::like(attribute, false, Pattern::prefix(expected))
        })
    }

    /// Every attribute ends with its text.
    pub fn suffix<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> Self {
        Self::each(pairs, |attribute, expected| {
            Node::like(attribute, false, Pattern::suffix(expected))
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

    /// Takes what the other filter leaves out.
    pub fn negated(filter: Self) -> Result<Self, TooDeep> {
        Self::new(Node::negation(filter.into_root()))
    }

    /// Takes events for which the expression is true.
    pub fn cesql(expression: Expression) -> Result<Self, TooDeep> {
        Self::new(Node::predicate(expression.into_root()))
    }

    /// The expression that is evaluated.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// Whether the event passes.
    pub fn evaluate(&self, event: &Event) -> Result<bool, FilterError> {
        self.evaluate_within(event, &Budget::default())
    }

    /// Whether the event passes; several filters may share what one event may cost.
    pub fn evaluate_within(&self, event: &Event, budget: &Budget) -> Result<bool, FilterError> {
        let root = self.expression.root();
        with_scope(&self.expression, event, budget, |scope| scope.boolean(root))
            .map_err(|error| self.failed(&error, event))
    }

    fn new(root: Node) -> Result<Self, TooDeep> {
        Expression::new(root).map(|expression| Self { expression })
    }

    fn into_root(self) -> Node {
        self.expression.into_root()
    }

    fn each<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>, clause: impl Fn(Node, &str) -> Node) -> Self {
        let clauses = pairs.into_iter().flat_map(|(name, expected)| {
            let exists = (!REQUIRED.contains(&name)).then(|| Node::exists(name));
            exists.into_iter().chain([clause(Node::attribute(name), expected)])
        });
        // A chain of comparisons, however many: three levels.
        Self {
            expression: Expression::shallow(combined(Logic::And, clauses)),
        }
    }

    fn failed(&self, error: &EvaluationError<'_>, event: &Event) -> FilterError {
        let attribute = error.node.first_attribute().map_or("", |attribute| attribute.name());
        FilterError {
            expression: shown(&self.expression),
            part: shown(error.node),
            message: error.message.clone(),
            attribute: attribute.to_owned(),
            value: event.text(attribute).map_or_else(String::new, shorten),
        }
    }
}

/// Combines the nodes. None at all gives the neutral value: true for `all`, false for `any`.
fn combined(operator: Logic, mut nodes: impl Iterator<Item = Node>) -> Node {
    let neutral = Node::literal(Value::Boolean(operator == Logic::And));
    let first = nodes.next().unwrap_or(neutral);
    nodes.fold(first, |left, right| Node::logic(left, operator, right))
}

/// The beginning of what may be long. Writing stops there: a filter that fails on every event costs no more than this.
fn shown(what: &impl fmt::Display) -> String {
    struct Bounded(String);
    impl fmt::Write for Bounded {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = EXPRESSION_SHOWN_MAX - self.0.len();
            let end = (0..=room.min(text.len())).rfind(|end| text.is_char_boundary(*end));
            self.0.push_str(&text[..end.unwrap_or(0)]);
            if text.len() > room { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut bounded = Bounded(String::new());
    let is_cut = fmt::write(&mut bounded, format_args!("{what}")).is_err();
    bounded.0 + if is_cut { "..." } else { "" }
}

/// `, where tier is 'gold'`, when the message does not say so already.
struct WhereClause<'a>(&'a str, &'a str);

impl fmt::Display for WhereClause<'_> {
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

    /// Proves: CH-2, DL-7
    #[test]
    fn a_filter_that_is_too_costly_for_an_event_fails_on_it_and_says_so() {
        let long = Event::builder("1", "/s", "t")
            .set("big", &"a".repeat(250_000))
            .finish()
            .unwrap();
        let costly = format!("big LIKE '%{}b%'", "_".repeat(250));
        assert_eq!(cesql(&costly).evaluate(&long), Ok(false), "one alone is fine");
        let hostile = cesql(&vec![costly; 60].join(" OR "));
        let error = hostile.evaluate(&long).unwrap_err();
        assert!(error.message.contains("too costly for this event"), "{error}");
        assert!(error.to_string().len() < 2_000, "the expression is shown in part");
        assert!(hostile.evaluate(&event()).is_err(), "which has no such attribute");
        for costly in [
            "LENGTH(UPPER(big)) > 1",
            "INT(LEFT(big, 9)) > 1 OR TRUE",
            "big = big",
            "big IN (big)",
        ] {
            let many = cesql(&vec![format!("NOT ({costly})"); 600].join(" AND TRUE OR "));
            assert!(many.evaluate(&long).is_err() || cesql(costly).evaluate(&long).is_ok());
        }
    }

    /// Proves: CH-2
    #[test]
    fn filters_of_one_subscription_share_what_an_event_may_cost() {
        let long = Event::builder("1", "/s", "t")
            .set("big", &"a".repeat(250_000))
            .finish()
            .unwrap();
        let filter = cesql(&format!("NOT (big LIKE '%{}b%')", "_".repeat(250)));
        let budget = Budget::default();
        assert_eq!(filter.evaluate_within(&long, &budget), Ok(true));
        assert!(budget.taken() > 1_000_000 && budget.taken() <= crate::STEPS_MAX);
        assert!(filter.evaluate_within(&long, &budget).is_ok() != filter.evaluate_within(&long, &budget).is_ok());
    }

    /// Proves: DL-7
    #[test]
    fn a_value_that_is_not_boolean_is_no_match_and_no_silence() {
        for text in ["1", "tier", "'yes'", "LENGTH(id)"] {
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
        // HTTP headers bring truth values as texts.
        assert!(passes(&cesql("'TRUE'")) && !passes(&cesql("CONCAT('fal', 'se')")));
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
