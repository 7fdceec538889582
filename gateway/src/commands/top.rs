//! `headgate top`: the flow of events in a terminal, trouble first, drawn again and again.

mod rows;
mod sample;

use std::{fmt::Write as _, io::IsTerminal, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    Failure,
    api::Info,
    args::Top,
    client::Gateway,
    output,
    table::{Table, bytes},
};
use rows::Row;
use sample::{Sample, Totals};

/// Switches to the terminal's second screen, and back: what was shown before is there again afterwards.
const SECOND_SCREEN: (&str, &str) = ("\u{1b}[?1049h\u{1b}[?25l", "\u{1b}[?25h\u{1b}[?1049l");

/// To the upper left corner; and deletes all below.
const REDRAW: (&str, &str) = ("\u{1b}[H", "\u{1b}[J");

/// Rows that are printed when there is no terminal with a height.
const ROWS_IN_A_PIPE: usize = 100;

/// Lines around the rows: two of the gateway, an empty one, the header, what was left out, and the cursor's.
const LINES_AROUND: usize = 6;

pub(super) async fn top(gateway: &Gateway, args: Top) -> Result<(), Failure> {
    let mut view = View {
        namespace: args.namespace,
        last: None,
    };
    if args.once || !std::io::stdout().is_terminal() {
        // Rates need two looks.
        view.poll(gateway).await?;
        sleep(args.interval).await;
        output::text(&view.poll(gateway).await?.shown(ROWS_IN_A_PIPE));
        return Ok(());
    }
    // Before the screen is switched, so that a gateway that is not there is said as any command does.
    let first = view.poll(gateway).await?;
    output::exact(SECOND_SCREEN.0);
    draw(&first.shown(rows_in_the_terminal()));
    let watched = tokio::select! {
        watched = watch(&mut view, gateway, args.interval) => watched,
        signal = tokio::signal::ctrl_c() => signal.map_err(|error| Failure::Internal(error.into())),
    };
    output::exact(SECOND_SCREEN.1);
    watched
}

/// Draws until it is dropped. A gateway that goes away is said, and asked again.
async fn watch(view: &mut View, gateway: &Gateway, interval: Duration) -> Result<(), Failure> {
    loop {
        sleep(interval).await;
        match view.poll(gateway).await {
            Ok(snapshot) => draw(&snapshot.shown(rows_in_the_terminal())),
            Err(Failure::Unreachable(why)) => {
                view.last = None;
                draw(&format!("{}\nIt is asked again.", output::clean(&why)));
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn rows_in_the_terminal() -> usize {
    output::height().unwrap_or(ROWS_IN_A_PIPE).saturating_sub(LINES_AROUND)
}

/// Over what was drawn before: a line that was longer is deleted to its end.
fn draw(text: &str) {
    let lines = text.trim_end().replace('\n', "\u{1b}[K\n");
    output::exact(&format!("{}{lines}\u{1b}[K{}", REDRAW.0, REDRAW.1));
}

/// Repeated looks at one gateway.
struct View {
    namespace: Option<String>,
    last: Option<(Instant, Sample)>,
}

impl View {
    async fn poll(&mut self, gateway: &Gateway) -> Result<Snapshot, Failure> {
        let info: Info = gateway.get("/api/v1/info", &[]).await?;
        let metrics = Sample::of(&gateway.get_text("/metrics", &[]).await?.text);
        let now = Instant::now();
        let mut query = vec![("kind", "all")];
        query.extend(self.namespace.as_deref().map(|namespace| ("namespace", namespace)));
        let list: Value = gateway.get("/api/v1/objects", &query).await?;
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let before = self.last.as_ref().map(|(at, sample)| (now - *at, sample));
        let mut rows: Vec<Row> = items
            .iter()
            .filter_map(|item| Row::of(item, &metrics, before))
            .collect();
        rows.sort_by(|a, b| a.by_trouble(b));
        let totals = metrics.totals(before);
        self.last = Some((now, metrics));
        Ok(Snapshot { info, totals, rows })
    }
}

/// The flow at one moment, ready to be shown.
struct Snapshot {
    info: Info,
    totals: Totals,
    rows: Vec<Row>,
}

impl Snapshot {
    fn shown(&self, rows_max: usize) -> String {
        let Totals {
            accepted,
            delivered,
            failed,
            backlog,
            dead_letters,
            memory,
        } = self.totals;
        let state = match (self.info.ready, self.info.reasons.as_slice()) {
            (true, _) => "ready".to_owned(),
            (false, []) => "not ready".to_owned(),
            (false, reasons) => format!("not ready: {}", reasons.join("; ")),
        };
        let memory = memory
            .map(|memory| format!(", {} of memory", bytes(memory)))
            .unwrap_or_default();
        let mut text = format!(
            "headgate {} at {}: {state}{memory}\nin {}/s, out {}/s, failed {}/s, backlog {backlog}, dead letters {dead_letters}\n\n",
            output::one_line(&self.info.version),
            output::one_line(&self.info.ingress),
            rows::rate(accepted),
            rows::rate(delivered),
            rows::rate(failed),
        );
        let numbers = ["IN/S", "OUT/S", "FAILED/S", "BACKLOG", "OLDEST", "DEAD"];
        let mut header = vec!["STATE", "OBJECT"];
        header.extend(numbers);
        header.push("REASON");
        let mut table = Table::new(&header).numbers(&numbers);
        for row in self.rows.iter().take(rows_max) {
            table.row(row.cells());
        }
        text.push_str(&table.render());
        let left = self.rows.len().saturating_sub(rows_max);
        if left > 0 {
            let _ = write!(text, "and {left} more, with less trouble; -n NAMESPACE shows fewer");
        }
        text
    }
}
