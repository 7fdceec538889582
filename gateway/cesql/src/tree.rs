//! An expression as a tree: closed, typed, each part with its place in the text.
//!
//! Trees are made by the constructors of [`Node`], which keep two promises: a node knows how deep it is, so that no tree
//! outgrows the stack, and a chain of `AND`, `OR` and `XOR`, which hold equally tight and are taken from left to right, is
//! one node however long it is. Two nodes are equal when they say the same, wherever they stand.

use std::collections::HashMap;

use crate::{Arithmetic, Comparison, Function, Logic, Pattern, Span, Type, Value};

/// Nodes from the root to the farthest leaf at most. People write five; reading this many takes less than three quarters of
/// a thread's usual two MiB of stack in an unoptimised build (tests/bounds.rs), and evaluating them no more.
pub const DEPTH_MAX: usize = 128;

/// A whole expression, ready to be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    root: Node,
    /// Each attribute that is addressed, once; an [`Attribute`]'s slot is its place here.
    names: Box<[Box<str>]>,
}

/// The expression is nested too deeply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the expression is nested more than {DEPTH_MAX} levels deep")]
pub struct TooDeep;

/// A part of an expression, with all parts below it.
#[derive(Clone, Debug)]
pub struct Node {
    at: Span,
    kind: Kind,
    depth: usize,
}

/// The operation of a part of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Literal(Value<'static>),
    Attribute(Attribute),
    Exists(Attribute),
    Not(Box<Node>),
    Negate(Box<Node>),
    Like {
        text: Box<Node>,
        negated: bool,
        pattern: Box<Pattern>,
    },
    In {
        expected: Box<Node>,
        negated: bool,
        set: Vec<Node>,
    },
    Arithmetic {
        left: Box<Node>,
        operator: Arithmetic,
        right: Box<Node>,
    },
    Comparison {
        left: Box<Node>,
        operator: Comparison,
        right: Box<Node>,
    },
    /// `first` is no such chain itself.
    Logic {
        first: Box<Node>,
        rest: Vec<(Logic, Node)>,
    },
    Call {
        /// Upper case; known or not.
        name: Box<str>,
        /// `None`: no such function, or not with this many arguments.
        function: Option<Function>,
        arguments: Vec<Node>,
    },
    /// The edge of a filter: what is inside must be a Boolean, or a text that is one. It has no text of its own.
    Predicate(Box<Node>),
}

/// A context attribute or extension, by name.
#[derive(Clone, Debug)]
pub struct Attribute {
    pub(crate) name: Box<str>,
    /// Its place among [`Expression::names`]; set when the tree becomes an expression.
    pub(crate) slot: usize,
}

impl Expression {
    /// Makes an expression of a tree.
    ///
    /// # Errors
    /// The tree has more than [`DEPTH_MAX`] levels.
    pub fn new(root: Node) -> Result<Self, TooDeep> {
        if root.depth > DEPTH_MAX {
            return Err(TooDeep);
        }
        Ok(Self::shallow(root))
    }

    /// Wraps a tree whose depth is known to be small.
    pub(crate) fn shallow(mut root: Node) -> Self {
        let mut names = Names::default();
        root.number(&mut names);
        Self {
            root,
            names: names.all.into(),
        }
    }

    /// Returns the outermost part.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Returns the tree, to build a larger one of it.
    pub fn into_root(self) -> Node {
        self.root
    }

