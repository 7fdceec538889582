//! Calls of functions (4.2 to 4.6 of the specification).

use std::borrow::Cow;

use super::{Outcome, Scope, digits, function_error, integer, shorten, spent, too_large};
use crate::{
    Function, Node, Type, Value,
    budget::Spent,
    functions::{byte_index, part, substring, trimmed},
};

/// Bytes at most of a text that `CONCAT` or `CONCAT_WS` makes: four times the largest table of attributes. Without a bound an
/// expression could make a gibibyte of one attribute.
pub const STRING_BYTES_MAX: usize = 1024 * 1024;

impl<'a> Scope<'a, '_> {
    /// Out of line, as its frame is large and few filters call anything.
    #[inline(never)]
    pub(super) fn call(&self, node: &'a Node, function: Function, arguments: &'a [Node]) -> Outcome<'a> {
        Ok(match (function, arguments) {
            (Function::Abs, [x]) => {
                let x = self.integer(x)?;
                Value::Integer(
                    x.checked_abs()
                        .ok_or_else(|| too_large(node, Some(Value::Integer(i32::MAX))))?,
                )
            }
            (Function::Length, [x]) => {
                let text = self.text(x)?;
                self.take_copy(node, text.len())?;
                let length = text.chars().count();
                return integer(node, i32::try_from(length).ok());
            }
            (Function::Concat, texts) => Value::String(self.concat(node, "", texts)?),
            (Function::ConcatWs, [delimiter, texts @ ..]) => {
                let delimiter = self.text(delimiter)?;
                Value::String(self.concat(node, &delimiter, texts)?)
            }
            (Function::Lower | Function::Upper, [x]) => {
                let text = self.text(x)?;
                self.budget.take_cased(&text).map_err(|Spent| spent(node))?;
                Value::String(match function {
                    Function::Lower => text.to_lowercase().into(),
                    _ => text.to_uppercase().into(),
                })
            }
            (Function::Trim, [x]) => {
                let text = self.text(x)?;
                self.take(node, text.len())?;
                let range = trimmed(&text);
                Value::String(part(text, range))
            }
            (Function::Left | Function::Right, [x, y]) => {
                Value::String(self.left_or_right(node, function == Function::Left, x, y)?)
            }
            (Function::Substring, [x, position, length @ ..]) => {
                Value::String(self.substring(node, x, position, length.first())?)
            }
            (Function::Int, [x]) => Value::Integer(self.integer(x)?),
            (Function::Bool, [x]) => Value::Boolean(self.boolean(x)?),
            (Function::String, [x]) => Value::String(self.text(x)?),
            (Function::IsInt, [x]) => {
                let value = self.value(x)?;
                self.take(node, digits(&value))?;
                Value::Boolean(value.integer().is_ok())
            }
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

    fn left_or_right(&self, node: &'a Node, is_left: bool, x: &'a Node, y: &'a Node) -> Outcome<'a, Cow<'a, str>> {
        let (text, expected) = (self.text(x)?, self.integer(y)?);
        self.take(node, text.len())?;
        let Ok(expected) = usize::try_from(expected) else {
            let message = format!("{expected} characters cannot be taken");
            return Err(function_error(node, message, Value::String(text)));
        };
        let range = if is_left {
            0..byte_index(&text, expected)
        } else {
            byte_index(&text, text.chars().count().saturating_sub(expected))..text.len()
        };
        Ok(part(text, range))
    }

    fn substring(
        &self,
        node: &'a Node,
        x: &'a Node,
        position: &'a Node,
        length: Option<&'a Node>,
    ) -> Outcome<'a, Cow<'a, str>> {
        let (text, position) = (self.text(x)?, self.integer(position)?);
        let length = length.map(|length| self.integer(length)).transpose()?;
        self.take(node, text.len())?;
        let range = substring(&text, position, length).ok_or_else(|| {
            let expected = length.map_or(String::new(), |length| format!(", {length} characters long"));
            let message = format!("{} has no part at {position}{expected}", shorten(&text));
            function_error(node, message, Type::String.zero())
        })?;
        Ok(part(text, range))
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
            self.take_copy(node, delimiter.len() + text.len())?;
            all.push_str(delimiter);
            all.push_str(&text);
        }
        Ok(all.into())
    }
}
