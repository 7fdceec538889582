//! The grammar (2): words and signs become a tree.
//!
//! ```text
//! loosest   AND OR XOR
//!           = != <> < <= > >=
//!           + -
//!           * / %
//!           LIKE, NOT LIKE, IN, NOT IN
//!           NOT, -            before their operand
//! tightest  literals, attributes, EXISTS, functions, (...)
//! ```
//!
//! All operators between two operands are taken from left to right (3.6). `-5` is a literal where an operand is due, and
//! anywhere else a minus and a 5: `3 -5` is -2. Names of attributes and functions may be written in any case, like keywords.

use winnow::{
    Parser,
    combinator::{alt, opt, preceded},
    stream::Location,
};

use super::{
    FOUND, Input, Parsed, demand, stop,
    words::{Word, blank, integer, keyword, sign, text, word},
};
use crate::{Arithmetic, Comparison, DEPTH_MAX, Logic, Node, Pattern, Span, TooDeep, Value, print::Level};

enum Operator {
    Between(Between),
    Like { negated: bool },
    In { negated: bool },
}

/// An operator between two operands.
enum Between {
    Logic(Logic),
    Comparison(Comparison),
    Arithmetic(Arithmetic),
}

impl Between {
    fn level(&self) -> Level {
        match self {
            Self::Logic(_) => Level::Logic,
            Self::Comparison(_) => Level::Comparison,
            Self::Arithmetic(operator) => operator.level(),
        }
    }

    fn node(self, left: Node, right: Node) -> Node {
        match self {
            Self::Logic(operator) => Node::logic(left, operator, right),
            Self::Comparison(operator) => Node::comparison(left, operator, right),
            Self::Arithmetic(operator) => Node::arithmetic(left, operator, right),
        }
    }
}

/// Operands with operators between. What waits for its right operand is kept in a list and not on the stack: an operation
/// costs one level however its operators hold.
pub(super) fn operation(input: &mut Input<'_>) -> Parsed<Node> {
    let mut waiting: Vec<(Node, Between)> = Vec::new();
    let mut left = operand(input)?;
    while let Some(operator) = opt(operator).parse_next(input)? {
        let start = left.span().start;
        match operator {
            // These hold tightest, so they take what stands right before them.
            Operator::Like { negated } => {
                let pattern = pattern(input)?;
                left = placed(input, start, Node::like(left, negated, pattern))?;
            }
            Operator::In { negated } => {
                let set = list(input, 1)?;
                left = placed(input, start, Node::is_in(left, negated, set))?;
            }
            Operator::Between(between) => {
                left = joined(&mut waiting, left, between.level())?;
                waiting.push((left, between));
                left = operand(input)?;
            }
        }
    }
    joined(&mut waiting, left, Level::Logic)
}

/// Gives `right` to those that wait for it and hold at least as tight as what follows.
fn joined(waiting: &mut Vec<(Node, Between)>, mut right: Node, next: Level) -> Parsed<Node> {
    while let Some((left, between)) = waiting.pop_if(|(_, between)| between.level() >= next) {
        let (start, end) = (left.span().start, right.span().end);
        right = bounded(between.node(left, right).at(Span { start, end }))?;
    }
    Ok(right)
}

/// Operators that stand between operands, or after one.
fn operator(input: &mut Input<'_>) -> Parsed<Operator> {
    alt((
        comparison.map(Between::Comparison).map(Operator::Between),
        arithmetic.map(Between::Arithmetic).map(Operator::Between),
        logic.map(Between::Logic).map(Operator::Between),
        (opt(keyword("NOT")), keyword("LIKE")).map(|(not, ())| Operator::Like { negated: not.is_some() }),
        (opt(keyword("NOT")), keyword("IN")).map(|(not, ())| Operator::In { negated: not.is_some() }),
    ))
    .parse_next(input)
}

/// The longer signs first.
fn comparison(input: &mut Input<'_>) -> Parsed<Comparison> {
    alt((
        sign("=").value(Comparison::Equal),
        sign("!=").value(Comparison::NotEqual),
        sign("<>").value(Comparison::NotEqual),
        sign("<=").value(Comparison::LessOrEqual),
        sign(">=").value(Comparison::GreaterOrEqual),
        sign("<").value(Comparison::Less),
        sign(">").value(Comparison::Greater),
    ))
    .parse_next(input)
}

fn arithmetic(input: &mut Input<'_>) -> Parsed<Arithmetic> {
    alt((
        sign("+").value(Arithmetic::Add),
        sign("-").value(Arithmetic::Subtract),
        sign("*").value(Arithmetic::Multiply),
        sign("/").value(Arithmetic::Divide),
        sign("%").value(Arithmetic::Remainder),
    ))
    .parse_next(input)
}

