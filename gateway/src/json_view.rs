//! JSON as a person reads it: indented, each value exactly as it was written.
//!
//! A parser that keeps numbers as floats shows others than were sent, and gives up on what is nested too deep. This only moves
//! white space.

/// Deeper than this nothing is indented: a thousand brackets would make a thousand lines of a thousand spaces.
const DEPTH_MAX: usize = 32;

/// Indents valid JSON by two spaces a level.
pub(crate) fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth: usize = 0;
    let (mut in_string, mut is_escaped) = (false, false);
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            (in_string, is_escaped) = (c != '"' || is_escaped, c == '\\' && !is_escaped);
            continue;
        }
        match c {
            ' ' | '\t' | '\n' | '\r' => {}
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    begin_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                let was = depth;
                depth = depth.saturating_sub(1);
                if was <= DEPTH_MAX {
                    begin_line(&mut out, depth);
                }
                out.push(c);
            }
            ',' => {
                out.push(c);
                begin_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => out.push(c),
        }
    }
    out
}

fn begin_line(out: &mut String, depth: usize) {
    if depth <= DEPTH_MAX {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn it_is_indented_as_serde_json_does() {
        for json in [
            r#"{"a":1,"b":[1,2,{"c":[]}],"d":{},"e":"x\"}{,: \\"}"#,
            "[]",
            "null",
            r#" [ [ ] , { "a" : [ true ] } ] "#,
        ] {
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(pretty(json), format!("{value:#}"));
        }
    }

    #[test]
    fn values_stay_as_they_were_written() {
        let json = r#"{"z":1.50,"a":12345678901234567890123,"e":1e999,"s":"\ud800\u0041"}"#;
        assert_eq!(
            pretty(json).replace(['\n', ' '], ""),
            json,
            "order, digits and escapes are kept"
        );
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(pretty(&deep).len() < 300_000);
    }
}
