//! Who may see and change what in the console: rights, sessions, and forms of other sites.

use e2e::Request;

use super::{form, form_token, page, shop};

/// Proves: OP-3
#[tokio::test]
async fn a_change_needs_the_right_a_form_of_ours_and_no_get() {
    let (gateway, _good, _bad) = shop(&["--admin-token", "operate-it"]).await;
    let pause = "/ui/subscriptions/default/audit/pause";
    // Reading is open on loopback.
    let login = page(&gateway, "/ui/login").await.is(200);
    let anonymous = form_token(&login);
    page(&gateway, pause).await.is(405);
    let refused = form(&gateway, pause, &[("form", &anonymous)])
        .send(gateway.admin())
        .await
        .is(401);
    assert!(refused.text().contains("Unauthorized"), "{refused}");
    let wrong = form(&gateway, "/ui/login", &[("form", &anonymous), ("token", "operate-i")]);
    assert!(wrong.send(gateway.admin()).await.is(401).header("set-cookie").is_none());

    let right = [("form", &*anonymous), ("token", "operate-it"), ("next", "/ui/health")];
    let session = form(&gateway, "/ui/login", &right).send(gateway.admin()).await.is(303);
    assert_eq!(session.header("location"), Some("/ui/health"));
    let cookie = session.header("set-cookie").expect("a session").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains("operate-it"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    let read = Request::new("GET", "/ui/subscriptions/default/audit").header("cookie", &cookie);
    let ours = form_token(&read.send(gateway.admin()).await.is(200));
    assert_ne!(ours, anonymous, "a form belongs to its session");

    let with = |request: Request| request.header("cookie", &cookie);
    let change = || with(form(&gateway, pause, &[("form", &ours)]));
    for (forged, status) in [
        (with(form(&gateway, pause, &[])), 403),
        (with(form(&gateway, pause, &[("form", &anonymous)])), 403),
        (
            change()
                .header("origin", "http://evil.example")
                .without("sec-fetch-site"),
            403,
        ),
        (change().header("origin", "null").without("sec-fetch-site"), 403),
        (change().header("sec-fetch-site", "cross-site"), 403),
        (change().without("origin").without("sec-fetch-site"), 403),
        (change().header("content-type", "text/plain"), 415),
        (change().header("host", "evil.example"), 421),
    ] {
        let answer = forged.send(gateway.admin()).await;
        assert_eq!(answer.status, status, "{forged:?}: {answer}");
    }
    assert!(
        !gateway.log().contains("changed over the admin API"),
        "nothing was changed"
    );
    change().send(gateway.admin()).await.is(303);
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("changed over the admin API"));
    assert!(
        line.is_some_and(|line| line.contains("pause") && line.contains("default/audit") && line.contains("operate")),
        "{log}"
    );
    // The session is no token of the API, and ends with its cookie.
    let api = with(
        Request::post("/api/v1/subscriptions/default/audit/resume")
            .header("content-type", "application/json")
            .body("{}"),
    );
    api.send(gateway.admin()).await.is(401);
    let out = with(form(&gateway, "/ui/logout", &[("form", &ours)]))
        .send(gateway.admin())
        .await
        .is(303);
    assert!(
        out.header("set-cookie")
            .is_some_and(|cookie| cookie.contains("Max-Age=0")),
        "{out}"
    );
}

/// Proves: OP-3
#[tokio::test]
async fn with_a_read_token_pages_ask_for_it_and_it_changes_nothing() {
    let (gateway, _good, _bad) = shop(&["--admin-token", "operate-it", "--admin-read-token", "read-it"]).await;
    let asked = page(&gateway, "/ui/channels/default/orders?type=a").await.is(303);
    assert_eq!(
        asked.header("location"),
        Some("/ui/login?next=%2Fui%2Fchannels%2Fdefault%2Forders%3Ftype%3Da")
    );
    page(&gateway, "/ui/live").await.is(303);
    page(&gateway, "/ui/style.css").await.is(200);
    // A link in another site's page sends no cookie along: the page is asked for again by a page of ours.
    let deep = Request::new("GET", "/ui/health").header("sec-fetch-site", "cross-site");
    let deep = deep.send(gateway.admin()).await.is(200).text();
    assert!(deep.contains("0; url=/ui/health") && !deep.contains("disk"), "{deep}");
    let token = form_token(&page(&gateway, "/ui/login").await);
    let https = form(
        &gateway,
        "/ui/login",
        &[("form", &token), ("token", "read-it"), ("next", "//evil.example")],
    );
    let https = https.header("origin", format!("https://{}", gateway.admin()));
    let session = https.send(gateway.admin()).await.is(303);
    assert_eq!(session.header("location"), Some("/"));
    let cookie = session.header("set-cookie").unwrap_or_default().to_owned();
    assert!(cookie.ends_with("; Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    let read = Request::new("GET", "/ui/subscriptions/default/audit").header("cookie", &cookie);
    let read = read.send(gateway.admin()).await.is(200);
    assert!(read.text().contains("Changes need the operate token"), "{read}");
    let pause = form(
        &gateway,
        "/ui/subscriptions/default/audit/pause",
        &[("form", &form_token(&read))],
    );
    let refused = pause.header("cookie", &cookie).send(gateway.admin()).await.is(403);
    assert!(refused.text().contains("ReadOnlyToken"), "{refused}");
}
