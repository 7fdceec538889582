//! An expression as a tree: closed, typed, each part with its place in the text.
//!
//! Trees are made by the constructors of [`Node`], which keep two promises: a node knows how deep it is, so that no tree
//! outgrows the stack, and a chain of `AND`, `OR` and `XOR`, which hold equally tight and are taken from left to right, is
//! one node however long it is. Two nodes are equal when they say the same, wherever they stand.

use std::fmt;

use crate::{Function, Pattern, Span, Type, Value};

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the expression is nested more than {DEPTH_MAX} levels deep")]
pub struct TooDeep;

#[derive(Clone, Debug)]
pub struct Node {
    at: Span,
    kind: Kind,
    depth: usize,
}

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
        wanted: Box<Node>,
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
    /// The edge of a filter: what is inside must be a Boolean as it is, without a cast (1.2). It has no text of its own.
    Predicate(Box<Node>),
}

/// A context attribute or extension, by name.
#[derive(Clone, Debug)]
pub struct Attribute {
    pub(crate) name: Box<str>,
    /// Its place among [`Expression::names`]; set when the tree becomes an expression.
    pub(crate) slot: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Multiply,
    Divide,
    Remainder,
    Add,
    Subtract,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logic {
    And,
    Or,
    Xor,
}

impl Expression {
    pub fn new(root: Node) -> Result<Self, TooDeep> {
        if root.depth > DEPTH_MAX {
            return Err(TooDeep);
        }
        Ok(Self::shallow(root))
    }

    /// Of a tree whose depth is known to be no trouble.
    pub(crate) fn shallow(mut root: Node) -> Self {
        let mut names = Vec::new();
        root.number(&mut names);
        Self {
            root,
            names: names.into(),
        }
    }

    pub fn root(&self) -> &Node {
        &self.root
    }

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

    pub fn literal(value: Value<'static>) -> Self {
        Self::new(Kind::Literal(value))
    }

    pub fn attribute(name: &str) -> Self {
        Self::new(Kind::Attribute(Attribute::new(name)))
    }

    pub fn exists(name: &str) -> Self {
        Self::new(Kind::Exists(Attribute::new(name)))
    }

    pub fn negation(operand: Self) -> Self {
        Self::new(Kind::Not(Box::new(operand)))
    }

    pub fn minus(operand: Self) -> Self {
        Self::new(Kind::Negate(Box::new(operand)))
    }

    pub fn like(text: Self, negated: bool, pattern: Pattern) -> Self {
        let (text, pattern) = (Box::new(text), Box::new(pattern));
        Self::new(Kind::Like { text, negated, pattern })
    }

    /// Whether `wanted` is one of `set`.
    pub fn is_in(wanted: Self, negated: bool, set: Vec<Self>) -> Self {
        let wanted = Box::new(wanted);
        Self::new(Kind::In { wanted, negated, set })
    }

    pub fn arithmetic(left: Self, operator: Arithmetic, right: Self) -> Self {
        let (left, right) = (Box::new(left), Box::new(right));
        Self::new(Kind::Arithmetic { left, operator, right })
    }

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

    pub fn predicate(inner: Self) -> Self {
        Self::new(Kind::Predicate(Box::new(inner)))
    }

    #[must_use]
    pub fn at(mut self, at: Span) -> Self {
        self.at = at;
        self
    }

    pub fn span(&self) -> Span {
        self.at
    }

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

    fn number(&mut self, names: &mut Vec<Box<str>>) {
        match &mut self.kind {
            Kind::Attribute(attribute) | Kind::Exists(attribute) => {
                attribute.slot = names
                    .iter()
                    .position(|name| *name == attribute.name)
                    .unwrap_or(names.len());
                if attribute.slot == names.len() {
                    names.push(attribute.name.clone());
                }
            }
            Kind::Literal(_) => {}
            Kind::Not(one) | Kind::Negate(one) | Kind::Predicate(one) | Kind::Like { text: one, .. } => {
                one.number(names);
            }
            Kind::Arithmetic { left, right, .. } | Kind::Comparison { left, right, .. } => {
                left.number(names);
                right.number(names);
            }
            Kind::In { wanted, set, .. } => {
                wanted.number(names);
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
            Self::In { wanted, set, .. } => Box::new(std::iter::once(&**wanted).chain(set)),
            Self::Logic { first, rest } => {
                Box::new(std::iter::once(&**first).chain(rest.iter().map(|(_, operand)| operand)))
            }
            Self::Call { arguments, .. } => Box::new(arguments.iter()),
        }
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Add => "+",
            Self::Subtract => "-",
        })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

impl fmt::Display for Logic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::And => "AND",
            Self::Or => "OR",
            Self::Xor => "XOR",
        })
    }
}
