//! Tables as kubectl prints them: upper-case headers, columns apart by three spaces, no lines.
//!
//! Numbers stand right-aligned. On a terminal a row is never wrapped: cells of the widest columns are cut. In a pipe nothing is.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::output;

/// Between two columns.
const GAP: usize = 3;

/// Cells are not cut below this: fewer characters tell nothing, and then a row is wrapped after all.
const CELL_MIN: usize = 8;

pub(crate) struct Table {
    /// Shown in capitals.
    header: Vec<&'static str>,
    /// Columns of numbers.
    right: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            right: vec![],
            rows: vec![],
        }
    }

    /// These columns hold numbers.
    pub(crate) fn numbers(mut self, columns: &[&'static str]) -> Self {
        self.right.extend_from_slice(columns);
        self
    }

    /// A cell is one line, whatever the text came from.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        let clean = |cell: String| match output::one_line(&cell) {
            Cow::Borrowed(_) => cell,
            Cow::Owned(clean) => clean,
        };
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    /// As wide as the terminal, where there is one.
    pub(crate) fn render(&self) -> String {
        self.render_in(output::width())
    }

    fn render_in(&self, width: Option<usize>) -> String {
        let widest = |column: usize| {
            let cells = self
                .rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count());
            cells.chain([self.header[column].chars().count()]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..self.header.len()).map(widest).collect();
        if let Some(width) = width {
            narrow(&mut widths, width);
        }
        let mut out = String::new();
        let header: Vec<String> = self.header.iter().map(|name| name.to_uppercase()).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), column) in row.iter().zip(&widths).zip(&self.header) {
                let cell = cut(cell, *width);
                line.push_str(&match self.right.contains(column) {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:width$}"),
                });
                line.push_str(&" ".repeat(GAP));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Takes from the widest columns until a row fits.
fn narrow(widths: &mut [usize], width: usize) {
    let room = width.saturating_sub(GAP * widths.len().saturating_sub(1));
    loop {
        let total: usize = widths.iter().sum();
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > CELL_MIN) else {
            return;
        };
        if total <= room {
            return;
        }
        *widest -= 1;
    }
}

fn cut(cell: &str, width: usize) -> Cow<'_, str> {
    if cell.chars().count() <= width {
        return cell.into();
    }
    let kept: String = cell.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…").into()
}

/// Bytes in the largest unit that leaves a whole part: `532 B`, `1.0 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Tenths, so that no float is rounded up to 1024.0.
    let (mut tenths, mut unit) = (u128::from(count) * 10 / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// The time since, as kubectl says it: `45s`, `3m12s`, `2h5m`, `3d4h`, `12d`.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = (now.as_second() - since.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, unit: &str, small: i64, sub: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{sub}")
        }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if hours < 3 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if days < 2 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_space() {
        let mut table = Table::new(&["NAME", "READY"]);
        table.row(vec!["orders".into(), "True".into()]);
        table.row(vec!["a".into(), String::new()]);
        assert_eq!(table.render_in(None), "NAME     READY\norders   True\na\n");
    }

    #[test]
    fn numbers_stand_on_the_right_and_a_cell_is_one_clean_line() {
        let mut table = Table::new(&["NAME", "BYTES"]).numbers(&["BYTES"]);
        table.row(vec!["a\u{1b}[2J\nb".into(), "7".into()]);
        table.row(vec!["c".into(), "1234567".into()]);
        assert_eq!(
            table.render_in(None),
            "NAME        BYTES\na\u{fffd}[2J b         7\nc         1234567\n"
        );
    }

    #[test]
    fn a_row_is_cut_to_the_terminal_and_not_in_a_pipe() {
        let mut table = Table::new(&["NAME", "ADDRESS", "AGE"]);
        table.row(vec![
            "orders".into(),
            format!("http://127.0.0.1:8080/{}", "x".repeat(80)),
            "5s".into(),
        ]);
        let cut = table.render_in(Some(40));
        assert!(cut.lines().all(|line| line.chars().count() <= 40), "{cut}");
        assert!(
            cut.contains("http://127.0.0.1:8080/") && cut.contains('…') && cut.contains("5s"),
            "{cut}"
        );
        assert!(table.render_in(None).contains(&"x".repeat(80)));
        assert!(!table.render_in(Some(5)).is_empty(), "narrower than can be");
    }

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (1_073_741_824, "1.0 GiB"),
            (u64::MAX, "16383.9 PiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn ages_read_as_kubectl_prints_them() {
        let cases = [
            (5, "5s"),
            (119, "119s"),
            (192, "3m12s"),
            (300, "5m"),
            (900, "15m"),
            (7500, "125m"),
            (11_100, "3h5m"),
            (90_000, "25h"),
            (273_600, "3d4h"),
            (864_000, "10d"),
        ];
        for (seconds, text) in cases {
            let now = Timestamp::from_second(seconds).unwrap_or_default();
            assert_eq!(age(Timestamp::UNIX_EPOCH, now), text);
        }
    }
}
