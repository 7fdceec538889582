//! Renders the Markdown of docs/reasons: headings, paragraphs, lists, tables, code, links. Our own pages use no more.

use maud::{Markup, html};
use spec::Reason;

use super::urls;

pub(super) fn render(text: &str) -> Markup {
    let mut lines = text.lines().peekable();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let starts = |prefix: &'static str| move |line: &&str| line.starts_with(prefix);
        let block = if let Some(code) = line.strip_prefix("```") {
            let _language = code;
            let mut code = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("```")) {
                code.push(line);
            }
            lines.next();
            html! { pre tabindex="0" { code { (code.join("\n")) } } }
        } else if let Some(title) = line.strip_prefix("# ") {
            html! { h1 { (inline(title)) } }
        } else if let Some(title) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            html! { h2 { (inline(title)) } }
        } else if is_item(line) {
            let mut items = vec![item(line)];
            while let Some(line) = lines.next_if(|line| is_item(line) || line.starts_with(' ')) {
                match items.last_mut() {
                    Some(last) if !is_item(line) => *last = format!("{last} {}", line.trim()),
                    _ => items.push(item(line)),
                }
            }
            html! { ul { @for item in items { li { (inline(&item)) } } } }
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(line) = lines.next_if(starts("|")) {
                rows.push(cells(line));
            }
            table(&rows)
        } else if line.trim().is_empty() {
            continue;
        } else {
            let mut paragraph = line.to_owned();
            let goes_on = |line: &&str| !line.trim().is_empty() && !is_item(line) && !line.starts_with(['#', '|', '`']);
            while let Some(line) = lines.next_if(goes_on) {
                paragraph = format!("{paragraph} {line}");
            }
            html! { p { (inline(&paragraph)) } }
        };
        blocks.push(block);
    }
    html! { @for block in blocks { (block) } }
}

fn is_item(line: &str) -> bool {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    line.starts_with("- ") || line.starts_with("* ") || (rest.len() < line.len() && rest.starts_with(". "))
}

fn item(line: &str) -> String {
    line.split_once(' ').map_or(line, |(_, text)| text).trim().to_owned()
}

fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').trim_end_matches('|');
    line.split('|').map(|cell| cell.trim().to_owned()).collect()
}

fn table(rows: &[Vec<String>]) -> Markup {
    let is_rule = |row: &&Vec<String>| !row.iter().all(|cell| cell.chars().all(|c| "-: ".contains(c)));
    let mut rows = rows.iter().filter(is_rule);
    html! {
        div.wide { table {
            @if let Some(head) = rows.next() { thead { tr { @for cell in head { th { (inline(cell)) } } } } }
            tbody { @for row in rows { tr { @for cell in row { td { (inline(cell)) } } } } }
        } }
    }
}

/// Code, links and stress within a line.
fn inline(text: &str) -> Markup {
    let Some(at) = text.find(['`', '[', '*']) else {
        return html! { (text) };
    };
    let (before, rest) = text.split_at(at);
    let (piece, after) = special(rest).unwrap_or_else(|| {
        let (sign, after) = rest.split_at(1);
        (html! { (sign) }, after)
    });
    html! { (before) (piece) (inline(after)) }
}

/// The piece that begins here, and the text behind it.
fn special(text: &str) -> Option<(Markup, &str)> {
    if let Some(rest) = text.strip_prefix('`') {
        let (code, after) = rest.split_once('`')?;
        return Some((html! { code { (code) } }, after));
    }
    if let Some(rest) = text.strip_prefix("**") {
        let (strong, after) = rest.split_once("**")?;
        return Some((html! { strong { (inline(strong)) } }, after));
    }
    let (name, rest) = text.strip_prefix('[')?.split_once("](")?;
    let (target, after) = rest.split_once(')')?;
    Some((link(name, target), after))
}

/// Another reason is a page of the console; other pages of the documentation are named by their path.
fn link(name: &str, target: &str) -> Markup {
    let word = target.strip_suffix(".md").filter(|word| Reason::find(word).is_some());
    html! {
        @if let Some(word) = word {
            a href=(urls::reason(word)) { (inline(name)) }
        } @else if target.starts_with("https://") {
            a href=(target) rel="noreferrer" { (inline(name)) }
        } @else {
            (inline(name)) " (" code { "docs" (target.strip_prefix("..").unwrap_or(target)) } ")"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(text: &str) -> String {
        render(text).into_string()
    }

    #[test]
    fn what_the_pages_of_reasons_use_is_rendered_and_escaped() {
        assert_eq!(
            html("# A `b`\n\nc <d>\ne\n"),
            "<h1>A <code>b</code></h1><p>c &lt;d&gt; e</p>"
        );
        assert_eq!(html("- a\n  b\n- c"), "<ul><li>a b</li><li>c</li></ul>");
        assert_eq!(
            html("[x](SinkFailing.md)"),
            "<p><a href=\"/ui/reasons/SinkFailing\">x</a></p>"
        );
        assert_eq!(html("[x](../a.md) [y"), "<p>x (<code>docs/a.md</code>) [y</p>");
        let table = html("| a | b |\n|--|--|\n| c | **d** |");
        assert!(
            table.contains("<th>a</th>") && table.contains("<td><strong>d</strong></td>"),
            "{table}"
        );
        assert!(html("```sh\na > b\n```\n").contains("<code>a &gt; b</code>"));
    }

    #[test]
    fn every_page_is_rendered_without_a_mark_left_over() {
        for reason in Reason::ALL {
            let page = html(reason.page());
            assert!(page.starts_with(&format!("<h1>{reason}</h1>")), "{page}");
            assert!(!page.contains("](") && !page.contains("```"), "{reason}: {page}");
        }
    }
}
