//! Any text as an expression, on any event: nothing panics, what is read prints and reads back the same, and there is a
//! value of the right type.
//!
//! The first line is the expression, every further one an attribute `name=value`.

#![no_main]

use cesql::{Expression, evaluate, explain};
use event::Event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let mut lines = input.split('\n');
    let Ok(expression) = lines.next().unwrap_or_default().parse::<Expression>() else {
        return;
    };
    let printed = expression.to_string();
    let read: Expression = printed.parse().expect("what was printed is read");
    assert_eq!(read, expression, "{printed}");

    let attributes = lines.filter_map(|line| line.split_once('='));
    let builder = Event::builder("1", "/fuzz", "t");
    let Ok(event) = attributes.fold(builder, |event, (name, value)| event.set(name, value)).finish() else {
        return;
    };
    let evaluation = evaluate(&expression, &event);
    if let Some(returns) = expression.root().returns() {
        assert_eq!(evaluation.value.kind(), returns);
    }
    assert_eq!(explain(&expression, &event).evaluation, evaluation);
});
