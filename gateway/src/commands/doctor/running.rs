//! A running gateway: its readiness, the conditions of its objects, its disk, and what is open to others.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use url::Url;

use super::{Finding, Status, disk};
use crate::{Failure, api, client::Gateway};

/// The `Date` of an answer has whole seconds, and the answer takes time.
const SKEW_MAX: SignedDuration = SignedDuration::from_secs(5);

/// The average of all syncs since the start of the gateway, milliseconds; see `disk`.
const SLOW_SYNC_MS: f64 = 20.0;

/// A certificate that is renewed by itself is renewed earlier: after two thirds of its 90 days, at 30.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(21 * 24);

/// The remedy of a certificate that ends.
const RENEW: &str = "renew it and replace the files; the gateway takes new files within ten seconds, without a restart";

pub(super) async fn check(gateway: &Gateway) -> Result<Vec<Finding>, Failure> {
    let answer = gateway.get_text("/api/v1/info", &[]).await?;
    let info: api::Info = serde_json::from_str(&answer.text)
        .map_err(|error| Failure::Wrong(format!("the answer is not that of a gateway's admin API: {error}")))?;
    let date = answer
        .headers
        .get(http::header::DATE)
        .and_then(|date| date.to_str().ok());
    let objects: Value = gateway.get("/api/v1/objects", &[("kind", "all")]).await?;
    let metrics = gateway.get_text("/metrics", &[]).await?.text;
    let mut all = vec![version(&info), clock(date, Timestamp::now())];
    all.extend(findings(&info, &objects, &metrics));
    Ok(all)
}

/// The findings that a gateway's own answers lead to.
pub(super) fn findings(info: &api::Info, objects: &Value, metrics: &str) -> Vec<Finding> {
    let mut findings = vec![exposure(&info.ingress, &open_channels(objects))];
    findings.extend(readiness(info));
    findings.extend(info.tls.iter().map(|found| certificate(found, Timestamp::now())));
    for object in objects["items"].as_array().into_iter().flatten() {
        findings.extend(conditions(object));
        findings.extend(dead_letters(object));
    }
    findings.push(sync(&info.data, metrics));
    let value = |name| sample(metrics, name).next().map(|(_, value)| value);
    if let (Some(free), Some(total)) = (value("headgate_data_free_bytes"), value("headgate_data_disk_bytes")) {
        findings.push(space(&format!("data folder {}", info.data), bytes(free), bytes(total)));
    }
    findings
}

/// Metrics are floating-point numbers; sizes of disks are whole and positive.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a size of a disk"
)]
fn bytes(value: f64) -> u64 {
    value as u64
}

fn version(info: &api::Info) -> Finding {
    let ours = env!("CARGO_PKG_VERSION");
    let object = "gateway";
    if info.version == ours {
        return Finding::ok("version", object, format!("version {ours}, ingress {}", info.ingress));
    }
    let message = format!("it is version {}, this command {ours}", info.version);
    Finding::new(
        "version",
        object,
        Status::Warning,
        message,
        "use the command of the gateway's version",
    )
}

/// Compares the gateway's clock with this machine's.
fn clock(date: Option<&str>, now: Timestamp) -> Finding {
    let object = "gateway";
    let theirs = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let Some(theirs) = theirs else {
        return Finding::new("clock", object, Status::Skipped, "its answer has no date", "");
    };
    let skew = now.duration_since(theirs.timestamp());
    if skew.abs() <= SKEW_MAX {
        return Finding::ok("clock", object, "its clock and this machine's agree");
    }
    let message = format!("its clock differs from this machine's by {} s", skew.as_secs());
    let fix = "synchronize the clocks of both machines (NTP): times of events, replays and tokens depend on them";
    Finding::new("clock", object, Status::Warning, message, fix)
}

