//! Requests that are let pass and refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

const LOOPBACK: &str = "127.0.0.1:8081";
const ELSEWHERE: &str = "0.0.0.0:8081";

fn access(address: &str, operate: Option<&str>, read: Option<&str>) -> Access {
    let flags = args::Access {
        admin_read_token: read.map(str::to_owned),
        admin_read_token_file: None,
        admin_host: vec!["headgate.example".to_owned()],
    };
    let operate = Secret::of(operate.map(str::to_owned), None);
    let service = Some("headgate.system.svc.cluster.local");
    Access::new(
        address.parse().unwrap(),
        operate,
        &flags,
        service,
        &mut Registry::default(),
    )
}

fn headers(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !token.is_empty() {
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    }
    headers
}

/// 200 where it is allowed.
fn status(access: &Access, intent: Intent, token: &str) -> u16 {
    let checked = access.check(intent, &headers(token), LOOPBACK.parse().unwrap());
    checked.map_or_else(|refusal| refusal.status.as_u16(), |_token| 200)
}

#[test]
fn who_may_read_and_change_depends_on_listener_and_tokens() {
    let (op, rd) = (Some("op"), Some("rd"));
    // Statuses of: read with no, the read, the operate, a wrong token; the same of a change.
    for (address, operate, read, reads, changes) in [
        (LOOPBACK, None, None, [200, 200, 200, 200], [200, 200, 200, 200]),
        (LOOPBACK, op, None, [200, 200, 200, 200], [401, 401, 200, 401]),
        (LOOPBACK, None, rd, [401, 200, 401, 401], [401, 200, 401, 401]),
        (LOOPBACK, op, rd, [401, 200, 200, 401], [401, 403, 200, 401]),
        (ELSEWHERE, None, None, [403, 403, 403, 403], [403, 403, 403, 403]),
        (ELSEWHERE, op, None, [401, 401, 200, 401], [401, 401, 200, 401]),
        (ELSEWHERE, None, rd, [401, 200, 401, 401], [403, 403, 403, 403]),
        (ELSEWHERE, op, rd, [401, 200, 200, 401], [401, 403, 200, 401]),
    ] {
        let access = access(address, operate, read);
        let all = |intent| ["", "rd", "op", "wrong"].map(|token| status(&access, intent, token));
        let what = format!("{address} {operate:?} {read:?}");
        assert_eq!(all(Intent::Read), reads, "read: {what}");
        assert_eq!(all(Intent::Change), changes, "change: {what}");
    }
}

#[test]
fn only_hosts_of_this_listener_are_served() {
    let access = access(LOOPBACK, None, None);
    let status = |host: &str| {
        let request = Request::builder().header("host", host).body(()).unwrap();
        access
            .check_host(&request)
            .map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    };
    for host in [
        "localhost",
        "LOCALHOST:8081",
        "localhost.",
        "127.0.0.1:8081",
        "192.0.2.7",
        "[::1]:8081",
        "headgate",
        "headgate.system:8081",
        "headgate.system.svc",
        "headgate.system.svc.cluster.local",
        "Headgate.Example",
    ] {
        assert_eq!(status(host), 200, "{host}");
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "headgate.evil.example",
        "headgate.system.svc.evil.example",
        "127.1",
        "",
    ] {
        assert_eq!(status(host), 421, "{host}");
    }
    assert_eq!(status("localhost@evil.example"), 400);
    let absolute = Request::get("http://evil.example/")
        .header("host", "localhost")
        .body(());
    let refusal = access.check_host(&absolute.unwrap()).unwrap_err();
    assert_eq!(refusal.status, StatusCode::MISDIRECTED_REQUEST);
}

#[test]
fn a_token_file_is_read_again_and_nobody_has_a_missing_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let secret = Secret::of(Some("text".into()), Some(path.clone()));
    let access = Access::new(
        LOOPBACK.parse().unwrap(),
        secret,
        &args::Access::default(),
        None,
        &mut Registry::default(),
    );
    assert_eq!(status(&access, Intent::Change, "text"), 401);
    std::fs::write(&path, "one\n").unwrap();
    assert_eq!(status(&access, Intent::Change, "one"), 200);
    std::fs::write(&path, "two").unwrap();
    assert_eq!(
        ["one", "two"].map(|token| status(&access, Intent::Change, token)),
        [401, 200]
    );
    std::fs::write(&path, "\n").unwrap();
    assert_eq!(
        ["", "two"].map(|token| status(&access, Intent::Change, token)),
        [401, 401]
    );
}

#[test]
fn a_pods_name_has_the_spellings_of_its_service() {
    assert_eq!(
        spellings("headgate-0.headgate-pods.system.svc.cluster.local"),
        [
            "headgate-0.headgate-pods",
            "headgate-0.headgate-pods.system",
            "headgate-0.headgate-pods.system.svc",
            "headgate-0.headgate-pods.system.svc.cluster.local"
        ]
    );
    assert_eq!(spellings("Admin.example:8081"), ["admin.example"]);
}