fn logic(input: &mut Input<'_>) -> Parsed<Logic> {
    alt((
        keyword("AND").value(Logic::And),
        keyword("OR").value(Logic::Or),
        keyword("XOR").value(Logic::Xor),
    ))
    .parse_next(input)
}

/// The pattern of `LIKE` is a literal, nothing else (3.4.3).
fn pattern(input: &mut Input<'_>) -> Parsed<Pattern> {
    blank(input)?;
    let at = input.current_token_start();
    let pattern = demand("a pattern in quotes", text).parse_next(input)?;
    Pattern::parse(&pattern).or_else(|error| stop(at, error.to_string()))
}

/// Parses one operand: `NOT`, `-` and parentheses lead deeper. Written without combinators around what leads
/// deeper, and with those of single words in functions of their own: each would take its part of the stack at every level.
fn operand(input: &mut Input<'_>) -> Parsed<Node> {
    blank(input)?;
    let start = input.current_token_start();
    let node = if let Some(value) = literal(input)? {
        Node::literal(value)
    } else if skipped(input, "-")? {
        Node::minus(deeper(input, operand)?)
    } else if skipped(input, "(")? {
        let inner = deeper(input, operation)?;
        demanded(input, "`)`", ")")?;
        inner
    } else {
        named(input)?
    };
    placed(input, start, node)
}

/// One level down, unless that is deeper than any tree may be.
fn deeper(input: &mut Input<'_>, parser: fn(&mut Input<'_>) -> Parsed<Node>) -> Parsed<Node> {
    if input.state == DEPTH_MAX {
        return stop(input.current_token_start(), TooDeep.to_string());
    }
    input.state += 1;
    let node = parser(input)?;
    input.state -= 1;
    Ok(node)
}

fn literal(input: &mut Input<'_>) -> Parsed<Option<Value<'static>>> {
    opt(alt((
        integer.map(Value::Integer),
        text.map(|text| Value::String(text.into())),
    )))
    .parse_next(input)
}

/// Whether the sign was there.
fn skipped(input: &mut Input<'_>, expected: &'static str) -> Parsed<bool> {
    opt(sign(expected)).map(|found| found.is_some()).parse_next(input)
}

fn demanded(input: &mut Input<'_>, name: &'static str, expected: &'static str) -> Parsed<()> {
    demand(name, sign(expected)).parse_next(input)
}

const OPERAND: &str = "a value, an attribute or a function";

/// Whatever begins with a letter, or is an attribute that begins with a digit.
fn named(input: &mut Input<'_>) -> Parsed<Node> {
    let start = input.current_token_start();
    Ok(match demand(OPERAND, word).parse_next(input)? {
        Word::True => Node::literal(Value::Boolean(true)),
        Word::False => Node::literal(Value::Boolean(false)),
        Word::Exists => Node::exists(&demand("the name of an attribute", attribute).parse_next(input)?),
        Word::Attribute(name) => Node::attribute(&name),
        Word::Not => return deeper(input, operand).map(Node::negation),
        Word::Function(name) => return list(input, 0).map(|arguments| Node::call(name, arguments)),
        Word::Operator => return stop(start, format!("expected {OPERAND}, found {FOUND}")),
    })
}

fn attribute(input: &mut Input<'_>) -> Parsed<String> {
    preceded(blank, word)
        .verify_map(|word| match word {
            Word::Attribute(name) => Some(name),
            _ => None,
        })
        .parse_next(input)
}

/// Operations in parentheses, with commas between.
fn list(input: &mut Input<'_>, min: usize) -> Parsed<Vec<Node>> {
    demanded(input, "a list: (a, b)", "(")?;
    let mut items = Vec::new();
    if min == 0 && skipped(input, ")")? {
        return Ok(items);
    }
    loop {
        items.push(deeper(input, operation)?);
        if !skipped(input, ",")? {
            demanded(input, "`,` or `)`", ")")?;
            return Ok(items);
        }
    }
}

/// A node that reaches from `start` to here.
fn placed(input: &Input<'_>, start: usize, node: Node) -> Parsed<Node> {
    let end = input.previous_token_end();
    bounded(node.at(Span { start, end }))
}

fn bounded(node: Node) -> Parsed<Node> {
    if node.depth() > DEPTH_MAX {
        return stop(node.span().start, TooDeep.to_string());
    }
    Ok(node)
}
