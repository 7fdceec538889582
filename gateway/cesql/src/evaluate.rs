//! Evaluation of an expression on an event.
//!
//! Evaluation stops at the first error (4.1, fail fast). The rule for its value is one: whatever could not be evaluated
//! yields the zero value of its type, and so does everything around it (3.2, 3.3). So an operator never sees a value that is
//! not one, `1 / absent` is no division by zero, and the value of the whole is the zero value of its outermost part. Where a
//! function's own error comes with a better value, as that of `LEFT`, it counts when the function is the whole expression.
//!
//! Every attribute that the expression addresses is looked up once, in one pass over the event's table.

mod call;

use std::borrow::Cow;

use event::Event;

pub use self::call::STRING_BYTES_MAX;

use crate::{
    Arithmetic, Attribute, Budget, Comparison, ErrorKind, EvaluationError, Expression, Kind, Logic, Node, Type, Value,
    budget::{LOOKUP, NODE, STEPS_MAX, Spent},
    functions::byte_index,
};

/// Attributes up to this many are kept on the stack; filters address two or three.
const FEW: usize = 4;

/// Characters of a text that a message shows.
const SHOWN_MAX: usize = 80;

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation<'a> {
    /// The value, also where there was an error.
    pub value: Value<'a>,
    /// The first error, if there was one.
    pub error: Option<Box<EvaluationError<'a>>>,
}

/// The expression's value on this event, within the budget of one event. Memory is bounded by the sizes of both.
pub fn evaluate<'a>(expression: &'a Expression, event: &'a Event) -> Evaluation<'a> {
    evaluate_within(expression, event, &Budget::default())
}

