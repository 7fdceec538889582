//! The small parts that all pages are made of: marks, times, numbers, commands. Everything that comes from outside is escaped by the
//! template library.

use std::time::Duration;

use dataplane::Stage;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use spec::{Condition, ObjectKey, ObjectName, Reason, Severity, Status, Truth};

use super::urls;

/// How something is, worst first. Each is told by a shape and a word, and by a color besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    Bad,
    Warning,
    Paused,
    Waiting,
    Good,
    /// Nothing to worry about, and nothing to be glad of.
    Quiet,
}

impl Health {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Warning => "warning",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Good => "good",
            Self::Quiet => "quiet",
        }
    }

    /// The worst of an object's conditions.
    pub(super) fn of(status: &Status) -> Self {
        let conditions = status.conditions.iter().map(Self::of_condition);
        conditions.min().unwrap_or(Self::Good)
    }

    pub(super) fn of_condition(condition: &Condition) -> Self {
        // The one condition that is bad when it is True.
        let is_met = (condition.truth == Truth::True) != (condition.kind == "DurabilityDegraded");
        match (condition.truth, condition.severity) {
            _ if is_met && condition.truth != Truth::Unknown => Self::Good,
            // Nothing is known, and nothing has to be.
            (Truth::Unknown, Severity::Info) => Self::Quiet,
            (Truth::Unknown, _) => Self::Waiting,
            (_, Severity::Error) => Self::Bad,
            (_, Severity::Warning) => Self::Warning,
            (_, Severity::Info) => Self::Paused,
        }
    }

    /// How well an event fares with a subscription.
    pub(super) fn of_stage(stage: Stage) -> Self {
        match stage {
            Stage::Delivered | Stage::Settled => Self::Good,
            Stage::LeftOut | Stage::Elsewhere => Self::Quiet,
            Stage::DeadLettered | Stage::NotRunning => Self::Bad,
            Stage::Retrying => Self::Warning,
            Stage::Waiting => Self::Waiting,
        }
    }

    /// The word for an object.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Bad => "Not ready",
            Self::Warning => "Trouble",
            Self::Paused => "Paused",
            Self::Waiting => "Pending",
            Self::Good => "Healthy",
            Self::Quiet => "Unknown",
        }
    }
}

/// A shape of its own for each: a filled circle is good, a triangle a warning, a crossed square bad.
pub(super) fn mark(health: Health) -> Markup {
    html! {
        svg.mark.(health.class()) viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" {
            @match health {
                Health::Good => circle cx="6" cy="6" r="4.5" {},
                Health::Warning => path d="M6 .8 11.6 11H.4z" {},
                Health::Bad => { rect x=".5" y=".5" width="11" height="11" rx="2" {} path.cut d="m3.5 3.5 5 5m0-5-5 5" {} },
                Health::Paused => { rect x="1.5" y="1" width="3.4" height="10" {} rect x="7.1" y="1" width="3.4" height="10" {} },
                Health::Waiting => circle.ring cx="6" cy="6" r="4.5" {},
                Health::Quiet => rect x="1" y="5" width="10" height="2" {},
            }
        }
    }
}

/// A mark with its word.
pub(super) fn chip(health: Health, word: &str) -> Markup {
    html! { span.chip.(health.class()) { (mark(health)) (word) } }
}

/// How long ago, with the exact time on hover.
pub(super) fn when(at: Timestamp) -> Markup {
    html! { time datetime=(at) title=(exact(at)) { (relative(at, Timestamp::now())) } }
}

/// A time of the day with its distance from an earlier one in a list.
pub(super) fn clock(at: Timestamp) -> Markup {
    html! { time datetime=(at) title=(exact(at)) { (at.strftime("%H:%M:%S%.3f")) } }
}

fn exact(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

fn relative(at: Timestamp, now: Timestamp) -> String {
    let distance = now.duration_since(at);
    match distance {
        _ if distance.abs() < SignedDuration::from_millis(1500) => "now".to_owned(),
        _ if distance.is_negative() => format!("in {}", span(distance.unsigned_abs())),
        _ => format!("{} ago", span(distance.unsigned_abs())),
    }
}

/// A length of time in its largest unit.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..=89 => format!("{seconds} s"),
        90..=5_399 => format!("{} min", (seconds + 30) / 60),
        5_400..=129_599 => format!("{} h", (seconds + 1800) / 3600),
        _ => format!("{} d", (seconds + 43_200) / 86_400),
    }
}

/// A short length of time, as of one attempt.
pub(super) fn took(time: Duration) -> String {
    match time.as_secs_f64() * 1e3 {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1e3),
    }
}

/// Digits in groups of three, by a narrow space.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// `1 event`, `2 events`.
pub(super) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", number(count))
}

pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// The command that does what a page shows.
pub(super) fn command(text: &str) -> Markup {
    html! {
        div.command { code tabindex="0" { (text) } button.copy type="button" data-copy="" { "Copy" } }
    }
}

/// A word of a command line, in quotes where a shell would read it otherwise.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A reason, with the page that says what to check.
pub(super) fn reason(word: &str) -> Markup {
    html! {
        @if Reason::find(word).is_some() { a.reason href=(urls::reason(word)) { (word) } } @else { (word) }
    }
}

pub(super) fn channel(name: &ObjectName) -> Markup {
    html! { a href=(urls::channel(name)) { (name) } }
}

pub(super) fn subscription(name: &ObjectName) -> Markup {
    html! { a href=(urls::subscription(name)) { (name) } }
}

/// The same by its name alone, where the namespace is said elsewhere.
pub(super) fn subscription_named(name: &ObjectName, text: &str) -> Markup {
    html! { a href=(urls::subscription(name)) title=(name) { (text) } }
}

/// An object with its kind, and its page where it has one.
pub(super) fn object(key: &ObjectKey) -> Markup {
    html! { (key.kind) " " (object_named(key, &key.name.to_string())) }
}

pub(super) fn object_named(key: &ObjectKey, text: &str) -> Markup {
    html! { @match urls::page_of(key.kind, &key.name) {
        Some(address) => a href=(address) title=(key) { (text) },
        None => strong { (text) },
    } }
}

/// A text that may be long, cut for a list; the whole of it on hover.
pub(super) fn short(text: &str, max: usize) -> Markup {
    let cut: String = text.chars().take(max).collect();
    html! {
        @if cut.len() == text.len() { (text) } @else { span title=(text.chars().take(max * 8).collect::<String>()) { (cut) "…" } }
    }
}

/// A message, with the commands in it as commands.
pub(super) fn with_code(message: &str) -> Markup {
    let pieces = message.split('`').enumerate();
    // A sign without its second one is only a sign.
    let is_whole = message.matches('`').count().is_multiple_of(2);
    html! {
        @if is_whole {
            @for (index, piece) in pieces { @if index % 2 == 1 { code { (piece) } } @else { (piece) } }
        } @else { (message) }
    }
}

/// The conditions of an object, those that are not met first.
pub(super) fn conditions(status: &Status) -> Markup {
    let mut conditions: Vec<&Condition> = status.conditions.iter().collect();
    conditions.sort_by_key(|condition| Health::of_condition(condition));
    html! {
        div.wide { table.cards {
            thead { tr { th { "Condition" } th { "Status" } th { "Why" } th.number { "Since" } } }
            tbody { @for condition in conditions {
                tr {
                    th scope="row" data-label="Condition" { (condition.kind) }
                    td data-label="Status" { (chip(Health::of_condition(condition), truth(condition.truth))) }
                    td data-label="Why" { @if let Some(cause) = &condition.cause { (reason(cause.reason.as_str())) ": " (with_code(&cause.message)) } }
                    td.number data-label="Since" { (when(condition.last_transition_time)) }
                }
            } }
        } }
    }
}

pub(super) fn truth(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "True",
        Truth::False => "False",
        Truth::Unknown => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn numbers_times_and_sizes_have_their_units() {
        assert_eq!(number(0), "0");
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(
            (counted(1, "event"), counted(2, "event")),
            ("1 event".into(), "2 events".into())
        );
        assert_eq!(
            [0, 1023, 1024, 1_572_864].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]
        );
        let spans = [0, 1, 89, 90, 3600, 5400, 86_400, 172_800].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["0 ms", "1 s", "89 s", "2 min", "60 min", "2 h", "24 h", "2 d"]);
        assert_eq!(
            [0.000_4, 0.25, 12.0].map(|s| took(Duration::from_secs_f64(s))),
            ["0.4 ms", "250 ms", "12.0 s"]
        );
        let now: Timestamp = "2026-12-01T12:00:00Z".parse().unwrap();
        let at = |text: &str| relative(text.parse().unwrap(), now);
        assert_eq!(at("2026-12-01T11:59:59Z"), "now");
        assert_eq!(at("2026-12-01T11:57:00Z"), "3 min ago");
        assert_eq!(at("2026-12-01T12:00:30Z"), "in 30 s");
    }

    #[test]
    fn commands_in_a_message_stand_out_and_nothing_else_does() {
        assert_eq!(
            with_code("use `a <b>` now").into_string(),
            "use <code>a &lt;b&gt;</code> now"
        );
        assert_eq!(with_code("it`s").into_string(), "it`s");
    }

    #[test]
    fn an_argument_of_a_command_is_one_word_of_the_shell() {
        assert_eq!(quoted("order-1"), "order-1");
        assert_eq!(quoted("$(rm -r x)"), "'$(rm -r x)'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
