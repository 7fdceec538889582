//! Reload with real folders. What is waited for is polled with a bound, never slept for.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use tempfile::TempDir;
use tokio::sync::watch::Receiver;

use super::*;
use crate::ObjectName;

/// Generous: a loaded machine is slow, and a passing test never waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

fn channel(name: &str) -> String {
    format!("apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {{name: {name}}}\n")
}

fn subscription(name: &str, channel: &str, port: u16) -> String {
    format!(
        "apiVersion: eventing.knative.dev/v1alpha1\nkind: Subscription\nmetadata: {{name: {name}}}\nspec:\n  channel: {{name: {channel}}}\n  \
         subscriber: {{uri: 'http://127.0.0.1:{port}/'}}\n"
    )
}

struct Running {
    folder: TempDir,
    specs: Receiver<Arc<Spec>>,
    stop: CancellationToken,
}

impl Running {
    fn start(documents: &[(&str, String)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, text) in documents {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let (out, specs) = watch::channel(Arc::new(Spec::default()));
        let stop = CancellationToken::new();
        let settings = FilesSettings::new([folder.path()], Some(folder.path().join(".secrets")));
        let files = Files::open(settings, out).unwrap();
        tokio::spawn(files.run(stop.clone()));
        Self { folder, specs, stop }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn until(&mut self, holds: impl Fn(&Spec) -> bool) -> Arc<Spec> {
        let met = tokio::time::timeout(PATIENCE, self.specs.wait_for(|spec| holds(spec))).await;
        met.expect("the spec never came to be so").unwrap().clone()
    }
}

fn names<T>(map: &std::collections::BTreeMap<ObjectName, T>) -> Vec<&str> {
    map.keys().map(|name| name.name.as_str()).collect()
}

#[tokio::test]
async fn files_that_come_change_and_go_are_seen() {
    let mut running = Running::start(&[("a.yaml", channel("a"))]);
    assert_eq!(running.specs.borrow().generation, 1, "published before run");
    fs::create_dir(running.path("deep")).unwrap();
    fs::write(running.path("deep/b.yml"), channel("b")).unwrap();
    fs::write(
        running.path("c.json"),
        r#"{"apiVersion":"eventing.knative.dev/v1alpha1","kind":"Channel","metadata":{"name":"c"}}"#,
    )
    .unwrap();
    fs::write(running.path(".hidden.yaml"), channel("hidden")).unwrap();
    fs::write(running.path("d.yaml~"), channel("backup")).unwrap();
    fs::write(running.path("notes.txt"), channel("text")).unwrap();
    let spec = running.until(|spec| spec.channels.len() == 3).await;
    assert_eq!(names(&spec.channels), ["a", "b", "c"]);
    fs::remove_file(running.path("a.yaml")).unwrap();
    let spec = running.until(|spec| spec.channels.len() == 2).await;
    assert_eq!((names(&spec.channels), spec.incomplete), (vec!["b", "c"], false));
    running.stop.cancel();
}

#[tokio::test]
async fn a_save_by_rename_and_a_save_by_delete_and_create_lose_nothing() {
    let mut running = Running::start(&[("a.yaml", channel("a") + "---\n" + &subscription("s", "a", 1))]);
    let mut seen = running.specs.clone();
    let watched = tokio::spawn(async move {
        while seen.changed().await.is_ok() {
            assert_eq!(
                seen.borrow().subscriptions.len(),
                1,
                "the subscription was gone for a moment"
            );
        }
    });
    for port in 2..5 {
        let text = channel("a") + "---\n" + &subscription("s", "a", port);
        if port % 2 == 0 {
            fs::write(running.path(".new"), text).unwrap();
            fs::rename(running.path(".new"), running.path("a.yaml")).unwrap();
        } else {
            fs::remove_file(running.path("a.yaml")).unwrap();
            fs::write(running.path("a.yaml"), text).unwrap();
        }
        let sent_to = |spec: &Spec| match spec.subscriptions.values().next()?.subscriber.as_ref()? {
            crate::model::Target::Uri { url, .. } => url.port(),
            _ => None,
        };
        running.until(|spec| sent_to(spec) == Some(port)).await;
    }
    running.stop.cancel();
    watched.await.unwrap();
}

/// When a reload believes that files vanished: the decision alone.
#[test]
fn a_document_that_would_disappear_is_a_reason_to_look_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.yaml");
    fs::write(&path, channel("a") + "---\n" + &channel("b")).unwrap();
    let mut reader = Reader::new(FilesSettings::new([folder.path()], None));
    let before = Spec::default();
    let first = reader.round(std::slice::from_ref(&path), &before);
    assert!(!reader.loses(&first), "nothing was there before");
    reader.believe(first);
    assert!(reader.loses(&reader.round(&[], &before)), "the file is gone");
    for (text, loses) in [
        (String::new(), true),
        (channel("a"), true),
        (channel("b") + "---\n" + &channel("a"), false),
        (channel("a") + "---\nkind: [", false),
        (channel("a") + "---\n" + &channel("b") + "sepc: {}\n", false),
    ] {
        fs::write(&path, &text).unwrap();
        assert_eq!(
            reader.loses(&reader.round(std::slice::from_ref(&path), &before)),
            loses,
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_mounted_config_map_is_followed_over_its_swaps() {
    use std::os::unix::fs::symlink;
    let mut running = Running::start(&[]);
    let version = |number: u32| running.folder.path().join(format!("..v{number}"));
    let (one, two) = (version(1), version(2));
    for (folder, name) in [(&one, "old"), (&two, "new")] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("a.yaml"), channel(name)).unwrap();
    }
    symlink(&one, running.path("..data")).unwrap();
    symlink("..data/a.yaml", running.path("a.yaml")).unwrap();
    running.until(|spec| names(&spec.channels) == ["old"]).await;
    symlink(&two, running.path("..data_tmp")).unwrap();
    fs::rename(running.path("..data_tmp"), running.path("..data")).unwrap();
    running.until(|spec| names(&spec.channels) == ["new"]).await;
}

#[tokio::test]
async fn a_bad_edit_leaves_what_ran_and_says_so() {
    let good = channel("a") + "---\n" + &subscription("s", "a", 1);
    let mut running = Running::start(&[("a.yaml", good.clone())]);
    fs::write(
        running.path("a.yaml"),
        channel("a") + "---\n" + &subscription("s", "a", 1) + "  orderin: key\n",
    )
    .unwrap();
    let spec = running
        .until(|spec| spec.objects.values().any(|object| !object.faults.is_empty()))
        .await;
    assert_eq!(names(&spec.subscriptions), ["s"], "the last valid version runs");
    assert!(!spec.incomplete, "the document is known, only invalid");
    fs::write(running.path("a.yaml"), channel("a") + "---\nkind: [\n").unwrap();
    let spec = running.until(|spec| spec.incomplete).await;
    assert_eq!(
        names(&spec.subscriptions),
        ["s"],
        "nobody can tell whether it was meant to go"
    );
    fs::write(running.path("a.yaml"), good).unwrap();
    let spec = running.until(|spec| !spec.incomplete).await;
    assert!(spec.objects.values().all(|object| object.faults.is_empty()));
}

/// Proves: SR-6
#[tokio::test]
async fn a_secret_in_the_folder_is_read_anew_when_it_changes() {
    let source = "apiVersion: sources.eventing.knative.dev/v1alpha1\nkind: GitHubSource\nmetadata: {name: g}\nspec:\n  \
                  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: hook, key: token}}\n  \
                  sink: {apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: a}\n";
    let mut running = Running::start(&[("a.yaml", channel("a") + "---\n" + source)]);
    let token = |spec: &Spec| {
        let found = spec.sources.values().next().map(|source| source.config.clone());
        let Some(crate::model::SourceConfig::GitHub(github)) = found else {
            return None;
        };
        github
            .secret_token
            .and_then(Result::ok)
            .map(|secret| secret.expose().to_vec())
    };
    assert_eq!(token(&running.specs.borrow()), None, "not there yet");
    let folder = running.path(".secrets/default/hook");
    fs::create_dir_all(&folder).unwrap();
    for value in ["one", "two"] {
        fs::write(folder.join("token"), format!("{value}\n")).unwrap();
        running
            .until(|spec| token(spec).as_deref() == Some(value.as_bytes()))
            .await;
    }
}

#[tokio::test]
async fn a_path_that_is_not_there_is_an_error_before_anything_is_published() {
    let (out, specs) = watch::channel(Arc::new(Spec::default()));
    let settings = FilesSettings::new(["/nowhere/at/all.yaml"], None);
    let error = files(settings, out, CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read /nowhere/at/all.yaml");
    assert_eq!(specs.borrow().generation, 0);
}

#[tokio::test]
async fn a_named_path_that_vanishes_later_keeps_what_it_held() {
    let mut running = Running::start(&[("a.yaml", channel("a"))]);
    fs::rename(running.folder.path(), running.folder.path().with_extension("moved")).unwrap();
    let spec = running.until(|spec| spec.incomplete).await;
    assert_eq!(names(&spec.channels), ["a"]);
    fs::rename(running.folder.path().with_extension("moved"), running.folder.path()).unwrap();
    running.until(|spec| !spec.incomplete).await;
}
