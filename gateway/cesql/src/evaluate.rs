//! What an expression says of an event.
//!
//! Evaluation stops at the first error (4.1, fail fast). The rule for its value is one: whatever could not be evaluated
//! yields the zero value of its type, and so does everything around it (3.2, 3.3). So an operator never sees a value that is
//! not one, `1 / absent` is no division by zero, and the value of the whole is the zero value of its outermost part. Where a
//! function's own error comes with a better value, as that of `LEFT`, it counts when the function is the whole expression.
//!
//! Every attribute that the expression addresses is looked up once, in one pass over the event's table.

use std::borrow::Cow;

use event::Event;

use crate::{
    Arithmetic, Attribute, Comparison, ErrorKind, EvaluationError, Expression, Function, Kind, Logic, Node, Type,
    Value,
    functions::{part, place, substring, trimmed},
};

/// Bytes at most of a text that `CONCAT` or `CONCAT_WS` makes: four times the largest table of attributes. Without a bound an
/// expression could make a gibibyte of one attribute.
pub const STRING_BYTES_MAX: usize = 1024 * 1024;

/// Attributes up to this many are kept on the stack; filters address two or three.
const FEW: usize = 4;

/// Characters of a text that a message shows.
const SHOWN_MAX: usize = 80;

#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation<'a> {
    pub value: Value<'a>,
    pub error: Option<Box<EvaluationError<'a>>>,
}

/// The expression's value on this event. Time and memory are bounded by the sizes of both.
pub fn evaluate<'a>(expression: &'a Expression, event: &'a Event) -> Evaluation<'a> {
    with_scope(expression, event, |scope| {
        let root = expression.root();
        match scope.value(root) {
            Ok(value) => Evaluation { value, error: None },
            Err(mut error) => {
                // What fails further down is not what the whole would yield.
                let own = error.value.take().filter(|_| std::ptr::eq(error.node, root));
                Evaluation {
                    value: own.unwrap_or_else(|| root.returns().unwrap_or(Type::Boolean).zero()),
                    error: Some(error),
                }
            }
        }
    })
}

pub(crate) fn with_scope<'a, T>(
    expression: &'a Expression,
    event: &'a Event,
    work: impl FnOnce(&Scope<'a, '_>) -> T,
) -> T {
    let names = expression.names();
    let (mut few, mut many) = ([None; FEW], Vec::new());
    let slots = match few.get_mut(..names.len()) {
        Some(slots) => slots,
        None => {
            many.resize(names.len(), None);
            &mut many[..]
        }
    };
    event.select(names, slots);
    work(&Scope { slots })
}

/// The attributes of one event that one expression addresses.
pub(crate) struct Scope<'a, 's> {
    slots: &'s [Option<event::Value<'a>>],
}

/// Boxed, so that the usual case is small.
pub(crate) type Outcome<'a, T = Value<'a>> = Result<T, Box<EvaluationError<'a>>>;

