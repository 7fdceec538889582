//! Errors in the words of conditions and log lines.

use std::error::Error;

/// An error and its causes in one line, without what a cause repeats: libraries disagree whether an error says its cause itself.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{reported}")]
    struct Layer {
        reported: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn each_cause_is_said_once() {
        let layers = |reported: &[&'static str]| {
            let layer =
                |source: Option<Box<Layer>>, reported: &&'static str| Some(Box::new(Layer { reported, source }));
            reported.iter().rev().fold(None, layer).map(|outer| chain(&*outer))
        };
        let cases = [
            (vec!["no answer"], "no answer"),
            (
                vec!["no answer", "cannot connect", "refused"],
                "no answer: cannot connect: refused",
            ),
            (vec!["no answer: refused", "refused"], "no answer: refused"),
            (
                vec!["no answer", "cannot connect: refused", "refused"],
                "no answer: cannot connect: refused",
            ),
        ];
        for (reported, expected) in cases {
            assert_eq!(layers(&reported).as_deref(), Some(expected));
        }
    }
}