/// The channels that every client which reaches the ingress may publish to.
fn open_channels(objects: &Value) -> Vec<String> {
    let channels = objects["items"].as_array().into_iter().flatten();
    let channels = channels.filter(|object| object["kind"] == "Channel");
    let open = channels.filter(|channel| channel["spec"].get("publishers").is_none());
    open.map(name).collect()
}

/// Whether senders on other machines may publish without a credential.
fn exposure(ingress: &str, open: &[String]) -> Finding {
    let host = Url::parse(ingress).ok();
    let host = host.as_ref().and_then(Url::host_str).unwrap_or_default();
    if connect::is_this_machine(host) {
        return Finding::ok(
            "exposure",
            "ingress",
            format!("{ingress} is reached from this machine alone"),
        );
    }
    let Some(first) = open.first() else {
        let message = format!("{ingress} takes events of publishers alone: every channel names its own");
        return Finding::ok("exposure", "ingress", message);
    };
    let others = match open.len() - 1 {
        0 => String::new(),
        others => format!(" and {others} others"),
    };
    let message = format!("{ingress} takes events for {first}{others} from every client that reaches it");
    let fix = "name the channels' publishers (docs/guides/publishers.md), or listen on loopback behind a proxy that passes /hooks/ alone";
    Finding::new("exposure", "ingress", Status::Warning, message, fix)
}

/// The certificate of a listener: whether it can be replaced, and how long it is valid.
fn certificate(found: &api::Certificate, now: Timestamp) -> Finding {
    let (check, object) = ("certificate", format!("{} {}", found.listener, found.file));
    let Some(expires) = found.not_after else {
        return Finding::new(
            check,
            object,
            Status::Skipped,
            "the gateway does not say when it expires",
            "",
        );
    };
    let days = expires.duration_since(now).as_hours() / 24;
    if expires <= now {
        let message = format!("it expired at {expires}, and clients refuse it");
        return Finding::new(check, object, Status::Failed, message, RENEW);
    }
    if let Some(trouble) = &found.trouble {
        let message =
            format!("the old one stays in force until {expires}, because the new files cannot be used: {trouble}");
        let fix = "correct the files; the gateway takes them within ten seconds";
        return Finding::new(check, object, Status::Failed, message, fix);
    }
    if expires.duration_since(now) <= EXPIRES_SOON {
        let message = format!("it expires in {days} days, at {expires}");
        return Finding::new(check, object, Status::Warning, message, RENEW);
    }
    Finding::ok(check, object, format!("valid for {days} days, until {expires}"))
}

fn readiness(info: &api::Info) -> Vec<Finding> {
    if info.ready && info.degraded.is_empty() {
        return vec![Finding::ok("readiness", "gateway", "ready")];
    }
    let finding = |status, reason: &String| {
        Finding::new(
            "readiness",
            "gateway",
            status,
            reason,
            "see its log and the objects named",
        )
    };
    let reasons = info.reasons.iter().map(|reason| finding(Status::Failed, reason));
    let degraded = info.degraded.iter().map(|reason| finding(Status::Warning, reason));
    reasons.chain(degraded).collect()
}

/// A finding for each condition that is not True; one for the object if all are.
fn conditions(object: &Value) -> Vec<Finding> {
    let name = name(object);
    let conditions = object["status"]["conditions"].as_array();
    let unmet = |condition: &&Value| condition["status"] != "True";
    let (ready, others): (Vec<_>, Vec<_>) = conditions
        .into_iter()
        .flatten()
        .filter(unmet)
        .partition(|condition| condition["type"] == "Ready");
    // `Ready` says again what the others say.
    let shown = if others.is_empty() { ready } else { others };
    if shown.is_empty() {
        let durability = object["status"]["durability"].as_str();
        let message = durability.map_or_else(
            || "all conditions are met".to_owned(),
            |durability| format!("all conditions are met; durability {durability}"),
        );
        return vec![Finding::ok("conditions", name, message)];
    }
    let finding = |condition: &Value| {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        let is_error = text("severity").is_empty() || text("severity") == "Error";
        let status = if condition["status"] == "False" && is_error {
            Status::Failed
        } else {
            Status::Warning
        };
        let message = format!("{} is {}: {}", text("type"), text("status"), text("message"));
        Finding::new("conditions", &*name, status, message, fix(text("reason")))
    };
    shown.into_iter().map(finding).collect()
}