impl<'a> Scope<'a, '_> {
    pub(crate) fn value(&self, node: &'a Node) -> Outcome<'a> {
        match node.kind() {
            Kind::Literal(value) => Ok(value.borrowed()),
            Kind::Attribute(attribute) => self.attribute(attribute).ok_or_else(|| missing(node, attribute)),
            Kind::Negate(operand) => integer(node, self.integer(operand)?.checked_neg()),
            Kind::Arithmetic { left, operator, right } => self.arithmetic(node, left, *operator, right),
            Kind::Call {
                name,
                function,
                arguments,
            } => match function {
                Some(function) => self.call(node, *function, arguments),
                None => Err(no_function(node, name, arguments.len())),
            },
            Kind::Exists(_)
            | Kind::Not(_)
            | Kind::Like { .. }
            | Kind::In { .. }
            | Kind::Comparison { .. }
            | Kind::Logic { .. }
            | Kind::Predicate(_) => self.boolean(node).map(Value::Boolean),
        }
    }

    /// The node's value as a Boolean: what is one by nature, or the cast of what is not.
    pub(crate) fn boolean(&self, node: &'a Node) -> Outcome<'a, bool> {
        match node.kind() {
            Kind::Exists(attribute) => Ok(self.found(attribute).is_some()),
            Kind::Not(operand) => Ok(!self.boolean(operand)?),
            Kind::Like { text, negated, pattern } => Ok(pattern.matches(&self.text(text)?) != *negated),
            Kind::In { wanted, negated, set } => Ok(self.is_in(wanted, set)? != *negated),
            Kind::Comparison { left, operator, right } => self.comparison(left, *operator, right),
            Kind::Logic { first, rest } => self.logic(first, rest),
            Kind::Predicate(inner) => match inner.returns() {
                Some(Type::Boolean) => self.boolean(inner),
                _ => match self.value(inner)? {
                    Value::Boolean(value) => Ok(value),
                    other => Err(not_boolean(inner, &other)),
                },
            },
            Kind::Literal(_) | Kind::Attribute(_) | Kind::Negate(_) | Kind::Arithmetic { .. } | Kind::Call { .. } => {
                let value = self.value(node)?;
                value.boolean().map_err(|_| no_cast(node, &value, Type::Boolean))
            }
        }
    }

    fn found(&self, attribute: &Attribute) -> Option<event::Value<'a>> {
        self.slots.get(attribute.slot).copied().flatten()
    }

    /// Boolean and Integer attributes have those types, all others are text (3.2).
    fn attribute(&self, attribute: &Attribute) -> Option<Value<'a>> {
        let event::Value { text, kind } = self.found(attribute)?;
        let value = match kind {
            event::ValueKind::String => None,
            event::ValueKind::Boolean => Some(Value::Boolean(text == "true")),
            event::ValueKind::Integer => text.parse().ok().map(Value::Integer),
        };
        Some(value.unwrap_or(Value::String(Cow::Borrowed(text))))
    }

    fn is_in(&self, wanted: &'a Node, set: &'a [Node]) -> Outcome<'a, bool> {
        let wanted = self.value(wanted)?;
        for item in set {
            let equal = match item.kind() {
                // The usual list: nothing to evaluate, nothing to cast.
                Kind::Literal(value) if value.kind() == wanted.kind() => *value == wanted,
                _ => self.cast(item, wanted.kind())? == wanted,
            };
            if equal {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn comparison(&self, left: &'a Node, operator: Comparison, right: &'a Node) -> Outcome<'a, bool> {
        if matches!(operator, Comparison::Equal | Comparison::NotEqual) {
            // The right one says which of the three equalities is meant (3.7).
            let written = self.value(left)?;
            let right = self.value(right)?;
            let kind = right.kind();
            let equal = cast(left, written, kind)? == right;
            return Ok(equal == (operator == Comparison::Equal));
        }
        let (left, right) = (self.integer(left)?, self.integer(right)?);
        Ok(match operator {
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
            Comparison::Less => left < right,
            Comparison::LessOrEqual => left <= right,
            Comparison::Greater => left > right,
            Comparison::GreaterOrEqual => left >= right,
        })
    }

    fn arithmetic(&self, node: &'a Node, left: &'a Node, operator: Arithmetic, right: &'a Node) -> Outcome<'a> {
        let (left, right) = (self.integer(left)?, self.integer(right)?);
        let result = match operator {
            Arithmetic::Divide | Arithmetic::Remainder if right == 0 => {
                return Err(error(ErrorKind::Math, node, format!("{left} is divided by zero")));
            }
            Arithmetic::Multiply => left.checked_mul(right),
            Arithmetic::Divide => left.checked_div(right),
            // The smallest integer divided by -1 leaves nothing, although the quotient is too large.
            Arithmetic::Remainder => Some(left.wrapping_rem(right)),
            Arithmetic::Add => left.checked_add(right),
            Arithmetic::Subtract => left.checked_sub(right),
        };
        integer(node, result)
    }

    /// From left to right; what cannot change the value is not evaluated (3.6).
    fn logic(&self, first: &'a Node, rest: &'a [(Logic, Node)]) -> Outcome<'a, bool> {
        let mut value = self.boolean(first)?;
        for (operator, operand) in rest {
            value = match (operator, value) {
                (Logic::And, false) | (Logic::Or, true) => value,
                (Logic::And, true) | (Logic::Or, false) => self.boolean(operand)?,
                (Logic::Xor, left) => left != self.boolean(operand)?,
            };
        }
        Ok(value)
    }

    /// Out of line, as its frame is large and few filters call anything.
    #[inline(never)]
    fn call(&self, node: &'a Node, function: Function, arguments: &'a [Node]) -> Outcome<'a> {
        Ok(match (function, arguments) {
            (Function::Abs, [x]) => {
                let x = self.integer(x)?;
                Value::Integer(
                    x.checked_abs()
                        .ok_or_else(|| too_large(node, Some(Value::Integer(i32::MAX))))?,
                )
            }
            (Function::Length, [x]) => {
                let length = self.text(x)?.chars().count();
                return integer(node, i32::try_from(length).ok());
            }
            (Function::Concat, texts) => Value::String(self.concat(node, "", texts)?),
            (Function::ConcatWs, [delimiter, texts @ ..]) => {
                let delimiter = self.text(delimiter)?;
                Value::String(self.concat(node, &delimiter, texts)?)
            }
            (Function::Lower, [x]) => Value::String(self.text(x)?.to_lowercase().into()),
            (Function::Upper, [x]) => Value::String(self.text(x)?.to_uppercase().into()),
            (Function::Trim, [x]) => {
                let text = self.text(x)?;
                let range = trimmed(&text);
                Value::String(part(text, range))
            }
            (Function::Left | Function::Right, [x, y]) => {
                let (text, wanted) = (self.text(x)?, self.integer(y)?);
                let Ok(wanted) = usize::try_from(wanted) else {
                    let message = format!("{wanted} characters cannot be taken");
                    return Err(function_error(node, message, Value::String(text)));
                };
                let range = match function {
                    Function::Left => 0..place(&text, wanted),
                    _ => place(&text, text.chars().count().saturating_sub(wanted))..text.len(),
                };
                Value::String(part(text, range))
            }
            (Function::Substring, [x, position, length @ ..]) => {
                let (text, position) = (self.text(x)?, self.integer(position)?);
                let length = length.first().map(|length| self.integer(length)).transpose()?;
                let range = substring(&text, position, length).ok_or_else(|| {
                    let wanted = length.map_or(String::new(), |length| format!(", {length} characters long"));
                    let message = format!("{} has no part at {position}{wanted}", shorten(&text));
                    function_error(node, message, Type::String.zero())
                })?;
                Value::String(part(text, range))
            }
            (Function::Int, [x]) => Value::Integer(self.integer(x)?),
            (Function::Bool, [x]) => Value::Boolean(self.boolean(x)?),
            (Function::String, [x]) => Value::String(self.text(x)?),
            (Function::IsInt, [x]) => Value::Boolean(self.value(x)?.integer().is_ok()),
            (Function::IsBool, [x]) => Value::Boolean(self.value(x)?.boolean().is_ok()),
            // `Function::named` gave this function these arguments.
            (function, _) => {
                return Err(function_error(
                    node,
                    "wrong arguments".into(),
                    function.returns().zero(),
                ));
            }
        })
    }

    fn concat(&self, node: &'a Node, delimiter: &str, texts: &'a [Node]) -> Outcome<'a, Cow<'a, str>> {
        let mut all = String::new();
        for (index, text) in texts.iter().enumerate() {
            let text = self.text(text)?;
            let delimiter = if index == 0 { "" } else { delimiter };
            if all.len() + delimiter.len() + text.len() > STRING_BYTES_MAX {
                let message = format!("the text would have more than {STRING_BYTES_MAX} bytes");
                return Err(function_error(node, message, Type::String.zero()));
            }
            all.push_str(delimiter);
            all.push_str(&text);
        }
        Ok(all.into())
    }

    fn integer(&self, node: &'a Node) -> Outcome<'a, i32> {
        let value = self.value(node)?;
        value.integer().map_err(|_| no_cast(node, &value, Type::Integer))
    }

    fn text(&self, node: &'a Node) -> Outcome<'a, Cow<'a, str>> {
        Ok(self.value(node)?.text())
    }

    fn cast(&self, node: &'a Node, to: Type) -> Outcome<'a> {
        cast(node, self.value(node)?, to)
    }
}

fn cast<'a>(node: &'a Node, value: Value<'a>, to: Type) -> Outcome<'a> {
    match to {
        Type::Boolean => value
            .boolean()
            .map(Value::Boolean)
            .map_err(|_| no_cast(node, &value, to)),
        Type::Integer => value
            .integer()
            .map(Value::Integer)
            .map_err(|_| no_cast(node, &value, to)),
        Type::String => Ok(Value::String(value.text())),
    }
}

fn integer<'a>(node: &'a Node, result: Option<i32>) -> Outcome<'a> {
    result.map(Value::Integer).ok_or_else(|| too_large(node, None))
}

