//! An expression as text: what is read back from it is the same tree.
//!
//! Two things that can stand in a tree have no form in the language, and neither comes out of the parser: an attribute
//! named like a keyword, and a text that ends in an odd number of `\`. They are printed as well as it goes.

use std::fmt::{self, Display};

use crate::{Arithmetic, Expression, Kind, Node, Value};

/// How tightly a node holds together, loosest first (3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Logic,
    Comparison,
    Sum,
    Product,
    Match,
    Unary,
    Whole,
}

impl Level {
    /// The level of what may stand to the right of an operator of this level, as all are taken from left to right.
    pub(crate) fn tighter(self) -> Self {
        match self {
            Self::Logic => Self::Comparison,
            Self::Comparison => Self::Sum,
            Self::Sum => Self::Product,
            Self::Product => Self::Match,
            Self::Match => Self::Unary,
            Self::Unary | Self::Whole => Self::Whole,
        }
    }
}

impl Arithmetic {
    pub(crate) fn level(self) -> Level {
        match self {
            Self::Multiply | Self::Divide | Self::Remainder => Level::Product,
            Self::Add | Self::Subtract => Level::Sum,
        }
    }
}

impl Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root().fmt(f)
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f, Level::Logic)
    }
}

impl Node {
    fn level(&self) -> Level {
        match self.kind() {
            Kind::Logic { .. } => Level::Logic,
            Kind::Comparison { .. } => Level::Comparison,
            Kind::Arithmetic { operator, .. } => operator.level(),
            Kind::Like { .. } | Kind::In { .. } => Level::Match,
            Kind::Not(_) | Kind::Negate(_) => Level::Unary,
            Kind::Predicate(inner) => inner.level(),
            Kind::Literal(_) | Kind::Attribute(_) | Kind::Exists(_) | Kind::Call { .. } => Level::Whole,
        }
    }

    /// In parentheses when it holds less tightly than its place demands.
    fn print(&self, f: &mut fmt::Formatter<'_>, loosest: Level) -> fmt::Result {
        if self.level() < loosest {
            f.write_str("(")?;
            self.print(f, Level::Logic)?;
            return f.write_str(")");
        }
        match self.kind() {
            Kind::Literal(value) => value.fmt(f),
            Kind::Attribute(attribute) => f.write_str(&attribute.name),
            Kind::Exists(attribute) => write!(f, "EXISTS {}", attribute.name),
            Kind::Not(operand) => {
                f.write_str("NOT ")?;
                operand.print(f, Level::Unary)
            }
            // `-5` is a literal; the opposite of a literal is `-(5)`.
            Kind::Negate(operand) if matches!(operand.kind(), Kind::Literal(Value::Integer(0..))) => {
                write!(f, "-({operand})")
            }
            Kind::Negate(operand) => {
                f.write_str("-")?;
                operand.print(f, Level::Unary)
            }
            Kind::Like { text, negated, pattern } => {
                text.print(f, Level::Match)?;
                f.write_str(if *negated { " NOT LIKE " } else { " LIKE " })?;
                quoted(f, pattern.source())
            }
            Kind::In { expected, negated, set } => {
                expected.print(f, Level::Match)?;
                f.write_str(if *negated { " NOT IN " } else { " IN " })?;
                list(f, set)
            }
            Kind::Arithmetic { left, operator, right } => {
                left.print(f, operator.level())?;
                write!(f, " {operator} ")?;
                right.print(f, operator.level().tighter())
            }
            Kind::Comparison { left, operator, right } => {
                left.print(f, Level::Comparison)?;
                write!(f, " {operator} ")?;
                right.print(f, Level::Comparison.tighter())
            }
            Kind::Logic { first, rest } => {
                first.print(f, Level::Logic)?;
                for (operator, operand) in rest {
                    write!(f, " {operator} ")?;
                    operand.print(f, Level::Logic.tighter())?;
                }
                Ok(())
            }
            Kind::Call { name, arguments, .. } => {
                f.write_str(name)?;
                list(f, arguments)
            }
            Kind::Predicate(inner) => inner.print(f, loosest),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, nodes: &[Node]) -> fmt::Result {
    for (index, node) in nodes.iter().enumerate() {
        f.write_str(if index == 0 { "(" } else { ", " })?;
        node.fmt(f)?;
    }
    f.write_str(if nodes.is_empty() { "()" } else { ")" })
}

/// As a literal.
impl Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => f.write_str(if *value { "TRUE" } else { "FALSE" }),
            Self::Integer(value) => value.fmt(f),
            Self::String(text) => quoted(f, text),
        }
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let quote = if fits(text, '\'') || !fits(text, '"') {
        '\''
    } else {
        '"'
    };
    write!(f, "{quote}")?;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            // A `\` keeps the character after it, whatever that is.
            '\\' => {
                f.write_str("\\")?;
                characters.next().map_or(Ok(()), |kept| write!(f, "{kept}"))?;
            }
            _ if character == quote => write!(f, "\\{quote}")?,
            _ => write!(f, "{character}")?,
        }
    }
    write!(f, "{quote}")
}

/// Whether `text` can stand between two of `quote`: no `\` in it would take one of them for itself.
fn fits(text: &str, quote: char) -> bool {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\\' && characters.next().is_none_or(|kept| kept == quote) {
            return false;
        }
    }
    true
}