fn fix(reason: &str) -> String {
    format!("the message says what to do; more in docs/reasons/{reason}.md")
}

fn dead_letters(object: &Value) -> Option<Finding> {
    let count = object["status"]["deadLetters"].as_u64().filter(|count| *count > 0)?;
    let message = format!("{count} events could not be delivered");
    let fix = "`headgate dead list` says why; `headgate dead redrive SUBSCRIPTION` delivers them again";
    Some(Finding::new(
        "dead letters",
        name(object),
        Status::Warning,
        message,
        fix,
    ))
}

/// `channel default/orders`; objects of the cluster have no namespace.
fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]).to_lowercase(), text(&object["metadata"]["name"]));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// The average sync of all logs.
fn sync(data: &str, metrics: &str) -> Finding {
    let object = format!("data folder {data}");
    let total = |name: &str| sample(metrics, name).map(|(_, value)| value).sum::<f64>();
    let count = total("headgate_log_sync_seconds_count");
    if count < 1.0 {
        return Finding::new("disk sync", object, Status::Skipped, "nothing was synced yet", "");
    }
    let average = total("headgate_log_sync_seconds_sum") / count * 1e3;
    let message = format!("a sync takes {average:.1} ms on average, of {count} since the start");
    if average <= SLOW_SYNC_MS {
        return Finding::ok("disk sync", object, message);
    }
    let fix =
        "publishers of embedded channels wait for it with each batch: use a local disk, not a network file system";
    Finding::new("disk sync", object, Status::Warning, message, fix)
}

/// Free space of the data folder's disk.
pub(super) fn space(object: &str, free: u64, total: u64) -> Finding {
    const GIB: f64 = (1_u64 << 30) as f64;
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let message = format!("{:.1} GiB of {:.1} GiB are free", free as f64 / GIB, total as f64 / GIB);
    if disk::is_little(free, total) {
        let fix =
            "make room, or limit what channels keep (arguments.retention): events are refused when the disk is full";
        Finding::new("disk space", object, Status::Warning, message, fix)
    } else {
        Finding::ok("disk space", object, message)
    }
}

