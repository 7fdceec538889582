//! Durations as documents write them: ISO 8601, `PT0.2S`, `PT1M`, `P1D`.

use std::time::Duration;

use jiff::{SignedDuration, fmt::temporal::SpanParser};

/// The longest duration a document may say: ten years is beyond any retention, and far from where clocks overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

const FORM: &str = "expected an ISO 8601 duration such as PT0.2S, PT1M or P1D";

/// The same form for the CRDs, in two patterns that have to match: the second says that something must be there.
pub(crate) const PATTERNS: [(&str, &str); 2] = [
    (
        r"^P(\d+W)?(\d+D)?(T(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?|T(\d+H)?\d+[.,]\d+M|T\d+[.,]\d+H)?$",
        FORM,
    ),
    (r"\d[WDHMS]$", FORM),
];

/// Reads an ISO 8601 duration. The error says what is wrong and which form is expected.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') {
        return Err(format!("a duration cannot be negative: {FORM}"));
    }
    // The parser takes lower case as well, which the pattern of the CRD does not.
    if !text.starts_with('P') || text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(FORM.to_owned());
    }
    let span = SpanParser::new().parse_span(text).map_err(|_| FORM.to_owned())?;
    if span.get_years() != 0 || span.get_months() != 0 {
        return Err(format!("years and months have no fixed length, say days: {FORM}"));
    }
    let days = i64::from(span.get_weeks()) * 7 + i64::from(span.get_days());
    let clock = span.weeks(0).days(0);
    let clock = SignedDuration::try_from(clock).map_err(|_| FORM.to_owned())?;
    let whole = SignedDuration::from_secs(days.saturating_mul(86_400)).checked_add(clock);
    let length = whole
        .and_then(|length| Duration::try_from(length).ok())
        .filter(|length| *length <= LONGEST);
    length.ok_or_else(|| "longer than ten years (P3650D), the longest duration there is here".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_documents_are_read() {
        for (text, millis) in [
            ("PT0.2S", 200),
            ("PT1M", 60_000),
            ("PT5M", 300_000),
            ("PT30S", 30_000),
            ("PT24H", 86_400_000),
            ("P1D", 86_400_000),
            ("P1W", 604_800_000),
            ("P1DT1H", 90_000_000),
            ("PT1H30M", 5_400_000),
            ("PT0S", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn others_are_refused_with_the_form_that_is_expected() {
        for text in ["30s", "", "P", "PT", "5", "pt5s", "PT5s", "1 minute", "PT5S ", "P1DT"] {
            assert!(
                parse(text).is_err_and(|message| message.contains("such as PT0.2S")),
                "{text}"
            );
        }
        assert!(parse("-PT5S").is_err_and(|message| message.contains("negative")));
        assert!(parse("P1M").is_err_and(|message| message.contains("days")));
        assert!(parse("P9999D").is_err_and(|message| message.contains("ten years")));
        assert!(parse("PT999999999999999H").is_err());
    }
}
