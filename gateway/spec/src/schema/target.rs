//! Targets in all their spellings (API.md 2.1): named once, in a form that can be resolved.

use super::{
    Form,
    forms::{HTTP_URL, RELATIVE_URL},
    rules::{Rule, Test, any, given, not, rule},
};
use crate::{Kind, nearest::suggestion, tree::Node};

/// The groups of Kubernetes that our kinds belong to.
pub(crate) const EVENTING: &str = "eventing.knative.dev/v1alpha1";
pub(crate) const SOURCES: &str = "sources.eventing.knative.dev/v1alpha1";
/// How every apiVersion of these groups begins.
const EVENTING_GROUP: &str = "eventing.knative.dev/";
const SOURCES_GROUP: &str = "sources.eventing.knative.dev/";

/// The fields of a reference; some of them, directly in a target, mean one.
const REFERENCE: [&str; 3] = ["apiVersion", "kind", "name"];

/// Rules of a target; `reply` may have `channel` as well.
pub(crate) fn rules(reply: bool) -> Vec<Rule> {
    let mut beside_dns_name = vec!["apiVersion", "kind", "name", "ref", "uri"];
    let mut rules = Vec::new();
    if reply {
        let all = ["apiVersion", "kind", "name", "ref", "uri", "dnsName", "channel"];
        rules.push(rule(any(&all), "", "names no target: use channel, ref, uri or dnsName"));
        let beside_channel = any(&["apiVersion", "kind", "name", "ref", "uri", "dnsName"]);
        rules.push(Rule {
            more: Some(|node| beside(node, "channel")),
            ..rule(
                given(Test::Has("channel"), not(beside_channel)),
                "channel",
                "`channel` stands alone",
            )
        });
        beside_dns_name.push("channel");
    } else {
        let all = ["apiVersion", "kind", "name", "ref", "uri", "dnsName"];
        rules.push(rule(any(&all), "", "names no target: use ref, uri or dnsName"));
    }
    rules.extend([
        Rule {
            more: Some(|node| beside(node, "dnsName")),
            ..rule(
                given(Test::Has("dnsName"), not(any(&beside_dns_name))),
                "dnsName",
                "`dnsName` stands alone",
            )
        },
        rule(
            given(Test::Has("ref"), not(any(&REFERENCE))),
            "",
            "names an object twice: directly and under `ref`",
        ),
        whole(
            "apiVersion",
            "`apiVersion` is required: a reference is apiVersion, kind and name",
        ),
        whole("kind", "`kind` is required: a reference is apiVersion, kind and name"),
        whole("name", "`name` is required: a reference is apiVersion, kind and name"),
    ]);
    rules.extend(uri());
    rules.extend(referable());
    rules.extend(by_http(reply));
    rules
}

/// Rules of `uri`.
fn uri() -> [Rule; 3] {
    [
        Rule {
            more: Some(|node| wrong_form(node, Form::HttpUrl)),
            ..rule(
                given(
                    Test::Has("uri"),
                    Test::Any(vec![any(&["ref", "name"]), Test::Fits("uri", Form::HttpUrl)]),
                ),
                "uri",
                HTTP_URL,
            )
        },
        Rule {
            more: Some(|node| wrong_form(node, Form::RelativeUrl)),
            ..rule(
                given(
                    Test::All(vec![Test::Has("uri"), any(&["ref", "name"])]),
                    Test::Fits("uri", Form::RelativeUrl),
                ),
                "uri",
                RELATIVE_URL,
            )
        },
        rule(
            given(
                Test::Has("uri"),
                not(Test::Any(vec![
                    our_channel("kind", "apiVersion"),
                    our_channel("ref.kind", "ref.apiVersion"),
                ])),
            ),
            "uri",
            "a channel is one address: `uri` beside it can only be a mistake",
        ),
    ]
}

/// Rules of the fields that say how a destination is reached by HTTP.
fn by_http(reply: bool) -> [Rule; 2] {
    let mut channel = vec![
        our_channel("kind", "apiVersion"),
        our_channel("ref.kind", "ref.apiVersion"),
    ];
    if reply {
        channel.push(Test::Has("channel"));
    }
    let plain = Test::Any(vec![
        Test::StartsWith("uri", "http://"),
        Test::StartsWith("uri", "h2c://"),
        Test::All(vec![Test::Has("dnsName"), not(Test::StartsWith("dnsName", "https://"))]),
    ]);
    [
        rule(
            given(any(&["headers", "auth", "tls", "sign"]), not(Test::Any(channel))),
            "",
            "a channel is not reached by HTTP: `headers`, `auth`, `tls` and `sign` are for other destinations",
        ),
        rule(
            given(Test::Has("tls"), not(plain)),
            "tls",
            "`tls` needs an https URL: without TLS it would be ignored",
        ),
    ]
}

/// Checks that a reference to one of our own groups names a Channel, the only kind of theirs that takes events.
pub(crate) fn referable() -> Vec<Rule> {
    let ours = || {
        Test::Any(vec![
            Test::StartsWith("apiVersion", EVENTING_GROUP),
            Test::StartsWith("apiVersion", SOURCES_GROUP),
        ])
    };
    vec![
        Rule {
            more: Some(meant),
            ..rule(
                given(ours(), Test::Is("kind", &["Channel"])),
                "kind",
                "of Headgate's own kinds only a Channel takes events",
            )
        },
        rule(
            given(
                Test::All(vec![ours(), Test::Is("kind", &["Channel"])]),
                Test::Is("apiVersion", &[EVENTING]),
            ),
            "apiVersion",
            "a Channel's apiVersion is `eventing.knative.dev/v1alpha1`",
        ),
    ]
}

fn our_channel(kind: &'static str, api_version: &'static str) -> Test {
    Test::All(vec![Test::Is(kind, &["Channel"]), Test::Is(api_version, &[EVENTING])])
}

/// A reference that stands directly in a target has all its parts.
fn whole(part: &'static str, words: &'static str) -> Rule {
    rule(given(any(&REFERENCE), Test::Has(part)), "", words)
}

fn beside(node: &Node, alone: &str) -> Option<String> {
    let direct = REFERENCE.iter().any(|name| node.get(name).is_some());
    let direct = direct.then_some("apiVersion, kind, name");
    let others = ["ref", "uri", "dnsName", "channel"];
    let others = others
        .into_iter()
        .filter(|name| *name != alone && node.get(name).is_some());
    let others: Vec<String> = direct
        .into_iter()
        .chain(others)
        .map(|name| format!("`{name}`"))
        .collect();
    let others = others.join(" and ");
    Some(format!("`{alone}` stands alone, here it is together with {others}"))
}

fn wrong_form(node: &Node, form: Form) -> Option<String> {
    form.check(node.get("uri")?.text()?).err()
}

fn meant(node: &Node) -> Option<String> {
    let kind = node.get("kind")?.text()?;
    let ours = Kind::ALL.into_iter().filter(|kind| kind.is_ours()).map(Kind::as_str);
    let is_ours = ours.clone().any(|known| known == kind);
    let meant = if is_ours { String::new() } else { suggestion(kind, ours) };
    Some(format!(
        "`{kind}`: of Headgate's own kinds only a Channel takes events{meant}"
    ))
}