/// The samples of one metric in the text of a scrape: labels and value.
fn sample<'a>(metrics: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    metrics.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        // Values stand last; a label may hold a space.
        let (labels, value) = rest.rsplit_once(' ')?;
        let is_this = labels.is_empty() || labels.starts_with('{');
        Some((labels, value.parse().ok()?)).filter(|_| is_this)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn object(conditions: &Value) -> Value {
        json!({ "kind": "Channel", "metadata": { "namespace": "shop", "name": "orders" }, "status": { "conditions": conditions, "durability": "disk" } })
    }

    #[test]
    fn a_condition_that_is_not_met_is_a_finding_and_ready_only_where_it_is_alone() {
        let met = conditions(&object(&json!([{ "type": "Ready", "status": "True" }])));
        assert_eq!((met[0].status, &*met[0].object), (Status::Ok, "channel shop/orders"));
        assert!(met[0].message.contains("durability disk"));
        let ready = json!({ "type": "Ready", "status": "False", "reason": "SlowDisk", "message": "slow" });
        let warned = json!({ "type": "Fast", "status": "False", "severity": "Warning", "reason": "SlowDisk", "message": "slow" });
        let unknown = json!({ "type": "Open", "status": "Unknown", "reason": "Connecting", "message": "wait" });
        let statuses = |list: &Value| {
            conditions(&object(list))
                .iter()
                .map(|found| found.status)
                .collect::<Vec<_>>()
        };
        assert_eq!(statuses(&json!([ready])), [Status::Failed]);
        assert_eq!(statuses(&json!([ready, warned])), [Status::Warning]);
        assert_eq!(statuses(&json!([unknown])), [Status::Warning]);
        let found = conditions(&object(&json!([ready])));
        assert_eq!(
            found[0].fix,
            "the message says what to do; more in docs/reasons/SlowDisk.md"
        );
    }

    #[test]
    fn clocks_may_differ_by_five_seconds() {
        let now: Timestamp = "2026-12-01T12:00:00Z".parse().unwrap();
        let status = |date| clock(date, now).status;
        assert_eq!(status(Some("Tue, 01 Dec 2026 11:59:56 GMT")), Status::Ok);
        assert_eq!(status(Some("Tue, 01 Dec 2026 11:59:50 GMT")), Status::Warning);
        assert_eq!(status(Some("Tue, 01 Dec 2026 12:00:30 GMT")), Status::Warning);
        assert_eq!(status(None), Status::Skipped);
    }

    #[test]
    fn a_certificate_is_doubtful_three_weeks_before_its_end_and_wrong_after_it() {
        let now: Timestamp = "2026-12-01T12:00:00Z".parse().unwrap();
        let finding = |expires: &str, trouble: Option<&str>| {
            let found = api::Certificate {
                file: "tls.crt".to_owned(),
                listener: "ingress".to_owned(),
                not_after: Some(expires.parse().unwrap()),
                trouble: trouble.map(str::to_owned),
            };
            certificate(&found, now)
        };
        assert_eq!(finding("2026-12-23T12:00:00Z", None).status, Status::Ok);
        let soon = finding("2026-12-22T11:59:59Z", None);
        assert_eq!(soon.status, Status::Warning);
        assert!(soon.message.contains("in 20 days"), "{}", soon.message);
        assert_eq!(finding("2026-12-01T12:00:00Z", None).status, Status::Failed);
        let stuck = finding("2027-12-01T12:00:00Z", Some("no PEM"));
        assert_eq!(stuck.status, Status::Failed);
        assert!(stuck.message.ends_with("no PEM"), "{}", stuck.message);
    }

    #[test]
    fn syncs_of_all_logs_count() {
        let metrics = "# HELP x\nheadgate_log_sync_seconds_sum{name=\"a b\"} 0.5\nheadgate_log_sync_seconds_sum{name=\"c\"} 0.5\n\
             headgate_log_sync_seconds_count{name=\"a b\"} 5\nheadgate_log_sync_seconds_count{name=\"c\"} 5\n\
             headgate_log_sync_seconds_counter 9\n";
        let slow = sync("data", metrics);
        assert_eq!(slow.status, Status::Warning);
        assert!(
            slow.message.contains("100.0 ms") && slow.message.contains("of 10 "),
            "{}",
            slow.message
        );
        assert_eq!(sync("data", "").status, Status::Skipped);
    }

    #[test]
    fn an_ingress_that_others_reach_is_a_warning() {
        let channel = |spec: Value| json!({ "kind": "Channel", "metadata": { "namespace": "shop", "name": "orders" }, "spec": spec });
        let open = |specs: &[Value]| {
            let items: Vec<_> = specs.iter().map(|spec| channel(spec.clone())).collect();
            open_channels(&json!({ "items": items }))
        };
        let guarded = json!({ "publishers": [{ "name": "shop" }] });
        let unguarded = open(&[json!({}), guarded.clone(), json!({})]);
        assert_eq!(exposure("http://127.0.0.1:8080", &unguarded).status, Status::Ok);
        assert_eq!(exposure("http://[::1]:8080", &unguarded).status, Status::Ok);
        let found = exposure("http://0.0.0.0:8080", &unguarded);
        assert_eq!(found.status, Status::Warning);
        assert!(
            found.message.contains("channel shop/orders and 1 others"),
            "{}",
            found.message
        );
        assert_eq!(exposure("http://0.0.0.0:8080", &open(&[guarded])).status, Status::Ok);
    }
}
