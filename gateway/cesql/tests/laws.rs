//! What holds of every expression: it is read back as it is printed, it has a value on every event, and logic is logic.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cesql::{
    Arithmetic, Comparison, ErrorKind, Evaluation, Expression, Logic, Node, Pattern, Value, evaluate, explain,
};
use event::{Event, ValueKind};
use proptest::{collection::vec, prelude::*, sample::select};

const NAMES: [&str; 7] = ["id", "type", "a", "number", "truth", "absent", "9lives"];

/// Texts that can stand in a literal: not with an odd `\` at the end, nor with both `\'` and `\"` in them.
fn texts() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "a", "B", " ", "é", "日", "'", "\"", "%", "_", r"\\", r"\n", r"\%", "1", "-", "true", "\n",
    ]);
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn leaves() -> impl Strategy<Value = Node> {
    prop_oneof![
        any::<bool>().prop_map(|value| Node::literal(Value::Boolean(value))),
        prop_oneof![any::<i32>(), -3..3, Just(i32::MIN)].prop_map(|value| Node::literal(Value::Integer(value))),
        texts().prop_map(|text| Node::literal(Value::String(text.into()))),
        select(&NAMES[..]).prop_map(Node::attribute),
        select(&NAMES[..]).prop_map(Node::exists),
    ]
}

fn nodes() -> impl Strategy<Value = Node> {
    use Arithmetic::{Add, Divide, Multiply, Remainder, Subtract};
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let functions = [
        "ABS",
        "length",
        "CONCAT",
        "CONCAT_WS",
        "UPPER",
        "trim",
        "LEFT",
        "RIGHT",
        "SUBSTRING",
        "INT",
        "IS_BOOL",
        "NONE",
    ];
    leaves().prop_recursive(6, 60, 4, move |inner| {
        let arithmetic = select(vec![Add, Divide, Multiply, Remainder, Subtract]);
        let comparison = select(vec![Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual]);
        prop_oneof![
            inner.clone().prop_map(Node::negation),
            inner.clone().prop_map(Node::minus),
            (inner.clone(), any::<bool>(), texts()).prop_map(|(text, negated, pattern)| Node::like(
                text,
                negated,
                Pattern::parse(&pattern).unwrap()
            )),
            (inner.clone(), any::<bool>(), vec(inner.clone(), 1..4))
                .prop_map(|(expected, negated, set)| Node::is_in(expected, negated, set)),
            (inner.clone(), arithmetic, inner.clone())
                .prop_map(|(left, operator, right)| Node::arithmetic(left, operator, right)),
            (inner.clone(), comparison, inner.clone())
                .prop_map(|(left, operator, right)| Node::comparison(left, operator, right)),
            (
                inner.clone(),
                select(vec![Logic::And, Logic::Or, Logic::Xor]),
                inner.clone()
            )
                .prop_map(|(left, operator, right)| Node::logic(left, operator, right)),
            (select(functions.to_vec()), vec(inner, 0..4)).prop_map(|(name, arguments)| Node::call(name, arguments)),
        ]
    })
}

fn events() -> impl Strategy<Value = Event> {
    let text = select(vec!["", "x", "true", "FALSE", "12", "-2147483648", "é日'%", " padded "]);
    (text.clone(), text, any::<i32>(), any::<bool>()).prop_map(|(kind, a, number, truth)| {
        let (number, truth) = (number.to_string(), truth.to_string());
        let kind = if kind.is_empty() { "t" } else { kind };
        let typed = |text, kind| event::Value { text, kind };
        let event = Event::builder("1", "/s", kind).set("a", a);
        let event = event.set_value("number", typed(&number, ValueKind::Integer));
        event
            .set_value("truth", typed(&truth, ValueKind::Boolean))
            .finish()
            .unwrap()
    })
}

