//! Filters against the same written by hand in Rust, and a thousand different ones on one event.
//!
//! `cargo run --profile dist -p cesql --example speed`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people measuring")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real time is what is measured"
)]

use std::{hint::black_box, time::Instant};

use cesql::{Expression, Filter};
use event::Event;

const ROUNDS: u32 = 300_000;
/// The best of so many runs: whatever else the machine does makes a run slower, never faster.
const RUNS: usize = 7;

fn event() -> Event {
    Event::builder("018f-42", "/shop/eu/berlin", "com.example.order.created")
        .set("time", "2026-11-24T12:00:00Z")
        .set("subject", "orders/42/eu")
        .set("datacontenttype", "application/json")
        .set("tier", "gold")
        .set("amount", "1250")
        .set("partitionkey", "customer-7")
        .finish()
        .unwrap()
}

/// Nanoseconds of one call.
fn nanos(rounds: u32, mut work: impl FnMut() -> bool) -> f64 {
    let run = |work: &mut dyn FnMut() -> bool| {
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(work());
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds)
    };
    (0..RUNS).map(|_| run(&mut work)).fold(f64::INFINITY, f64::min)
}

fn filter(text: &str) -> Filter {
    Filter::cesql(text.parse::<Expression>().unwrap()).unwrap()
}

/// A filter as a programmer would write it for this one case.
type Handwritten = fn(&Event) -> bool;

const TYPICAL: [(&str, Handwritten); 5] = [
    ("type = 'com.example.order.created'", |event| {
        event.text("type") == Some("com.example.order.created")
    }),
    ("type LIKE 'com.example.order.%' AND source LIKE '%/berlin'", |event| {
        event
            .text("type")
            .is_some_and(|kind| kind.starts_with("com.example.order."))
            && event.text("source").is_some_and(|source| source.ends_with("/berlin"))
    }),
    ("type LIKE 'com.example.%' AND EXISTS tier AND tier = 'gold'", |event| {
        event.text("type").is_some_and(|kind| kind.starts_with("com.example."))
            && event.text("tier").is_some_and(|tier| tier == "gold")
    }),
    ("EXISTS tier AND tier IN ('bronze', 'silver', 'gold')", |event| {
        event
            .text("tier")
            .is_some_and(|tier| ["bronze", "silver", "gold"].contains(&tier))
    }),
    ("EXISTS amount AND IS_INT(amount) AND amount >= 1000", |event| {
        event
            .text("amount")
            .and_then(|amount| amount.parse::<i32>().ok())
            .is_some_and(|amount| amount >= 1000)
    }),
];

fn main() {
    let event = event();
    println!("{:62} {:>8} {:>8} {:>6}", "", "ns", "by hand", "ratio");
    for (text, by_hand) in TYPICAL {
        let filter = filter(text);
        assert!(filter.evaluate(&event).unwrap() && by_hand(&event), "{text}");
        let ours = nanos(ROUNDS, || filter.evaluate(black_box(&event)).unwrap_or(false));
        let theirs = nanos(ROUNDS, || by_hand(black_box(&event)));
        println!("{text:62} {ours:8.0} {theirs:8.0} {:6.1}", ours / theirs);
    }
    let many: Vec<Filter> = (0..1000)
        .map(|index| {
            filter(&format!(
                "type LIKE 'com.example.%' AND EXISTS tier AND tier = 'tier-{index}'"
            ))
        })
        .collect();
    let all = nanos(300, || {
        many.iter()
            .filter(|filter| filter.evaluate(black_box(&event)).unwrap_or(false))
            .count()
            == 0
    });
    println!("1000 filters of three clauses on one event: {:.0} us", all / 1000.0);
}
