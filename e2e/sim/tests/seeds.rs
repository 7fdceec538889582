//! Many runs: `SIM_SEEDS` says how many (300), `SIM_SEED` runs one alone, or says the first where both are given. With
//! `SIM_SHRINK=0` a failing scenario is printed as it is, which saves minutes. With `SIM_GO_ON=1` a failing seed is reported in one
//! line and the next one runs, for a night of many seeds: `--nocapture` shows how far it is.

use std::{
    env, panic,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use sim::{scenario, shrink};

/// Seeds between two lines of progress.
const PROGRESS: u64 = 1000;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}"))
    })
}

/// Runs one seed. Returns what it breaks.
#[expect(clippy::print_stderr, reason = "for who watches a night of many seeds")]
fn run(seed: u64, goes_on: bool) -> Option<String> {
    if seed > 0 && seed.is_multiple_of(PROGRESS) {
        eprintln!("seed {seed} begins");
    }
    let failure = shrink::fails(&scenario::generate(seed))?;
    if goes_on {
        let line = format!("seed {seed}: {}", failure.violation);
        eprintln!("{line}");
        return Some(line);
    }
    let failure = if number("SIM_SHRINK") == Some(0) {
        failure
    } else {
        shrink::shrink(failure)
    };
    Some(shrink::report(&failure))
}

#[test]
fn no_seed_breaks_an_invariant() {
    let (seed, seeds) = (number("SIM_SEED"), number("SIM_SEEDS"));
    let goes_on = number("SIM_GO_ON") == Some(1);
    let first = seed.unwrap_or(0);
    let count = seeds.unwrap_or(if seed.is_some() { 1 } else { 300 });
    let next = AtomicU64::new(first);
    let stops = AtomicBool::new(false);
    let work = || {
        let mut reports = Vec::new();
        while !stops.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                break;
            }
            if let Some(report) = run(seed, goes_on) {
                stops.fetch_or(!goes_on, Ordering::Relaxed);
                reports.push(report);
            }
        }
        reports
    };
    let reports: Vec<String> = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
            .collect()
    });
    assert!(reports.is_empty(), "{}", reports.join("\n"));
}
