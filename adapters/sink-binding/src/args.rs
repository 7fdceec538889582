//! The sink among an image's arguments (SOURCES.md, v0.2): whatever stands there as `--sink` is replaced, and where nothing
//! does it is appended.

const FLAG: &str = "--sink";

/// `args` with the sink's URL: as `--sink=URL`, or as `--sink URL` where it was written so.
pub fn with_sink(args: &[String], sink: &str) -> Vec<String> {
    let mut filled = Vec::with_capacity(args.len() + 1);
    let mut found = false;
    let mut rest = args.iter().peekable();
    while let Some(argument) = rest.next() {
        if argument == FLAG {
            found = true;
            filled.extend([FLAG.to_owned(), sink.to_owned()]);
            // A flag that follows is no value of this one: then the value is missing, and comes in between.
            let _ = rest.next_if(|value| !value.starts_with('-'));
        } else if argument.strip_prefix(FLAG).is_some_and(|rest| rest.starts_with('=')) {
            found = true;
            filled.push(format!("{FLAG}={sink}"));
        } else {
            filled.push(argument.clone());
        }
    }
    if !found {
        filled.push(format!("{FLAG}={sink}"));
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sink_is_filled_in_wherever_it_stands_and_appended_where_it_does_not() {
        let cases: &[(&[&str], &[&str])] = &[
            (&[], &["--sink=U"]),
            (&["--period=1"], &["--period=1", "--sink=U"]),
            (&["--sink=http://old", "--period=1"], &["--sink=U", "--period=1"]),
            (&["--sink="], &["--sink=U"]),
            (&["--sink", "http://old", "last"], &["--sink", "U", "last"]),
            (&["--sink"], &["--sink", "U"]),
            (&["--sink", "--verbose"], &["--sink", "U", "--verbose"]),
            (&["--sink=a", "--sink=b"], &["--sink=U", "--sink=U"]),
            (
                &["--sinks=a", "run", "sink=b"],
                &["--sinks=a", "run", "sink=b", "--sink=U"],
            ),
        ];
        for (args, expected) in cases {
            let args: Vec<String> = args.iter().map(|argument| (*argument).to_owned()).collect();
            assert_eq!(with_sink(&args, "U"), *expected, "{args:?}");
        }
    }
}