/// Errors are made out of line, so that the usual case stays small and fast.
#[cold]
fn error(kind: ErrorKind, node: &Node, message: String) -> Box<EvaluationError<'_>> {
    Box::new(EvaluationError {
        kind,
        node,
        message,
        value: None,
    })
}

#[cold]
fn missing<'a>(node: &'a Node, attribute: &Attribute) -> Box<EvaluationError<'a>> {
    let message = format!("the event has no attribute `{}`", attribute.name());
    error(ErrorKind::MissingAttribute, node, message)
}

#[cold]
fn no_function<'a>(node: &'a Node, name: &str, arguments: usize) -> Box<EvaluationError<'a>> {
    let message = format!("there is no function {name} with {arguments} arguments");
    error(ErrorKind::MissingFunction, node, message)
}

#[cold]
fn not_boolean<'a>(node: &'a Node, value: &Value<'_>) -> Box<EvaluationError<'a>> {
    let message = format!("it yields {}, and a filter is true or false", shown(value));
    error(ErrorKind::Generic, node, message)
}

#[cold]
fn too_large<'a>(node: &'a Node, value: Option<Value<'a>>) -> Box<EvaluationError<'a>> {
    Box::new(EvaluationError {
        value,
        ..*error(ErrorKind::Math, node, "the result has more than 32 bits".into())
    })
}

#[cold]
fn function_error<'a>(node: &'a Node, message: String, value: Value<'a>) -> Box<EvaluationError<'a>> {
    Box::new(EvaluationError {
        value: Some(value),
        ..*error(ErrorKind::FunctionEvaluation, node, message)
    })
}

#[cold]
fn no_cast<'a>(node: &'a Node, value: &Value<'_>, to: Type) -> Box<EvaluationError<'a>> {
    error(ErrorKind::Cast, node, format!("{} is no {to}", shown(value)))
}

fn shown(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => shorten(text),
        other => other.to_string(),
    }
}

/// An attribute may be very long, and so may be what was made of it.
pub(crate) fn shorten(text: &str) -> String {
    let end = place(text, SHOWN_MAX);
    let more = if end < text.len() { "..." } else { "" };
    format!("'{}'{more}", &text[..end])
}
