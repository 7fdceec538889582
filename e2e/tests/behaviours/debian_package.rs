//! The Debian package: built, installed under a real systemd, used, removed.

use std::{collections::BTreeMap, path::Path, process::Stdio};

use e2e::binary::{headgate, workspace};
use servers::cache;
use tempfile::TempDir;
use tokio::process::Command;

/// Installs, uses and removes the package in a copy of this machine under a systemd of its own (e2e/servers/systemd/try.sh). Prints
/// facts, one a line. `$within` runs a command in the copy.
const LIFE: &str = r#"
package=$1
fact() { printf '%s: %s\n' "$1" "$(echo $2)"; }
left() { (cd "$folder/changes" && find . -path '*headgate*' ! -path './var/lib/dpkg/*' | sort); }
put() { $within sh -c "umask 077; cat >$1"; }
# Without syncs, and without the triggers of other packages (an index of manual pages): they take seconds.
dpkg() { $within dpkg --force-unsafe-io --no-triggers "$@" >&2; }

put /tmp/package.deb <"$package"
dpkg --install /tmp/package.deb
fact service "$($within systemctl is-active headgate) $($within systemctl is-enabled headgate)"
fact version "$($within headgate --version | head -1)"
fact unchanged "$($within dpkg --verify headgate)"
fact sent "$($within headgate send example --id one --data '{}')"

# A secret that root alone can read, a channel that is there after a reload, and the event after a restart.
put /etc/headgate/secrets/github.yaml <<<'{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hush"}, "stringData": {"token": "t"}}'
$within sh -c 'sed s/example/second/ /etc/headgate/example.yaml | sed -n "/^apiVersion/,/^---/p" >/etc/headgate/second.yaml'
$within systemctl reload headgate
fact reloaded "$($within headgate get channels)"
$within systemctl restart headgate
fact secrets "$($within headgate get secrets)"
fact explained "$($within headgate explain one | sed -n 2p)"
fact user "$($within sh -c 'stat -c %U /var/lib/private/headgate; ps -o user= -C headgate')"

dpkg --remove headgate
fact stopped "$($within systemctl is-active headgate || true)"
fact "after remove" "$(left)"
dpkg --purge headgate
$within rm -r /etc/headgate
fact "after purge" "$(left)"
"#;

/// Makes the package of the binary that all tests are about; the time goes into compression otherwise.
async fn package(folder: &Path) -> String {
    let built = Command::new(workspace().join("deploy/debian/build.sh"))
        .arg(headgate())
        .arg(folder)
        .env("DPKG_DEB_COMPRESSOR_TYPE", "none")
        .stderr(Stdio::inherit())
        .output()
        .await
        .expect("bash runs");
    assert!(built.status.success(), "the package is not made");
    String::from_utf8_lossy(&built.stdout).trim().to_owned()
}

async fn dpkg_deb(arguments: &[&str]) -> String {
    let output = Command::new("dpkg-deb")
        .args(arguments)
        .output()
        .await
        .expect("dpkg-deb runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_debian_package_is_installed_and_leaves_nothing_behind() {
    if cache::skipped("debian") {
        return;
    }
    let folder = TempDir::with_prefix("headgate-package-").expect("a temporary folder");
    let package = package(folder.path()).await;
    let control = dpkg_deb(&["--field", &package]).await;
    for line in ["Package: headgate", "Depends: libc6 (>= ", "libssl3", "ca-certificates"] {
        assert!(control.contains(line), "{line} is missing in {control}");
    }
    let contents = dpkg_deb(&["--contents", &package]).await;
    for path in [
        "usr/bin/headgate",
        "usr/lib/systemd/system/headgate.service",
        "usr/share/man/man1/headgate.1.gz",
        "usr/share/man/man1/headgate-dead-show.1.gz",
        "usr/share/bash-completion/completions/headgate",
        "usr/share/zsh/vendor-completions/_headgate",
        "usr/share/fish/vendor_completions.d/headgate.fish",
        "usr/share/doc/headgate/copyright",
        "usr/share/doc/headgate/changelog.gz",
        "etc/default/headgate",
        "etc/headgate/example.yaml",
    ] {
        let line = contents.lines().find(|line| line.ends_with(&format!(" ./{path}")));
        let line = line.unwrap_or_else(|| panic!("{path} is missing in {contents}"));
        assert!(line.contains(" root/root "), "{line}");
    }
    let facts = life(folder.path(), &package).await;
    let is = |name: &str, expected: &str| {
        let fact = facts
            .get(name)
            .unwrap_or_else(|| panic!("nothing says {name}: {facts:#?}"));
        assert!(
            fact.contains(expected),
            "{name}: {fact}, and not {expected}; {facts:#?}"
        );
        fact
    };
    is("service", "active enabled");
    is("version", &format!("headgate {}", env!("CARGO_PKG_VERSION")));
    is("sent", "stored id=one durability=disk");
    is("reloaded", "second");
    is("secrets", "hush");
    is("explained", "stored in default/example at offset 0");
    is("stopped", "inactive");
    assert_eq!(facts["unchanged"], "");
    assert_eq!(facts["user"], "headgate headgate");
    let kept = is("after remove", "./etc/headgate/second.yaml");
    for path in [
        "./etc/default/headgate",
        "./etc/headgate/example.yaml",
        "./var/lib/private/headgate/",
    ] {
        assert!(kept.contains(path), "{path} is gone after remove: {kept}");
    }
    assert!(!kept.contains("./usr/"), "{kept}");
    assert_eq!(facts["after purge"], "", "something is left");
}

async fn life(folder: &Path, package: &str) -> BTreeMap<String, String> {
    let copy = folder.join("copy");
    std::fs::create_dir(&copy).expect("a folder to mount on");
    let tried = Command::new(workspace().join("e2e/servers/systemd/try.sh"))
        .arg(&copy)
        .args([LIFE, package])
        .stderr(Stdio::inherit())
        .output()
        .await
        .expect("bash runs");
    let printed = String::from_utf8_lossy(&tried.stdout);
    let hint = "root is needed to boot systemd in a copy of this machine; HEADGATE_SKIP_PEERS=debian goes without";
    assert!(
        tried.status.success(),
        "the package is not installed and removed: {printed}; {hint}"
    );
    let facts = printed.lines().filter_map(|line| line.split_once(": "));
    facts.map(|(name, fact)| (name.to_owned(), fact.to_owned())).collect()
}
