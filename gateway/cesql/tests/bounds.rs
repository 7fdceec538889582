//! What is nested, long or hostile is refused or evaluated, and never takes the process along.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cesql::{DEPTH_MAX, Expression, SOURCE_BYTES_MAX, STRING_BYTES_MAX, Value, evaluate};
use event::Event;

/// Three quarters of what a thread of the runtime has; an optimised build needs a fraction of it.
const STACK: usize = 1536 * 1024;

fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}

fn event(value: &str) -> Event {
    Event::builder("1", "/s", "t").set("a", value).finish().unwrap()
}

fn value(text: &str) -> Value<'static> {
    let expression: Expression = text.parse().unwrap();
    match evaluate(&expression, &event("x")).value {
        Value::Boolean(value) => Value::Boolean(value),
        Value::Integer(value) => Value::Integer(value),
        Value::String(text) => Value::String(text.into_owned().into()),
    }
}

#[test]
fn nesting_up_to_the_limit_is_read_and_evaluated() {
    on_a_small_stack(|| {
        let levels = DEPTH_MAX - 1;
        let nested =
            |open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(levels), close.repeat(levels));
        assert_eq!(value(&nested("(", "1", ")")), Value::Integer(1));
        assert_eq!(
            value(&nested("NOT ", "TRUE", "")),
            Value::Boolean(levels.is_multiple_of(2))
        );
        assert_eq!(
            value(&nested("-", " 1", "")),
            Value::Integer(if levels.is_multiple_of(2) { 1 } else { -1 })
        );
        assert_eq!(value(&nested("ABS(", "1", ")")), Value::Integer(1));
        assert_eq!(value(&nested("1 IN (", "1", ")")), Value::Boolean(true));
        let printed = nested("NOT (TRUE AND ", "FALSE", ")").parse::<Expression>();
        assert!(printed.is_err(), "two levels each");
    });
}

#[test]
fn deeper_nesting_is_refused_without_being_followed() {
    on_a_small_stack(|| {
        for text in [
            "(",
            "NOT ",
            "-",
            "ABS(",
            "1 IN (",
            "1 + (",
            "a AND NOT (",
            "CONCAT('', ",
        ] {
            let error = text
                .repeat(SOURCE_BYTES_MAX / text.len())
                .parse::<Expression>()
                .unwrap_err();
            assert!(error.message.contains("levels deep"), "{text}: {error}");
        }
        let sum = vec!["1"; DEPTH_MAX + 1].join(" + ").parse::<Expression>();
        assert!(sum.unwrap_err().message.contains("levels deep"));
        // Chains on the left of chains: no single nesting is deep, their sum is.
        let mut tower = "1".to_owned();
        for _ in 0..10 {
            tower = format!("({tower}{})", " + 1".repeat(40));
        }
        assert!(tower.parse::<Expression>().unwrap_err().message.contains("levels deep"));
    });
}

#[test]
fn a_long_chain_of_logic_is_one_level() {
    on_a_small_stack(|| {
        let clauses = 4000;
        assert_eq!(value(&vec!["a = 'y'"; clauses].join(" OR ")), Value::Boolean(false));
        assert_eq!(value(&vec!["a = 'x'"; clauses].join(" AND ")), Value::Boolean(true));
        let expected: Vec<String> = (0..clauses).map(|index| format!("'v{index}'")).collect();
        assert_eq!(value(&format!("a IN ({})", expected.join(", "))), Value::Boolean(false));
        let sum = vec!["1"; DEPTH_MAX - 1].join(" + ");
        assert_eq!(value(&sum), Value::Integer(i32::try_from(DEPTH_MAX - 1).unwrap()));
    });
}

#[test]
fn an_expression_has_a_largest_size() {
    let longest = format!("'{}'", "a".repeat(SOURCE_BYTES_MAX - 2));
    assert!(longest.parse::<Expression>().is_ok());
    let error = format!("{longest} ").parse::<Expression>().unwrap_err();
    assert!(error.message.contains("at most"), "{error}");
}

#[test]
fn a_text_does_not_grow_without_end() {
    let event = event(&"x".repeat(100_000));
    let all = ["a"; 11].join(", ");
    let expression: Expression = format!("CONCAT({all})").parse().unwrap();
    let evaluation = evaluate(&expression, &event);
    assert_eq!(evaluation.error.unwrap().kind, cesql::ErrorKind::FunctionEvaluation);
    let expression: Expression = format!("LENGTH(CONCAT_WS(a, {}))", ["''"; 11].join(", "))
        .parse()
        .unwrap();
    assert_eq!(evaluate(&expression, &event).value, Value::Integer(1_000_000));
    const { assert!(STRING_BYTES_MAX > 1_000_000) };
}

#[test]
fn long_texts_are_matched_in_one_go() {
    let event = event(&"ab".repeat(100_000));
    for (pattern, expected) in [
        ("%ba%bb%", false),
        ("%a_a_%b", true),
        ("ab%ab", true),
        ("%a%b%a%b%c", false),
    ] {
        let expression: Expression = format!("a LIKE '{pattern}'").parse().unwrap();
        assert_eq!(
            evaluate(&expression, &event).value,
            Value::Boolean(expected),
            "{pattern}"
        );
    }
}
