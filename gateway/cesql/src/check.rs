//! Finds faults of an expression that make it no filter for any event, before the first event fails on it.
//!
//! Only what is certain is an error. A text may be `true` or `false`, so an expression that yields a text is none.

use std::fmt::Write as _;

use crate::{Expression, Function, Kind, Node, Span, Type, Value};

/// One thing that is wrong, or likely not what was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The part of the expression that is meant.
    pub at: Span,
    /// The kind of the trouble.
    pub trouble: Trouble,
    /// The mistake, and the words to write instead.
    pub message: String,
}

/// How bad a finding is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No function has this name (upper case).
    UnknownFunction(String),
    /// The function is there, and takes another number of arguments.
    WrongArguments,
    /// The expression never yields true or false.
    NeverBoolean,
    /// The expression is an attribute alone: a filter only where that is true or false. Possible, and rarely meant.
    BareAttribute,
}

impl Trouble {
    /// Whether every event for which that part is evaluated would fail.
    pub fn is_error(&self) -> bool {
        !matches!(self, Self::BareAttribute)
    }
}

impl Expression {
    /// Everything that is wrong with it as a filter, in the order of the text.
    pub fn check(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        self.root().visit(&mut |node| found.extend(call(node)));
        if found.is_empty() {
            found.extend(result(self.root()));
        }
        found
    }
}

fn call(node: &Node) -> Option<Finding> {
    let Kind::Call {
        name,
        function: None,
        arguments,
    } = node.kind()
    else {
        return None;
    };
    let (trouble, message) = match Function::arguments(name) {
        Some(takes) => {
            let message = format!("{name} takes {takes}, found {}", arguments.len());
            (Trouble::WrongArguments, message)
        }
        None => {
            let mut message = format!("there is no function {name}");
            if let Some(instead) = instead(name) {
                // Writing to a String does not fail.
                let _written = write!(message, ": write {instead}");
            }
            (Trouble::UnknownFunction(name.to_string()), message)
        }
    };
    let at = node.span();
    // The name alone: what is in the parentheses may be fine.
    let at = Span {
        end: at.end.min(at.start + name.len()),
        ..at
    };
    Some(Finding { at, trouble, message })
}

/// Functions of other languages, and how CESQL writes them.
fn instead(name: &str) -> Option<&'static str> {
    Some(match name.replace('_', "").as_str() {
        "STARTSWITH" | "BEGINSWITH" | "HASPREFIX" | "PREFIX" => "attribute LIKE 'text%'",
        "ENDSWITH" | "HASSUFFIX" | "SUFFIX" => "attribute LIKE '%text'",
        "CONTAINS" | "INCLUDES" | "INSTR" | "STRPOS" | "MATCHES" | "REGEX" | "REGEXP" => "attribute LIKE '%text%'",
        "LEN" | "SIZE" | "CHARLENGTH" => "LENGTH(attribute)",
        "SUBSTR" | "MID" => "SUBSTRING(attribute, from, length)",
        "UCASE" | "TOUPPER" => "UPPER(attribute)",
        "LCASE" | "TOLOWER" => "LOWER(attribute)",
        "HAS" | "DEFINED" | "ISSET" | "ISNULL" => "EXISTS attribute",
        _ => return None,
    })
}

fn result(root: &Node) -> Option<Finding> {
    let found = |trouble, message: String| {
        Some(Finding {
            at: root.span(),
            trouble,
            message,
        })
    };
    match (root.kind(), root.returns()) {
        (Kind::Attribute(attribute), _) => {
            let name = attribute.name();
            let message = format!(
                "an attribute alone is a filter only when it is true or false: compare it, such as {name} = 'text', or \
                 write EXISTS {name}"
            );
            found(Trouble::BareAttribute, message)
        }
        (_, Some(Type::Integer)) => found(
            Trouble::NeverBoolean,
            "the expression yields a number, and a filter is true or false: compare it, such as with > 0".into(),
        ),
        (Kind::Literal(value @ Value::String(_)), _) if value.boolean().is_err() => found(
            Trouble::NeverBoolean,
            "the expression is a text, and a filter is true or false: compare an attribute with it".into(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn troubles(text: &str) -> Vec<(Trouble, String)> {
        let found = text.parse::<Expression>().unwrap().check();
        let part = |at: Span| text.get(at.start..at.end).unwrap().to_owned();
        found.into_iter().map(|one| (one.trouble, part(one.at))).collect()
    }

    #[test]
    fn what_fails_on_every_event_is_found_beforehand() {
        let unknown = |name: &str, written: &str| vec![(Trouble::UnknownFunction(name.into()), written.into())];
        assert_eq!(
            troubles("type = 'a' AND starts_with(type, 'order.')"),
            unknown("STARTS_WITH", "starts_with")
        );
        assert_eq!(troubles("TRUE OR LENGHT(id) > 1"), unknown("LENGHT", "LENGHT"));
        for wrong in [
            "ABS() = 1",
            "LENGTH(id, type) = 1",
            "SUBSTRING(id) = 'a'",
            "CONCAT_WS() = ''",
        ] {
            assert_eq!(troubles(wrong)[0].0, Trouble::WrongArguments, "{wrong}");
        }
        for never in ["1 + 1", "-LENGTH(id)", "LENGTH(id)", "7", "'text'", "INT(id)"] {
            assert_eq!(troubles(never), [(Trouble::NeverBoolean, never.to_owned())]);
        }
        assert_eq!(troubles("Tier"), [(Trouble::BareAttribute, "Tier".to_owned())]);
        let found = "FOO() AND LENGTH()".parse::<Expression>().unwrap().check();
        assert_eq!(found[0].message, "there is no function FOO");
        assert_eq!(found[1].message, "LENGTH takes 1 argument, found 0");
    }

    #[test]
    fn what_may_be_true_or_false_is_not_refused() {
        for fine in [
            "TRUE",
            "'true'",
            "'FALSE'",
            "NOT 1",
            "1 AND tier",
            "CONCAT('tr', 'ue')",
            "CONCAT() = ''",
            "concat_ws(',') = ''",
            "BOOL(tier)",
            "IS_INT(tier)",
            "LOWER(flag)",
            "SUBSTRING(id, 1) = 'a' OR SUBSTRING(id, 1, 2) = 'a'",
            "EXISTS tier",
            "tier IN ('a')",
        ] {
            assert_eq!(troubles(fine), [], "{fine}");
        }
    }
}
