//! `Link`: where the next page is (RFC 8288, as GitHub writes it).

use http::{HeaderMap, header::LINK};
use url::Url;

/// The query of the next page. Its host and path are ours to choose: a token goes to no other (CONTRACT SR-6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor(String);

impl Cursor {
    pub(super) fn next(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        let links = values.flat_map(|value| value.split(','));
        let next = links.filter_map(|link| {
            let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            let is_next = parameters
                .split(';')
                .map(str::trim)
                .any(|parameter| matches!(parameter, "rel=\"next\"" | "rel=next"));
            is_next.then_some(target)
        });
        let query = next.filter_map(|target| target.split_once('?')).map(|(_, query)| query);
        query.map(|query| Self(query.to_owned())).next()
    }

    pub(super) fn apply(&self, url: &mut Url) {
        url.set_query(Some(&self.0));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn next(link: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, link.parse().unwrap());
        Cursor::next(&headers).map(|cursor| cursor.0)
    }

    #[test]
    fn only_the_next_page_counts_and_only_its_query() {
        let documented = r#"<https://api.github.com/repositories/1/hooks?per_page=100&page=2>; rel="next", <https://api.github.com/repositories/1/hooks?page=3>; rel="last""#;
        assert_eq!(next(documented).as_deref(), Some("per_page=100&page=2"));
        assert_eq!(
            next(r#"<https://x/?page=1>; rel="prev", <https://elsewhere/?cursor=v1_1>; rel="next""#).as_deref(),
            Some("cursor=v1_1")
        );
        for none in [
            r#"<https://x/?page=1>; rel="prev""#,
            "",
            "nonsense",
            r#"<https://x/>; rel="next""#,
        ] {
            assert_eq!(next(none), None, "{none}");
        }
        assert_eq!(Cursor::next(&HeaderMap::new()), None);
    }
}
