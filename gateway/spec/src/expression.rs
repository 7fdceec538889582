//! Reads a filter's expression, and says what is wrong with it before the first event fails on it.
//!
//! Documents, `headgate filter` and the admin API ask here, so that all of them refuse the same expressions.

use cesql::{Expression, Function, Span, Trouble};

use crate::nearest::suggestion;

/// Why an expression is no filter, and where in its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Where it is in the text of the expression.
    pub at: Span,
    /// The mistake, for people.
    pub message: String,
}

/// An expression that may be a filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The expression that was read.
    pub expression: Expression,
    /// Warnings: valid, and likely not meant.
    pub doubts: Vec<Refused>,
}

/// Reads an expression as a filter; each fault is one that every event would meet.
pub fn read(text: &str) -> Result<Checked, Vec<Refused>> {
    let expression: Expression = text.parse().map_err(|error: cesql::ParseError| {
        vec![Refused {
            at: error.at,
            message: error.message,
        }]
    })?;
    let (faults, doubts): (Vec<_>, Vec<_>) = expression
        .check()
        .into_iter()
        .partition(|found| found.trouble.is_error());
    if faults.is_empty() {
        let doubts = doubts.into_iter().map(refused).collect();
        Ok(Checked { expression, doubts })
    } else {
        Err(faults.into_iter().map(refused).collect())
    }
}

impl Refused {
    /// The line of the expression with a caret under the place.
    pub fn caret(&self, source: &str) -> String {
        cesql::ParseError {
            at: self.at,
            message: String::new(),
        }
        .caret(source)
    }
}

fn refused(found: cesql::Finding) -> Refused {
    let cesql::Finding {
        at,
        trouble,
        mut message,
    } = found;
    if let Trouble::UnknownFunction(name) = trouble
        && !message.contains(": ")
    {
        let meant = suggestion(&name, Function::names());
        match meant.is_empty() {
            true => message.push_str(&format!(
                "; known: {}",
                Function::names().collect::<Vec<_>>().join(", ")
            )),
            false => message.push_str(&meant),
        }
    }
    Refused { at, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        match read(text) {
            Ok(checked) => checked.doubts.iter().map(ToString::to_string).collect(),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn an_unknown_function_names_what_was_meant() {
        assert_eq!(
            messages("LENGHT(id) > 1"),
            ["there is no function LENGHT, did you mean `LENGTH`?"]
        );
        assert_eq!(
            messages("starts_with(type, 'a')"),
            ["there is no function STARTS_WITH: write attribute LIKE 'text%'"]
        );
        assert!(messages("FROBNICATE()")[0].contains("; known: ABS, LENGTH, "));
        assert_eq!(messages("ABS(1, 2) = 1"), ["ABS takes 1 argument, found 2"]);
        assert!(read("1 + 1").is_err() && read("LENGTH(id)").is_err() && read("a AND").is_err());
        assert!(read("tier").is_ok_and(|checked| checked.doubts.len() == 1));
        assert!(read("tier = 'gold'").is_ok_and(|checked| checked.doubts.is_empty()));
    }
}
