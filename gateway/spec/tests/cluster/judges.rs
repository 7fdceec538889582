//! Two judges, one verdict: what `validate` refuses the API server refuses, in the same words.

use super::{cluster, documents, faults, whole};

const REFUSED: &str = include_str!("refused.yaml");

/// One table, two judges: neither takes what the other refuses, and both say why in the same words.
#[tokio::test]
async fn what_validate_refuses_the_api_server_refuses_in_the_same_words() {
    let Some(cluster) = cluster().await else { return };
    let mut wrong = Vec::new();
    for case in documents(REFUSED) {
        let document = whole(case);
        let found = faults(&document);
        let [fault] = found.as_slice() else {
            wrong.push(format!("{case}\n  validate: {found:?}"));
            continue;
        };
        if !fault.message.contains(words(case, "file")) {
            wrong.push(format!("{case}\n  validate: {}", fault.what()));
        }
        let answer = cluster
            .try_kubectl(&["create", "--dry-run=server", "-f", "-"], &document)
            .await;
        let Err(answer) = answer else {
            wrong.push(format!("{case}\n  the API server takes it"));
            continue;
        };
        // It knows no place for what an object's name is, nor for one key among many.
        let above = fault.path.rsplit_once('.').map_or("", |(above, _)| above);
        let above = if above == "metadata" { "" } else { above };
        if !answer.contains(words(case, "server")) || !answer.contains(above) {
            wrong.push(format!(
                "{case}\n  validate: {}\n  the API server: {answer}",
                fault.what()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The verdict of a judge on a case.
fn words<'a>(case: &'a str, judge: &str) -> &'a str {
    let answer = case.lines().filter_map(|line| line.strip_prefix("# "));
    let own = answer
        .clone()
        .find_map(|line| line.strip_prefix(judge)?.strip_prefix(": "));
    own.or_else(|| answer.clone().next()).unwrap()
}

/// The forms of texts are checked by code here and by patterns there: these are where the two could part.
#[tokio::test]
async fn a_text_is_of_its_form_for_both_judges_or_for_none() {
    let Some(cluster) = cluster().await else { return };
    let subscription = |body: &str| {
        format!("kind: Subscription\nspec: {{ channel: {{ name: c }}, subscriber: {{ uri: 'http://h/' }}, {body} }}")
    };
    let subscriber =
        |body: &str| format!("kind: Subscription\nspec: {{ channel: {{ name: c }}, subscriber: {{ {body} }} }}");
    let github = |repository: &str, key: &str| {
        format!(
            "kind: GitHubSource\nspec: {{ ownerAndRepository: {repository}, secretToken: {{ secretKeyRef: {{ name: g, key: {key} }} }}, sink: {{ uri: 'http://h/' }} }}"
        )
    };
    let long = "a".repeat(254);
    let table: [(String, &[&str]); 9] = [
        (
            subscription("delivery: { timeout: TEXT }"),
            &[
                "PT1S",
                "PT0.2S",
                "PT0,2S",
                "P1D",
                "P1W2D",
                "PT1H30M",
                "P1DT12H",
                "PT1.5M",
                "PT0.5H",
                "PT0S",
                "PT0.0S",
                "P",
                "PT",
                "P1DT",
                "P1Y",
                "P1M",
                "pt1s",
                "1s",
                "",
                "PT1.5H30M",
                "PT-1S",
                "-PT1S",
                "P1D ",
            ],
        ),
        (
            subscriber("uri: TEXT"),
            &[
                "http://h",
                "HTTP://h/",
                "h2c://h:1",
                "https://h/a?b=c#d",
                "http://[::1]:80/",
                "http://u:p@h/",
                "http:h",
                "http:///p",
                "http://",
                "http://:80/",
                "ws://h/",
                " http://h/",
                "http://h/a b",
                "h:80",
                "",
            ],
        ),
        (
            subscriber("uri: TEXT, ref: { apiVersion: v1, kind: Service, name: x }"),
            &[
                "/a",
                "a",
                "?x=1",
                "#f",
                "/a:b",
                "a/b:c",
                "a:b",
                "http://h/",
                "https://h",
                "ftp://h/",
                "mailto:a@b",
                "",
            ],
        ),
        (
            subscriber("dnsName: TEXT"),
            &[
                "h",
                "h.example",
                "h:80",
                "[::1]",
                "[::1]:80",
                "::1",
                "http://h/x",
                "HTTPS://h",
                "h/x",
                "h?x",
                "u@h",
                "a b",
                "ftp://h/",
                ":80",
                "",
            ],
        ),
        (
            "kind: Subscription\nspec: { channel: { name: TEXT }, subscriber: { uri: 'http://h/' } }".to_owned(),
            &[
                "a",
                "a.b-c",
                "9",
                "A",
                "a..b",
                "-a",
                "a-",
                ".a",
                "a_b",
                "",
                &long[1..],
                &long,
            ],
        ),
        (
            github("TEXT", "k"),
            &["o", "o/r", "a-b/c.d_e", "o/", "/r", "a/b/c", "a b", ""],
        ),
        (
            github("o/r", "TEXT"),
            &["a", ".a", "a..b", "a-_.B9", ".", "..", "..a", "a/b", "a b", ""],
        ),
        (
            "kind: KubernetesEventSource\nspec: { namespace: TEXT, allNamespaces: true, sink: { uri: 'http://h/' } }"
                .to_owned(),
            &["", "a", "a-b", "a.b", "A", "-", &long[..63], &long[..64]],
        ),
        (
            "kind: GcpPubSubSource\nspec: { googleCloudProject: p, topic: TEXT, sink: { uri: 'http://h/' } }"
                .to_owned(),
            &["abc", "ab", "", &long],
        ),
    ];
    let mut wrong = Vec::new();
    for (template, texts) in table {
        let verdicts: Vec<bool> = texts
            .iter()
            .map(|text| faults(&written(&template, text)).is_empty())
            .collect();
        assert!(
            verdicts.contains(&true) && verdicts.contains(&false),
            "{template}: {verdicts:?}"
        );
        for (text, taken) in texts.iter().zip(verdicts) {
            let document = written(&template, text);
            let answer = cluster
                .try_kubectl(&["create", "--dry-run=server", "-f", "-"], &document)
                .await;
            if answer.is_ok() != taken {
                wrong.push(format!(
                    "{template}\n  {text:?}: validate takes it: {taken}; the API server: {answer:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A case with a text in it, in quotes.
fn written(template: &str, text: &str) -> String {
    whole(&template.replace("TEXT", &format!("{text:?}")))
}
