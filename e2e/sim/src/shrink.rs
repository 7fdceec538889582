//! Makes a failing scenario smaller: leaves out steps, many at once and then one by one, while the same invariant stays broken.

use crate::{Scenario, history::Record, invariants, invariants::Violation, run};

/// Jitter is not seeded, so a smaller scenario has several tries to fail.
const TRIES: usize = 3;

/// A scenario that breaks an invariant, and what it did.
pub struct Failure {
    pub scenario: Scenario,
    pub violation: Violation,
    pub records: Vec<Record>,
}

/// Runs a scenario; `None`: all invariants hold.
pub fn fails(scenario: &Scenario) -> Option<Failure> {
    let records = run(scenario);
    let violation = invariants::check(scenario, &records)?;
    Some(Failure {
        scenario: scenario.clone(),
        violation,
        records,
    })
}

/// Returns the smallest scenario found that breaks the same invariant.
pub fn shrink(mut failure: Failure) -> Failure {
    let mut chunk = failure.scenario.steps.len().div_ceil(2);
    while chunk > 0 {
        let mut from = 0;
        while from < failure.scenario.steps.len() {
            let mut smaller = failure.scenario.clone();
            let to = (from + chunk).min(smaller.steps.len());
            smaller.steps.drain(from..to);
            let same = |found: &Failure| found.violation.invariant == failure.violation.invariant;
            match (0..TRIES).find_map(|_| fails(&smaller).filter(same)) {
                Some(found) => failure = found,
                None => from = to,
            }
        }
        chunk /= 2;
    }
    failure
}

/// The seed, what is broken, the scenario that is left, and its trace.
pub fn report(failure: &Failure) -> String {
    let mut text = format!(
        "seed {}: {}\n\nscenario, as far as it was made smaller:\n",
        failure.scenario.seed, failure.violation
    );
    for step in &failure.scenario.steps {
        text += &format!("{:>6} ms  {:?}\n", step.at, step.action);
    }
    text += "\ntrace:\n";
    for record in &failure.records {
        text += &format!("{record}\n");
    }
    text
}
