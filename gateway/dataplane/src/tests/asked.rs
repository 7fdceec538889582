//! A process asks the others about an unknown path before it answers 404.

use url::Url;

use super::*;
use crate::{
    journey::sink::{HttpSink, SendOptions},
    server::{AdminAddress, Listeners, Serving, serve},
};

const OPTIONS: SendOptions = SendOptions {
    format: model::Format::Binary,
    timeout: Duration::from_secs(30),
    max_reply_bytes: 0,
};

/// Serves a plane's ingress; its base URL.
async fn served(plane: &Plane) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, further) = Listeners::beside(address, false);
    let (plane, never) = (plane.clone(), CancellationToken::new());
    let serving = Serving {
        connections_max: 64,
        admin: AdminAddress {
            address,
            has_tls: false,
        },
        tls: None,
        grace: Duration::ZERO,
    };
    tokio::spawn(serve(listener, further, plane, serving, never));
    format!("http://{address}")
}

/// The status, and whether it says when to come again.
async fn posted(base: &str, path: &str) -> (u16, bool) {
    let sink = HttpSink::new(
        &Url::parse(&format!("{base}/{path}")).unwrap(),
        crate::journey::sink::Peer::Replica,
        1,
    )
    .unwrap();
    let answer = sink.send(&event("1"), OPTIONS).await.unwrap();
    (answer.status, answer.retry_after.is_some())
}

fn asks(plane: &Plane, others: &[Option<&str>]) {
    let others = others.iter().map(|other| other.map(Arc::from)).collect();
    plane.publish_others(HashMap::new(), others);
}

const COME_AGAIN: (u16, bool) = (503, true);

/// Proves: IN-3
#[tokio::test]
async fn what_only_another_process_has_heard_of_is_passed_on_to_it_and_what_nobody_has_is_404() {
    let (leader, first) = (World::new(&["a"], vec![]).await, World::new(&["b"], vec![]).await);
    let behind = World::new(&["c"], vec![]).await;
    for (world, of) in [(&leader, "a"), (&first, "b")] {
        let keeper = channel::CursorName::new("keeper");
        let kept = world.channel(of).subscribe(&keeper, None, channel::Start::Latest).await;
        drop(kept.unwrap());
    }
    let (leads, has_disk) = (served(&leader.plane).await, served(&first.plane).await);
    let at = served(&behind.plane).await;
    assert_eq!(posted(&at, "default/a").await, (404, false), "alone, its word counts");
    asks(&behind.plane, &[Some(&leads), Some(&has_disk)]);
    for (path, expected) in [
        ("default/a", (202, false)),
        ("default/b", (202, false)),
        ("default/c", (202, false)),
        ("default/nobody", (404, false)),
        ("hooks/default/nobody", (404, false)),
        ("sources/default/nobody", (404, false)),
    ] {
        assert_eq!(posted(&at, path).await, expected, "{path}");
    }
    assert_eq!(
        (leader.ids("a").await, first.ids("b").await),
        (vec!["1".into()], vec!["1".into()])
    );
    // Two that do not know do not ask each other in turn.
    asks(&leader.plane, &[Some(&at)]);
    assert_eq!(posted(&at, "default/nobody").await, (404, false));
    asks(&behind.plane, &[None, Some(&has_disk)]);
    assert_eq!(
        posted(&at, "default/nobody").await,
        COME_AGAIN,
        "who leads is not known"
    );
    // One that lost its turn and does not know whose it is does not say 404 either.
    asks(&leader.plane, &[None]);
    asks(&behind.plane, &[Some(&leads)]);
    assert_eq!(posted(&at, "default/nobody").await, COME_AGAIN);
    asks(&behind.plane, &[Some("http://127.0.0.1:1"), Some(&has_disk)]);
    assert_eq!(
        posted(&at, "default/b").await,
        (202, false),
        "one that is away is not needed for this"
    );
    assert_eq!(posted(&at, "default/nobody").await, COME_AGAIN);
}

/// Proves: IN-3
#[tokio::test]
async fn before_the_documents_are_read_nothing_is_404() {
    let settings = Settings {
        max_body_bytes: 1 << 20,
        max_hops: MAX_HOPS,
        ingress_url: "http://127.0.0.1:8080".into(),
        state_dir: None,
        is_exposed: false,
        remote: None,
    };
    let starting = Plane::new(settings, Arc::new(Scripted::default()), &mut Registry::default()).unwrap();
    assert_eq!(posted(&served(&starting).await, "default/a").await, COME_AGAIN);
}