    /// The attributes that the expression addresses, each once.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl PartialEq for Attribute {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Attribute {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            slot: 0,
        }
    }

    /// Returns the attribute's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Node {
    fn new(kind: Kind) -> Self {
        let below = kind.parts().map(|part| part.depth).max().unwrap_or(0);
        Self {
            at: Span::default(),
            kind,
            depth: below + 1,
        }
    }

    /// A value that stands in the text.
    pub fn literal(value: Value<'static>) -> Self {
        Self::new(Kind::Literal(value))
    }

    /// The value of an attribute.
    pub fn attribute(name: &str) -> Self {
        Self::new(Kind::Attribute(Attribute::new(name)))
    }

    /// Whether the event has the attribute.
    pub fn exists(name: &str) -> Self {
        Self::new(Kind::Exists(Attribute::new(name)))
    }

    /// `NOT`
    pub fn negation(operand: Self) -> Self {
        Self::new(Kind::Not(Box::new(operand)))
    }

    /// The minus before an integer.
    pub fn minus(operand: Self) -> Self {
        Self::new(Kind::Negate(Box::new(operand)))
    }

    /// `LIKE`, or `NOT LIKE`.
    pub fn like(text: Self, negated: bool, pattern: Pattern) -> Self {
        let (text, pattern) = (Box::new(text), Box::new(pattern));
        Self::new(Kind::Like { text, negated, pattern })
    }

    /// Whether `expected` is one of `set`.
    pub fn is_in(expected: Self, negated: bool, set: Vec<Self>) -> Self {
        let expected = Box::new(expected);
        Self::new(Kind::In { expected, negated, set })
    }

    /// An operator between two integers.
    pub fn arithmetic(left: Self, operator: Arithmetic, right: Self) -> Self {
        let (left, right) = (Box::new(left), Box::new(right));
        Self::new(Kind::Arithmetic { left, operator, right })
    }

    /// A comparison of two values.
    pub fn comparison(left: Self, operator: Comparison, right: Self) -> Self {
        let (left, right) = (Box::new(left), Box::new(right));
        Self::new(Kind::Comparison { left, operator, right })
    }

    /// `left` may be a chain already: it grows.
    pub fn logic(left: Self, operator: Logic, right: Self) -> Self {
        match left.kind {
            Kind::Logic { first, mut rest } => {
                let depth = left.depth.max(right.depth + 1);
                rest.push((operator, right));
                Self {
                    at: left.at,
                    kind: Kind::Logic { first, rest },
                    depth,
                }
            }
            _ => Self::new(Kind::Logic {
                first: Box::new(left),
                rest: vec![(operator, right)],
            }),
        }
    }

    /// `name` in whatever case.
    pub fn call(name: &str, arguments: Vec<Self>) -> Self {
        let name = name.to_ascii_uppercase();
        let function = Function::named(&name, arguments.len());
        Self::new(Kind::Call {
            name: name.into(),
            function,
            arguments,
        })
    }

    /// Makes the value of `inner` the answer of a filter.
    pub fn predicate(inner: Self) -> Self {
        Self::new(Kind::Predicate(Box::new(inner)))
    }

    /// Notes where the node stands in the text.
    #[must_use]
    pub fn at(mut self, at: Span) -> Self {
        self.at = at;
        self
    }

    /// Returns where the node stands in the text.
    pub fn span(&self) -> Span {
        self.at
    }

    /// Returns what the node does.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The type of its value; `None` for an attribute, which may have any.
    pub fn returns(&self) -> Option<Type> {
        match &self.kind {
            Kind::Literal(value) => Some(value.kind()),
            Kind::Attribute(_) => None,
            Kind::Negate(_) | Kind::Arithmetic { .. } => Some(Type::Integer),
            Kind::Call { function, .. } => Some(function.map_or(Type::Boolean, Function::returns)),
            Kind::Exists(_)
            | Kind::Not(_)
            | Kind::Like { .. }
            | Kind::In { .. }
            | Kind::Comparison { .. }
            | Kind::Logic { .. }
            | Kind::Predicate(_) => Some(Type::Boolean),
        }
    }

    /// The attributes addressed in it, in the order of the text.
    pub fn attributes(&self) -> Vec<&Attribute> {
        match &self.kind {
            Kind::Attribute(attribute) | Kind::Exists(attribute) => vec![attribute],
            kind => kind.parts().flat_map(Self::attributes).collect(),
        }
    }

    /// The first of them.
    pub(crate) fn first_attribute(&self) -> Option<&Attribute> {
        match &self.kind {
            Kind::Attribute(attribute) | Kind::Exists(attribute) => Some(attribute),
            kind => kind.parts().find_map(Self::first_attribute),
        }
    }

    /// Every node of the tree, itself first.
    pub(crate) fn visit<'n>(&'n self, seen: &mut impl FnMut(&'n Self)) {
        seen(self);
        self.kind.parts().for_each(|part| part.visit(seen));
    }

    fn number(&mut self, names: &mut Names) {
        match &mut self.kind {
            Kind::Attribute(attribute) | Kind::Exists(attribute) => {
                attribute.slot = names.slot(&attribute.name);
            }
            Kind::Literal(_) => {}
            Kind::Not(one) | Kind::Negate(one) | Kind::Predicate(one) | Kind::Like { text: one, .. } => {
                one.number(names);
            }
            Kind::Arithmetic { left, right, .. } | Kind::Comparison { left, right, .. } => {
                left.number(names);
                right.number(names);
            }
            Kind::In { expected, set, .. } => {
                expected.number(names);
                set.iter_mut().for_each(|item| item.number(names));
            }
            Kind::Logic { first, rest } => {
                first.number(names);
                rest.iter_mut().for_each(|(_, operand)| operand.number(names));
            }
            Kind::Call { arguments, .. } => arguments.iter_mut().for_each(|argument| argument.number(names)),
        }
    }
}

/// Each name once. An expression may have thousands.
#[derive(Default)]
struct Names {
    all: Vec<Box<str>>,
    slots: HashMap<Box<str>, usize>,
}

impl Names {
    fn slot(&mut self, name: &str) -> usize {
        if let Some(slot) = self.slots.get(name) {
            return *slot;
        }
        let slot = self.all.len();
        self.all.push(name.into());
        self.slots.insert(name.into(), slot);
        slot
    }
}

impl Kind {
    /// The nodes right below, in the order of the text.
    fn parts(&self) -> Box<dyn Iterator<Item = &Node> + '_> {
        match self {
            Self::Literal(_) | Self::Attribute(_) | Self::Exists(_) => Box::new(std::iter::empty()),
            Self::Not(one) | Self::Negate(one) | Self::Predicate(one) | Self::Like { text: one, .. } => {
                Box::new(std::iter::once(&**one))
            }
            Self::Arithmetic { left, right, .. } | Self::Comparison { left, right, .. } => {
                Box::new([&**left, &**right].into_iter())
            }
            Self::In { expected, set, .. } => Box::new(std::iter::once(&**expected).chain(set)),
            Self::Logic { first, rest } => {
                Box::new(std::iter::once(&**first).chain(rest.iter().map(|(_, operand)| operand)))
            }
            Self::Call { arguments, .. } => Box::new(arguments.iter()),
        }
    }
}
