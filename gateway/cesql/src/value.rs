//! The three types, their values and the casts between them (3.1, 3.7).

use std::{borrow::Cow, fmt};

/// The types of the language (3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Boolean,
    Integer,
    String,
}

/// A value: borrowed from the expression or the event where it is a text that was not computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Boolean(bool),
    Integer(i32),
    String(Cow<'a, str>),
}

/// A text that cannot become what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoCast;

impl Type {
    /// The value of a failed operator of this type (3.1).
    pub const fn zero(self) -> Value<'static> {
        match self {
            Self::Boolean => Value::Boolean(false),
            Self::Integer => Value::Integer(0),
            Self::String => Value::String(Cow::Borrowed("")),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "Boolean",
            Self::Integer => "Integer",
            Self::String => "String",
        })
    }
}

impl<'a> Value<'a> {
    /// Returns the type of the value.
    pub const fn kind(&self) -> Type {
        match self {
            Self::Boolean(_) => Type::Boolean,
            Self::Integer(_) => Type::Integer,
            Self::String(_) => Type::String,
        }
    }

    /// The same value without a copy of its text.
    pub(crate) fn borrowed(&self) -> Value<'_> {
        match self {
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Integer(value) => Value::Integer(*value),
            Self::String(text) => Value::String(Cow::Borrowed(text)),
        }
    }

    pub(crate) fn boolean(&self) -> Result<bool, NoCast> {
        match self {
            Self::Boolean(value) => Ok(*value),
            Self::Integer(value) => Ok(*value != 0),
            Self::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Self::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Self::String(_) => Err(NoCast),
        }
    }

    /// Rust reads what the specification describes: an optional sign, digits, no more than 32 bits.
    pub(crate) fn integer(&self) -> Result<i32, NoCast> {
        match self {
            Self::Boolean(value) => Ok((*value).into()),
            Self::Integer(value) => Ok(*value),
            Self::String(text) => text.parse().map_err(|_| NoCast),
        }
    }

    /// Everything can be written.
    pub(crate) fn text(self) -> Cow<'a, str> {
        match self {
            Self::Boolean(true) => Cow::Borrowed("true"),
            Self::Boolean(false) => Cow::Borrowed("false"),
            Self::Integer(value) => Cow::Owned(value.to_string()),
            Self::String(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value<'_> {
        Value::String(text.into())
    }

    #[test]
    fn every_cast_is_that_of_the_table() {
        let (yes, no) = (Value::Boolean(true), Value::Boolean(false));
        assert_eq!((yes.integer(), no.integer()), (Ok(1), Ok(0)));
        assert_eq!((yes.text(), no.text()), ("true".into(), "false".into()));
        assert_eq!(Value::Integer(0).boolean(), Ok(false));
        assert_eq!(Value::Integer(-7).boolean(), Ok(true));
        assert_eq!(Value::Integer(i32::MIN).text(), "-2147483648");
        assert_eq!((text("TRUE").boolean(), text("fAlse").boolean()), (Ok(true), Ok(false)));
        for none in ["", "yes", "1", " true"] {
            assert_eq!(text(none).boolean(), Err(NoCast), "{none:?}");
        }
        assert_eq!(
            (text("+07").integer(), text("-2147483648").integer()),
            (Ok(7), Ok(i32::MIN))
        );
        for none in ["", "-", "2147483648", "1.0", " 1", "1 ", "0x1", "--1", "١"] {
            assert_eq!(text(none).integer(), Err(NoCast), "{none:?}");
        }
    }
}
