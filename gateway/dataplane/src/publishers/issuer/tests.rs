#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::publishers::testing::{ISSUER, Scripted, TestKey};

async fn find(issuer: &Issuer, id: &str) -> Result<usize, NoKey> {
    let found = issuer.keys(Some(id), Algorithm::Es256).await;
    found.map(|keys| keys.len())
}

/// Proves: PU-2
#[tokio::test(start_paused = true)]
async fn a_new_key_is_good_at_once_and_unknown_keys_are_asked_for_once_in_ten_seconds() {
    let (old, new) = (TestKey::p256("old"), TestKey::p256("new"));
    let script = Scripted::with(&[&old]);
    let issuer = script.issuers().get(ISSUER);
    assert_eq!(find(&issuer, "old").await, Ok(1));
    script.has(&[&old, &new]);
    assert_eq!(find(&issuer, "new").await, Ok(1));
    assert_eq!(
        find(&issuer, "old").await,
        Ok(1),
        "the old one is good while its issuer has it"
    );
    assert_eq!(*script.readings.lock(), 2);
    for _ in 0..100 {
        assert_eq!(find(&issuer, "forged").await, Err(NoKey::Unknown));
    }
    assert_eq!(*script.readings.lock(), 2);
    tokio::time::advance(UNKNOWN_KEY_PAUSE).await;
    assert_eq!(find(&issuer, "forged").await, Err(NoKey::Unknown));
    assert_eq!(*script.readings.lock(), 3);
}

/// Proves: PU-2
#[tokio::test(start_paused = true)]
async fn known_keys_outlive_an_outage_by_a_day_and_come_back_with_the_issuer() {
    let (key, next) = (TestKey::p256("1"), TestKey::p256("2"));
    let script = Scripted::with(&[&key]);
    let issuer = script.issuers().get(ISSUER);
    assert_eq!(find(&issuer, "1").await, Ok(1));
    script.is_away();
    tokio::time::sleep(VALID - Duration::from_secs(1)).await;
    assert_eq!(find(&issuer, "1").await, Ok(1));
    assert_eq!(issuer.trouble(), None);
    assert_eq!(find(&issuer, "2").await, Err(NoKey::Unavailable), "it may be a new one");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(find(&issuer, "1").await, Err(NoKey::Unavailable));
    let trouble = issuer.trouble().unwrap();
    assert_eq!(trouble.reason, Reason::IssuerUnreachable);
    assert!(
        trouble.message.contains(ISSUER) && trouble.message.contains("no answer"),
        "{}",
        trouble.message
    );
    script.has(&[&next]);
    tokio::time::sleep(RETRY).await;
    assert_eq!(find(&issuer, "2").await, Ok(1));
    assert_eq!(issuer.trouble(), None);
}

/// Proves: PU-2
#[tokio::test(start_paused = true)]
async fn a_withdrawn_key_is_refused_after_five_minutes() {
    let (old, new) = (TestKey::p256("old"), TestKey::p256("new"));
    let script = Scripted::with(&[&old]);
    let issuer = script.issuers().get(ISSUER);
    assert_eq!(find(&issuer, "old").await, Ok(1));
    script.has(&[&new]);
    tokio::time::sleep(REFRESH + Duration::from_secs(1)).await;
    assert_eq!(find(&issuer, "old").await, Err(NoKey::Unknown));
}

/// Proves: PU-2
#[tokio::test(start_paused = true)]
async fn a_slow_issuer_keeps_a_request_for_seconds_and_known_keys_not_at_all() {
    let key = TestKey::p256("1");
    let script = Scripted::with(&[&key]);
    script.hangs();
    let issuer = script.issuers().get(ISSUER);
    let began = Instant::now();
    assert_eq!(find(&issuer, "1").await, Err(NoKey::Unavailable));
    assert_eq!(began.elapsed(), PATIENCE);

    let script = Scripted::with(&[&key]);
    let issuer = script.issuers().get(ISSUER);
    assert_eq!(find(&issuer, "1").await, Ok(1));
    script.hangs();
    tokio::time::sleep(REFRESH * 2).await;
    let began = Instant::now();
    assert_eq!(find(&issuer, "1").await, Ok(1));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn channels_share_an_issuer_and_its_task_ends_with_the_last() {
    let script = Scripted::with(&[&TestKey::p256("1")]);
    let issuers = script.issuers();
    let (one, other) = (issuers.get(ISSUER), issuers.get(ISSUER));
    assert!(Arc::ptr_eq(&one, &other));
    drop((one, other));
    tokio::time::sleep(REFRESH * 3).await;
    let before = *script.readings.lock();
    tokio::time::sleep(REFRESH * 3).await;
    assert_eq!(*script.readings.lock(), before);
    let again = issuers.get(ISSUER);
    assert_eq!(find(&again, "1").await, Ok(1));
}
