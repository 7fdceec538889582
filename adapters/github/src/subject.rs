//! The `subject` of a GitHub event: what the event is about. The table is documented in docs/reference/sources/github.md.

use serde_json::value::RawValue;

use crate::json;

/// A member of the payload, and the member of that which names it; empty when it is named by itself.
type Path = (&'static str, &'static str);

/// The first path that leads to a text or a number counts.
fn paths(event: &str) -> &'static [Path] {
    match event {
        "push" | "create" | "delete" | "workflow_dispatch" => &[("ref", "")],
        "release" => &[("release", "tag_name")],
        "status" => &[("sha", "")],
        "commit_comment" => &[("comment", "commit_id")],
        "check_run" => &[("check_run", "head_sha")],
        "check_suite" => &[("check_suite", "head_sha")],
        "merge_group" => &[("merge_group", "head_sha")],
        "page_build" => &[("build", "commit")],
        "workflow_run" => &[("workflow_run", "id")],
        "workflow_job" => &[("workflow_job", "id")],
        "deployment" | "deployment_status" | "deployment_protection_rule" => &[("deployment", "id")],
        "branch_protection_rule" => &[("rule", "name")],
        "label" => &[("label", "name")],
        "milestone" => &[("milestone", "number")],
        "fork" => &[("forkee", "full_name")],
        "member" => &[("member", "login")],
        "membership" | "team" | "team_add" => &[("team", "slug")],
        "package" => &[("package", "name")],
        "registry_package" => &[("registry_package", "name")],
        "security_advisory" => &[("security_advisory", "ghsa_id")],
        // Issues, pull requests, their comments and reviews, discussions, alerts, and what GitHub may invent beside them.
        _ => &[
            ("pull_request", "number"),
            ("issue", "number"),
            ("discussion", "number"),
            ("alert", "number"),
            ("number", ""),
        ],
    }
}

/// The payload's members that [`subject`] wants to see for this event.
pub(crate) fn members(event: &str) -> impl Iterator<Item = &'static str> {
    let kind_of_ref = matches!(event, "create" | "delete").then_some("ref_type");
    paths(event).iter().map(|(member, _)| *member).chain(kind_of_ref)
}

/// `found` are the payload's values of [`members`], in their order.
pub(crate) fn subject(event: &str, found: &[Option<&RawValue>]) -> Option<String> {
    let mut named = paths(event)
        .iter()
        .zip(found)
        .filter_map(|((_, inner), value)| match (*value, *inner) {
            (Some(value), "") => json::text(value),
            (Some(value), inner) => json::members(value.get(), &[inner])?
                .first()
                .copied()
                .flatten()
                .and_then(json::text),
            (None, _) => None,
        });
    let name = named.next()?;
    // A push says `refs/heads/main`; of a created or deleted branch only the name is said.
    let kind_of_ref = found.get(paths(event).len()).copied().flatten().and_then(json::text);
    Some(match kind_of_ref.as_deref() {
        Some("branch") => format!("refs/heads/{name}"),
        Some("tag") => format!("refs/tags/{name}"),
        _ => name,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn about(event: &str, payload: &str) -> Option<String> {
        let names: Vec<_> = members(event).collect();
        subject(event, &json::members(payload, &names).unwrap())
    }

    #[test]
    fn the_subject_is_what_the_event_is_about() {
        let cases = [
            ("push", r#"{"ref":"refs/heads/main"}"#, Some("refs/heads/main")),
            ("create", r#"{"ref":"v1","ref_type":"tag"}"#, Some("refs/tags/v1")),
            ("delete", r#"{"ref":"a/b","ref_type":"branch"}"#, Some("refs/heads/a/b")),
            // A new repository has no reference.
            ("create", r#"{"ref":null,"ref_type":"repository"}"#, None),
            ("release", r#"{"release":{"tag_name":"v2","id":1}}"#, Some("v2")),
            ("status", r#"{"sha":"abc"}"#, Some("abc")),
            ("commit_comment", r#"{"comment":{"commit_id":"fed"}}"#, Some("fed")),
            ("check_run", r#"{"check_run":{"head_sha":"def"}}"#, Some("def")),
            ("workflow_run", r#"{"workflow_run":{"id":99}}"#, Some("99")),
            ("deployment_status", r#"{"deployment":{"id":12}}"#, Some("12")),
            (
                "issues",
                r#"{"issue":{"number":3},"milestone":{"number":9}}"#,
                Some("3"),
            ),
            (
                "issue_comment",
                r#"{"issue":{"number":4},"comment":{"id":1}}"#,
                Some("4"),
            ),
            ("pull_request", r#"{"number":5,"pull_request":{"number":5}}"#, Some("5")),
            ("pull_request_review", r#"{"pull_request":{"number":6}}"#, Some("6")),
            ("discussion_comment", r#"{"discussion":{"number":8}}"#, Some("8")),
            ("dependabot_alert", r#"{"alert":{"number":2}}"#, Some("2")),
            ("invented_tomorrow", r#"{"issue":{"number":1}}"#, Some("1")),
            ("star", r#"{"action":"created"}"#, None),
            ("issues", r#"{"issue":"not an object"}"#, None),
            ("issues", r#"{"issue":{"number":{"deep":1}},"number":7}"#, Some("7")),
        ];
        for (event, payload, subject) in cases {
            assert_eq!(about(event, payload).as_deref(), subject, "{event} {payload}");
        }
    }
}