pub(crate) fn evaluate_within<'a>(expression: &'a Expression, event: &'a Event, budget: &Budget) -> Evaluation<'a> {
    with_scope(expression, event, budget, |scope| {
        let root = expression.root();
        match scope.value(root) {
            Ok(value) => Evaluation { value, error: None },
            Err(mut error) => {
                // A part that failed further down does not give the value of the whole.
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
    budget: &Budget,
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
    let has_found = match names.len() {
        ..=FEW => true,
        many => budget.take(many * LOOKUP).is_ok(),
    };
    if has_found {
        event.select(names, slots);
    }
    work(&Scope {
        slots,
        has_found,
        budget,
    })
}

/// The attributes of one event that one expression addresses.
pub(crate) struct Scope<'a, 's> {
    slots: &'s [Option<event::Value<'a>>],
    /// Whether looking them up was within the budget: nothing is evaluated otherwise.
    has_found: bool,
    budget: &'s Budget,
}

/// Boxed, so that the usual case is small.
pub(crate) type Outcome<'a, T = Value<'a>> = Result<T, Box<EvaluationError<'a>>>;

impl<'a> Scope<'a, '_> {
    pub(crate) fn value(&self, node: &'a Node) -> Outcome<'a> {
        self.begin(node)?;
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
        self.begin(node)?;
        match node.kind() {
            Kind::Exists(attribute) => Ok(self.found(attribute).is_some()),
            Kind::Not(operand) => Ok(!self.boolean(operand)?),
            Kind::Like { text, negated, pattern } => {
                let text = self.text(text)?;
                self.take(node, pattern.steps(text.len()))?;
                Ok(pattern.matches(&text) != *negated)
            }
            Kind::In { expected, negated, set } => Ok(self.is_in(node, expected, set)? != *negated),
            Kind::Comparison { left, operator, right } => self.comparison(node, left, *operator, right),
            Kind::Logic { first, rest } => self.logic(first, rest),
            Kind::Predicate(inner) => match inner.returns() {
                Some(Type::Boolean) => self.boolean(inner),
                _ => match self.value(inner)? {
                    Value::Boolean(value) => Ok(value),
                    // Transports such as HTTP headers have texts alone.
                    text @ Value::String(_) => text.boolean().map_err(|_| not_boolean(inner, &text)),
                    number @ Value::Integer(_) => Err(not_boolean(inner, &number)),
                },
            },
            Kind::Literal(_) | Kind::Attribute(_) | Kind::Negate(_) | Kind::Arithmetic { .. } | Kind::Call { .. } => {
                let value = self.value(node)?;
                value.boolean().map_err(|_| no_cast(node, &value, Type::Boolean))
            }
        }
    }

    /// Each node costs, whatever it does.
    #[inline]
    fn begin(&self, node: &'a Node) -> Outcome<'a, ()> {
        if !self.has_found {
            return Err(spent(node));
        }
        self.take(node, NODE)
    }

    #[inline]
    fn take(&self, node: &'a Node, steps: usize) -> Outcome<'a, ()> {
        self.budget.take(steps).map_err(|Spent| spent(node))
    }

    #[inline]
    fn take_copy(&self, node: &'a Node, bytes: usize) -> Outcome<'a, ()> {
        self.budget.take_copy(bytes).map_err(|Spent| spent(node))
    }

    /// Whether two values of one type are equal.
    fn equal(&self, node: &'a Node, left: &Value<'_>, right: &Value<'_>) -> Outcome<'a, bool> {
        if let (Value::String(left), Value::String(right)) = (left, right) {
            self.take_copy(node, left.len().min(right.len()))?;
        }
        Ok(left == right)
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

    fn is_in(&self, node: &'a Node, expected: &'a Node, set: &'a [Node]) -> Outcome<'a, bool> {
        let expected = self.value(expected)?;
        for item in set {
            let equal = match item.kind() {
                // The usual list: nothing to evaluate, nothing to cast.
                Kind::Literal(value) if value.kind() == expected.kind() => {
                    self.take(node, NODE)?;
                    self.equal(node, value, &expected)?
                }
                _ => {
                    let value = self.value(item)?;
                    self.equal(node, &self.cast(item, value, expected.kind())?, &expected)?
                }
            };
            if equal {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn comparison(&self, node: &'a Node, left: &'a Node, operator: Comparison, right: &'a Node) -> Outcome<'a, bool> {
        if matches!(operator, Comparison::Equal | Comparison::NotEqual) {
            // The right one says which of the three equalities is meant (3.7).
            let written = self.value(left)?;
            let right = self.value(right)?;
            let kind = right.kind();
            let equal = self.equal(node, &self.cast(left, written, kind)?, &right)?;
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

    fn integer(&self, node: &'a Node) -> Outcome<'a, i32> {
        let value = self.value(node)?;
        self.take(node, digits(&value))?;
        value.integer().map_err(|_| no_cast(node, &value, Type::Integer))
    }

    fn text(&self, node: &'a Node) -> Outcome<'a, Cow<'a, str>> {
        Ok(self.value(node)?.text())
    }

    fn cast(&self, node: &'a Node, value: Value<'a>, to: Type) -> Outcome<'a> {
        match to {
            Type::Boolean => value
                .boolean()
                .map(Value::Boolean)
                .map_err(|_| no_cast(node, &value, to)),
            Type::Integer => {
                self.take(node, digits(&value))?;
                value
                    .integer()
                    .map(Value::Integer)
                    .map_err(|_| no_cast(node, &value, to))
            }
            Type::String => Ok(Value::String(value.text())),
        }
    }
}

/// Bytes of a text that reading it as a number may touch: zeros before a number may be many.
fn digits(value: &Value<'_>) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Boolean(_) | Value::Integer(_) => 0,
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
fn spent(node: &Node) -> Box<EvaluationError<'_>> {
    let message = format!(
        "the filter is too costly for this event, whose attributes are long: evaluating it takes more than {STEPS_MAX} \
         steps; use fewer LIKE and functions, or ask first for the attributes that leave most events out"
    );
    error(ErrorKind::Generic, node, message)
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
    let end = byte_index(text, SHOWN_MAX);
    let more = if end < text.len() { "..." } else { "" };
    format!("'{}'{more}", &text[..end])
}
