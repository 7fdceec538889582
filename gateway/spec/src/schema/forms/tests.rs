//! Text of every form, taken and refused.

use super::*;

#[test]
fn each_form_takes_what_it_names_and_nothing_else() {
    let table: [(Form, &[&str], &[&str]); 10] = [
        (
            Form::ApiUrl,
            &[
                "https://ghe.example/api/v3",
                "http://127.0.0.1:9/api/v3",
                "http://localhost",
                "http://[::1]:1/",
            ],
            &[
                "http://ghe.example/api/v3",
                "http://127.0.0.1.ghe.example/",
                "http://localhost.ghe.example/",
                "http://10.0.0.1/",
                "h2c://127.0.0.1/",
                "ghe.example",
            ],
        ),
        (
            Form::Name,
            &["orders", "a.b-c", "9"],
            &["Orders", "-a", "a-", "a..b", "", "a_b", "a/b"],
        ),
        (Form::Label, &["default", "team-1"], &["a.b", "A", ""]),
        (
            Form::HttpUrl,
            &["http://h", "https://h:1/p?q", "h2c://h:1/p"],
            &["ftp://h/", "h:80", "/p", "", "http://", "http:///p", "http:h"],
        ),
        (
            Form::OwnerAndRepository,
            &["org", "org/repo", "a-b/c.d_e"],
            &["", "a/b/c", "/b", "a/", "a b"],
        ),
        (
            Form::Attribute,
            &["type", "partitionkey", "x1"],
            &["Type", "a-b", "", "a.b"],
        ),
        (
            Form::Timestamp,
            &["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+02:00"],
            &["2026-01-31", "now", "2026-01-31T12:00:00"],
        ),
        (Form::PositiveDuration, &["PT1S"], &["PT0S", "1s"]),
        (Form::OneOf(&["none", "key"]), &["key"], &["Key", ""]),
        (Form::Filled, &["x"], &["", "  "]),
    ];
    for (form, taken, refused) in table {
        for text in taken {
            assert_eq!(form.check(text), Ok(()), "{form:?} {text}");
        }
        for text in refused {
            assert!(form.check(text).is_err(), "{form:?} {text}");
        }
    }
    assert!(Form::Name.check(&"a".repeat(254)).is_err() && Form::Label.check(&"a".repeat(64)).is_err());
}

#[test]
fn a_size_is_bytes_or_a_whole_quantity() {
    assert_eq!(
        (quantity("10"), quantity("512Mi"), quantity("1G")),
        (Ok(10), Ok(512 << 20), Ok(1_000_000_000))
    );
    for text in ["", "Mi", "1.5Gi", "-1", "99999999999Ti", "1 Gi"] {
        assert!(quantity(text).is_err(), "{text}");
    }
}

#[test]
fn an_url_that_is_refused_is_not_repeated() {
    assert!(http_url("ftp://user:hunter2@host/").is_err_and(|message| !message.contains("hunter2")));
}
