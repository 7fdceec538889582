//! The address at which an object accepts events: a Service by its DNS name, an Addressable by its status. Pure.

use serde_json::Value;
use spec::{Cause, ObjectName, Reason};
use url::Url;

/// Returns the URL of a Service: its name in the cluster's DNS, with the port named `http`, or else its first port.
pub(crate) fn of_service(name: &ObjectName, service: &Value, domain: &str) -> Result<Url, Cause> {
    let ports = service["spec"]["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let named = ports.iter().find(|port| port["name"] == "http").or(ports.first());
    let port = named.and_then(|port| port["port"].as_u64()).filter(|port| *port != 80);
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let ObjectName { namespace, name } = name;
    url(&format!("http://{name}.{namespace}.svc.{domain}{port}/"))
}

/// Returns the URL of an Addressable: `status.address.url`, else `status.address.hostname`, else the first of
/// `status.addresses`.
pub(crate) fn of_status(object: &Value) -> Result<Url, Cause> {
    let status = &object["status"];
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(found) = text(&status["address"]["url"]) {
        return url(&found);
    }
    if let Some(host) = text(&status["address"]["hostname"]) {
        return url(&format!("http://{host}/"));
    }
    match text(&status["addresses"][0]["url"]) {
        Some(found) => url(&found),
        None => Err(Cause {
            reason: Reason::EmptyHostname,
            message:
                "it has no address in its status (address.url, address.hostname or addresses[0].url): check whether it is \
                      ready"
                    .to_owned(),
        }),
    }
}

fn url(text: &str) -> Result<Url, Cause> {
    let invalid = |what: &str| Cause {
        reason: Reason::InvalidTarget,
        message: format!("its address is {what}: expected an absolute http or https URL"),
    };
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        Ok(url) => Err(invalid(&format!("of the scheme {}", url.scheme()))),
        Err(error) => Err(invalid(&format!("no URL ({error})"))),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_is_reached_by_its_name_on_its_named_or_first_port() {
        let name = ObjectName::new("shop", "cart");
        let of = |ports: Value| {
            let service = json!({ "spec": { "ports": ports } });
            of_service(&name, &service, "cluster.local").unwrap().to_string()
        };
        assert_eq!(of(json!([{ "port": 80 }])), "http://cart.shop.svc.cluster.local/");
        assert_eq!(
            of(json!([{ "port": 8080 }])),
            "http://cart.shop.svc.cluster.local:8080/"
        );
        let named = json!([{ "name": "metrics", "port": 9090 }, { "name": "http", "port": 80 }]);
        assert_eq!(of(named), "http://cart.shop.svc.cluster.local/");
        assert_eq!(of(json!(null)), "http://cart.shop.svc.cluster.local/");
    }

    #[test]
    fn an_addressable_is_where_its_status_says_in_this_order() {
        let of = |status: Value| of_status(&json!({ "status": status })).map(String::from);
        let all =
            json!({ "address": { "url": "http://a/in", "hostname": "b" }, "addresses": [{ "url": "http://c/" }] });
        assert_eq!(of(all).unwrap(), "http://a/in");
        let two = json!({ "address": { "hostname": "b" }, "addresses": [{ "url": "http://c/" }] });
        assert_eq!(of(two).unwrap(), "http://b/");
        let last = json!({ "address": { "hostname": "" }, "addresses": [{ "url": "https://c/" }] });
        assert_eq!(of(last).unwrap(), "https://c/");
        for (status, reason) in [
            (json!({}), "emptyHostname"),
            (json!({ "address": { "url": "ftp://a/" } }), "InvalidTarget"),
            (json!({ "address": { "url": "a b" } }), "InvalidTarget"),
        ] {
            assert_eq!(of(status).unwrap_err().reason, reason);
        }
    }
}
