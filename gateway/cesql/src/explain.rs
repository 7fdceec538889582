//! Which clause of an expression decided.
//!
//! A clause is a part that is not combined of others by `AND`, `OR`, `XOR` or `NOT`. When no single one decided, as when all
//! of `a AND b` are true, it is the combination as a whole.

use event::Event;

use crate::{
    Budget, Evaluation, Expression, Kind, Logic, Node,
    evaluate::{Outcome, Scope, evaluate_within, with_scope},
};

/// Why an expression has the value it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation<'a> {
    /// The value and the error.
    pub evaluation: Evaluation<'a>,
    /// Where there was an error: the part that could not be evaluated.
    pub clause: &'a Node,
    /// The steps that the explanation took.
    pub steps: usize,
}

/// Evaluates the expression and finds the part that decided.
pub fn explain<'a>(expression: &'a Expression, event: &'a Event) -> Explanation<'a> {
    let budget = Budget::default();
    let evaluation = evaluate_within(expression, event, &budget);
    // Parts are evaluated again at each level on the way to the clause, which costs more than the value did.
    let search = Budget::default();
    let clause = match &evaluation.error {
        Some(error) => error.node,
        None => with_scope(expression, event, &search, |scope| deciding(scope, expression.root()))
            // Not found within the budget: all of it decided.
            .unwrap_or(expression.root()),
    };
    Explanation {
        evaluation,
        clause,
        steps: budget.taken() + search.taken(),
    }
}

fn deciding<'a>(scope: &Scope<'a, '_>, node: &'a Node) -> Outcome<'a, &'a Node> {
    match node.kind() {
        Kind::Not(inner) | Kind::Predicate(inner) => deciding(scope, inner),
        Kind::Logic { first, rest } => {
            let mut value = scope.boolean(first)?;
            // The one operand that made the value what it is, while there is one.
            let mut decided = Some(&**first);
            for (operator, operand) in rest {
                match (operator, value) {
                    (Logic::And, false) | (Logic::Or, true) => {}
                    (Logic::And, true) | (Logic::Or, false) => {
                        let changed = scope.boolean(operand)? != value;
                        value ^= changed;
                        decided = changed.then_some(operand);
                    }
                    (Logic::Xor, _) => {
                        value ^= scope.boolean(operand)?;
                        decided = None;
                    }
                }
            }
            decided.map_or(Ok(node), |operand| deciding(scope, operand))
        }
        _ => scope.value(node).map(|_| node),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn clause(text: &str) -> String {
        let event = Event::builder("1", "/shop", "order")
            .set("tier", "gold")
            .finish()
            .unwrap();
        let expression: Expression = text.parse().unwrap();
        explain(&expression, &event).clause.to_string()
    }

    #[test]
    fn the_clause_that_decided_is_named() {
        assert_eq!(
            clause("type = 'order' AND tier = 'silver' AND id = '1'"),
            "tier = 'silver'"
        );
        assert_eq!(
            clause("type = 'x' OR (id = '1' AND tier = 'silver')"),
            "type = 'x' OR (id = '1' AND tier = 'silver')"
        );
        assert_eq!(clause("type = 'x' OR tier = 'gold'"), "tier = 'gold'");
        assert_eq!(clause("NOT (EXISTS absent OR tier = 'gold')"), "tier = 'gold'");
        assert_eq!(clause("type = 'x' AND id = '1' OR tier = 'gold'"), "tier = 'gold'");
    }

    #[test]
    fn all_of_a_combination_decided_when_no_single_clause_did() {
        assert_eq!(
            clause("type = 'order' AND tier = 'gold'"),
            "type = 'order' AND tier = 'gold'"
        );
        assert_eq!(clause("TRUE XOR FALSE"), "TRUE XOR FALSE");
        assert_eq!(clause("tier"), "tier");
    }

    #[test]
    fn with_an_error_it_is_the_part_that_has_none() {
        assert_eq!(clause("type = 'order' AND absent = 'gold'"), "absent");
        assert_eq!(clause("type = 'order' AND 1 / 0 = 1"), "1 / 0");
        assert_eq!(clause("tier"), "tier");
    }
}
