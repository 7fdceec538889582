//! The lines of a secret: it has one token or key a line, so that the old and the new one are both good during a rotation.

use spec::{Cause, Reason, model::SecretText};

/// A rotation needs two lines. Each request is compared with every line.
const LINES_MAX: usize = 64;

/// The lines that are not empty, without space around them. `what` is a line's content, in a word.
///
/// # Errors
/// There is no such line, or there are too many.
pub(super) fn lines<'a>(secret: &'a SecretText, what: &str) -> Result<Vec<&'a [u8]>, Cause> {
    let lines = secret.expose().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    match lines.len() {
        0 => Err(unusable(format!("its secret holds no {what}: write one a line"))),
        1..=LINES_MAX => Ok(lines),
        count => Err(unusable(format!(
            "its secret holds {count} lines, and {LINES_MAX} are the most: remove old ones"
        ))),
    }
}

pub(super) fn unusable(message: String) -> Cause {
    Cause::new(Reason::CredentialsInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: PU-2
    #[test]
    fn a_secret_has_one_token_a_line() {
        let read = |text: &str| {
            let secret = SecretText::new(text.as_bytes());
            let found = lines(&secret, "token").map(|lines| lines.iter().map(|line| line.to_vec()).collect::<Vec<_>>());
            found.map_err(|cause| cause.message)
        };
        assert_eq!(read("one"), Ok(vec![b"one".to_vec()]));
        assert_eq!(read("new\r\n\n old \n"), Ok(vec![b"new".to_vec(), b"old".to_vec()]));
        assert_eq!(
            read("\n \n"),
            Err("its secret holds no token: write one a line".to_owned())
        );
        let many = "x\n".repeat(65);
        assert!(read(&many).is_err_and(|why| why.starts_with("its secret holds 65 lines")));
    }
}