fn expression(node: Node) -> Expression {
    Expression::new(node).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_printed_is_read_back_as_the_same(node in nodes()) {
        let tree = expression(node);
        let printed = tree.to_string();
        let read: Expression = printed.parse().map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
        prop_assert_eq!(&read, &tree, "{}", printed);
        prop_assert_eq!(read.to_string(), printed);
    }

    #[test]
    fn every_expression_has_a_value_of_its_type_on_every_event(node in nodes(), event in events()) {
        let tree = expression(node);
        let Evaluation { value, error } = evaluate(&tree, &event);
        if let Some(returns) = tree.root().returns() {
            prop_assert_eq!(value.kind(), returns);
        }
        match error {
            Some(error) => {
                prop_assert!(!matches!(error.kind, ErrorKind::Parse | ErrorKind::Generic), "{}", error);
                let own = ["LEFT(", "RIGHT(", "ABS("].iter().any(|name| tree.to_string().starts_with(name));
                prop_assert!(own || value == value.kind().zero(), "{}", tree);
                prop_assert_eq!(explain(&tree, &event).clause, error.node);
            }
            None => {
                // The clause that decided alone says the same, or its opposite under NOT.
                let clause = expression(explain(&tree, &event).clause.clone());
                prop_assert!(evaluate(&clause, &event).error.is_none());
            }
        }
    }

    #[test]
    fn any_text_is_an_expression_or_refused(text in ".{0,40}", event in events()) {
        if let Ok(tree) = text.parse::<Expression>() {
            evaluate(&tree, &event);
            prop_assert_eq!(tree.to_string().parse::<Expression>(), Ok(tree));
        }
    }

    #[test]
    fn words_in_any_order_are_an_expression_or_refused(
        words in vec(select(vec!["a", "1", "'x'", "(", ")", ",", "AND", "or", "NOT", "-", "+", "=", "<", "LIKE", "IN", "ABS", "EXISTS", "%"]), 0..12),
        event in events(),
    ) {
        if let Ok(tree) = words.join(" ").parse::<Expression>() {
            evaluate(&tree, &event);
            prop_assert_eq!(tree.to_string().parse::<Expression>(), Ok(tree));
        }
    }

    #[test]
    fn logic_keeps_its_laws_where_there_is_no_error(x in nodes(), y in nodes(), event in events()) {
        let boolean = |node: &Node| {
            let tree = expression(Node::call("BOOL", vec![node.clone()]));
            let evaluation = evaluate(&tree, &event);
            (evaluation.error.is_none()).then_some(evaluation.value == Value::Boolean(true))
        };
        let (Some(left), Some(right)) = (boolean(&x), boolean(&y)) else { return Ok(()) };
        let logic = |operator| Node::logic(x.clone(), operator, y.clone());
        let swapped = |operator| Node::logic(y.clone(), operator, x.clone());
        prop_assert_eq!(boolean(&logic(Logic::And)), Some(left && right));
        prop_assert_eq!(boolean(&logic(Logic::Or)), Some(left || right));
        prop_assert_eq!(boolean(&logic(Logic::Xor)), Some(left != right));
        for operator in [Logic::And, Logic::Or, Logic::Xor] {
            prop_assert_eq!(boolean(&logic(operator)), boolean(&swapped(operator)));
        }
        prop_assert_eq!(boolean(&Node::negation(Node::negation(x.clone()))), Some(left));
        let neither = Node::logic(Node::negation(x.clone()), Logic::And, Node::negation(y.clone()));
        prop_assert_eq!(boolean(&Node::negation(logic(Logic::Or))), boolean(&neither));
    }

    #[test]
    fn negations_are_the_opposite_where_there_is_no_error(x in nodes(), y in nodes(), pattern in texts(), event in events()) {
        let pairs = [
            [Comparison::Equal, Comparison::NotEqual].map(|operator| Node::comparison(x.clone(), operator, y.clone())),
            [Comparison::Less, Comparison::GreaterOrEqual].map(|operator| Node::comparison(x.clone(), operator, y.clone())),
            [false, true].map(|negated| Node::like(x.clone(), negated, Pattern::parse(&pattern).unwrap())),
            [false, true].map(|negated| Node::is_in(x.clone(), negated, vec![y.clone()])),
        ];
        for pair in pairs {
            let [one, other] = pair.map(expression);
            let (one, other) = (evaluate(&one, &event), evaluate(&other, &event));
            match (&one.error, &other.error) {
                (None, None) => prop_assert_ne!(one.value, other.value),
                (Some(one), Some(other)) => prop_assert_eq!(one.kind, other.kind),
                _ => prop_assert!(false, "only one of them fails"),
            }
        }
    }
}
