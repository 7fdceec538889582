//! Metrics as text, in the format a scraper asks for: OpenMetrics 1.0, or the Prometheus text format 0.0.4.
//!
//! The registry writes OpenMetrics. The other format is made of that: the same samples, with what describes them said in its
//! way. It has no units and no end mark; a counter's family has the name of its samples (`_total`), and so has an info's.
//! Exemplars would have to be left out, but no metric here has any.

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    /// Returns the format that an `Accept` header prefers; OpenMetrics where it has no preference.
    pub(crate) fn preferred(accept: Option<&str>) -> Self {
        let ranges = accept.unwrap_or_default().split(',');
        let (mut open, mut plain) = (0.0, 0.0);
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| {
                let (name, value) = part.split_once('=')?;
                let value = name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse());
                value?.ok()
            });
            let weight: f64 = weight.unwrap_or(1.0);
            match &*media {
                "application/openmetrics-text" => open = f64::max(open, weight),
                "text/plain" | "text/*" => plain = f64::max(plain, weight),
                _ => {}
            }
        }
        if plain > open {
            Self::Prometheus
        } else {
            Self::OpenMetrics
        }
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The registry's text in this format.
    pub(crate) fn of(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Prometheus => prometheus(&openmetrics),
        }
    }
}

fn prometheus(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    // Written when the type is known, which the name depends on.
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "gaugehistogram" => ("", "histogram"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, text)) = help.take().filter(|(named, _)| *named == name) {
                // Only OpenMetrics escapes quotes here.
                let text = text.replace("\\\"", "\"");
                out.push_str(&format!("# HELP {name}{suffix} {text}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
        registry::{Registry, Unit},
    };

    use super::*;

    #[test]
    fn a_scraper_gets_what_it_prefers() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            (None, Format::OpenMetrics),
            (Some("*/*"), Format::OpenMetrics),
            (Some(prometheus_2), Format::OpenMetrics),
            (Some("text/plain;version=0.0.4"), Format::Prometheus),
            (
                Some("Text/Plain ; Version=0.0.4 ; Q=0.3, */*;q=0.1"),
                Format::Prometheus,
            ),
            (
                Some("text/plain;q=0.8, application/openmetrics-text;q=0.2"),
                Format::Prometheus,
            ),
            (Some("text/plain, application/openmetrics-text"), Format::OpenMetrics),
            (Some("text/plain;q=0"), Format::OpenMetrics),
            (Some("text/html,application/xml;q=0.9,*/*;q=0.8"), Format::OpenMetrics),
            (Some("application/json"), Format::OpenMetrics),
        ] {
            assert_eq!(Format::preferred(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn the_prometheus_format_names_counters_as_their_samples_and_has_no_units_and_no_end() {
        let mut registry = Registry::default();
        let requests = Family::<[(&str, &str); 1], Counter>::default();
        requests.get_or_create(&[("path", "# EOF \"quoted\"")]).inc();
        registry.register("requests", "Requests \"so far\"", requests);
        let bytes: Gauge = Gauge::default();
        registry.register_with_unit("size", "Size", Unit::Bytes, bytes);
        let seconds = Histogram::new([0.1]);
        seconds.observe(0.5);
        registry.register("took_seconds", "Duration", seconds);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        let expected = r##"# HELP requests_total Requests "so far".
# TYPE requests_total counter
requests_total{path="# EOF \"quoted\""} 1
# HELP size_bytes Size.
# TYPE size_bytes gauge
size_bytes 0
# HELP took_seconds Duration.
# TYPE took_seconds histogram
took_seconds_sum 0.5
took_seconds_count 1
took_seconds_bucket{le="0.1"} 0
took_seconds_bucket{le="+Inf"} 1
"##;
        assert_eq!(prometheus(&text), expected, "{text}");
    }
}
