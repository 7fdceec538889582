//! Changes in the console: dead letters delivered again and dropped, replays, and documents that are only checked.

use e2e::{Response, documents::channel};

use super::{encoded, form, form_token, page, shop, until};

/// Proves: CH-7, OP-3
#[tokio::test]
async fn dead_letters_are_redriven_with_progress_and_dropped_when_typed() {
    let (gateway, _good, bad) = shop(&[]).await;
    gateway.accept("orders", (0..5).map(|n| format!("order-{n}"))).await;
    let groups = until(&gateway, "/ui/deadletters", "data-label=\"Count\">5<")
        .await
        .text();
    assert_eq!(groups.matches("data-label=\"Reason\"").count(), 1, "{groups}");
    let one = "subscription=default%2Fbroken&id=order-3";
    let confirm = page(&gateway, &format!("/ui/deadletters/redrive?{one}")).await.is(200);
    assert!(confirm.text().contains("Deliver 1 dead letter again"), "{confirm}");
    bad.always(Response::status(204));
    let token = form_token(&confirm);
    let fields = [
        ("form", &*token),
        ("subscription", "default/broken"),
        ("id", "order-3"),
        ("rate", "100"),
    ];
    let wrong = form(
        &gateway,
        "/ui/deadletters/redrive",
        &[("form", &*token), ("subscription", "default/broken"), ("rate", "-1")],
    );
    wrong.send(gateway.admin()).await.is(400);
    let started = form(&gateway, "/ui/deadletters/redrive", &fields)
        .send(gateway.admin())
        .await
        .is(303);
    let job = started.header("location").unwrap_or_default().to_owned();
    let done = until(&gateway, &job, "Done").await.text();
    assert!(
        done.contains("headgate dead redrive default/broken order-3 --rate 100") && done.contains("1 event"),
        "{done}"
    );

    let drop = |typed: &str| {
        let fields = [
            ("form", &*token),
            ("subscription", "default/broken"),
            ("confirmed", typed),
        ];
        form(&gateway, "/ui/deadletters/drop", &fields)
    };
    let refused = drop("drop 5").send(gateway.admin()).await.is(409);
    assert!(refused.text().contains("nothing was dropped"), "{refused}");
    let dropped = drop("drop 4").send(gateway.admin()).await.is(303);
    assert_eq!(dropped.header("location"), Some("/ui/deadletters?dropped=4"));
    until(&gateway, "/ui/deadletters?dropped=4", "No dead letters").await;
    gateway.cli(&["explain", "order-1"]).await.exits(0);
}

/// Proves: CH-7
#[tokio::test]
async fn past_events_are_counted_replayed_and_searched() {
    let (gateway, good, _bad) = shop(&[]).await;
    gateway.accept("orders", (0..60).map(|n| format!("order-{n}"))).await;
    good.wait_for(60).await;
    let newest = until(&gateway, "/ui/channels/default/orders", "order-59").await.text();
    assert!(
        !newest.contains(">order-3<") && newest.contains("rel=\"next\""),
        "{newest}"
    );
    let older = newest
        .split("href=\"")
        .filter_map(|rest| rest.split('"').next())
        .find(|link| link.contains("before="));
    let older = page(&gateway, &older.expect("a link to older events").replace("&amp;", "&"))
        .await
        .text();
    assert!(older.contains(">order-3<") && !older.contains(">order-59<"), "{older}");
    let path = format!(
        "/ui/channels/default/orders?filter={}",
        encoded("id LIKE '%7' AND EXISTS subject")
    );
    let searched = page(&gateway, &path).await.is(200).text();
    assert!(
        searched.contains("0 matched") && searched.contains("left out"),
        "{searched}"
    );
    let path = format!("/ui/channels/default/orders?filter={}", encoded("id LIKE '%7'"));
    assert!(page(&gateway, &path).await.text().contains("6 matched"));
    let path = format!("/ui/channels/default/orders?filter={}", encoded("id LIKE "));
    assert!(page(&gateway, &path).await.is(200).text().contains("role=\"alert\""));

    let counted = page(&gateway, "/ui/subscriptions/default/audit/replay?from=10&to=19")
        .await
        .is(200);
    assert!(
        counted.text().contains("10 events would be delivered again"),
        "{counted}"
    );
    let token = form_token(&counted);
    let fields = [("form", &*token), ("from", "10"), ("to", "19"), ("rate", "1000")];
    let started = form(&gateway, "/ui/subscriptions/default/audit/replay", &fields);
    let started = started.send(gateway.admin()).await.is(303);
    until(&gateway, started.header("location").unwrap_or_default(), "Done").await;
    good.wait_for(70).await;
    // One that has no end is stopped.
    let slow = [("form", &*token), ("from", "earliest"), ("rate", "0.01")];
    let started = form(&gateway, "/ui/subscriptions/default/audit/replay", &slow)
        .send(gateway.admin())
        .await
        .is(303);
    let job = started.header("location").unwrap_or_default().to_owned();
    form(&gateway, &format!("{job}/stop"), &[("form", &token)])
        .send(gateway.admin())
        .await
        .is(303);
    until(&gateway, &job, "Stopped").await;
}

/// Proves: OP-3
#[tokio::test]
async fn pasted_documents_are_validated_and_nothing_is_kept() {
    let (gateway, _good, _bad) = shop(&[]).await;
    let token = form_token(&page(&gateway, "/ui/documents").await.is(200));
    let check = |text: &str| form(&gateway, "/ui/documents/validate", &[("form", &token), ("text", text)]);
    let wrong =
        "apiVersion: eventing.knative.dev/v1alpha1\nkind: Subscription\nmetadata: { name: s }\nspec: { chanel: {} }\n";
    let wrong = check(wrong).send(gateway.admin()).await.is(200).text();
    assert!(
        wrong.contains("Invalid") && wrong.contains("pasted.yaml:4") && wrong.contains("chanel"),
        "{wrong}"
    );
    assert!(!wrong.contains("headgate-console-"), "{wrong}");
    let right = channel("pasted", "memory").to_string();
    assert!(
        check(&right)
            .send(gateway.admin())
            .await
            .is(200)
            .text()
            .contains("1 valid document")
    );
    page(&gateway, "/ui/channels/default/pasted").await.is(404);
}
