//! The files of a cluster: keys of service accounts, users and their tokens, and the kubeconfig its clients read.

use std::{fs, path::Path};

use super::ADMIN;

pub(super) const PRIVATE_KEY: &str = "accounts.key";
pub(super) const PUBLIC_KEY: &str = "accounts.pub";
pub(super) const TOKENS: &str = "tokens.csv";
/// Written by the API server beside its key: its certificate and the authority that signed it.
pub(super) const AUTHORITY: &str = "certificates/apiserver.crt";

/// The token a user starts with.
pub(super) fn token(user: &str) -> String {
    format!("token-of-{user}")
}

/// A key pair for tokens of service accounts.
pub(super) fn write_keys(folder: &Path) {
    let pair = rcgen::KeyPair::generate().expect("a key pair");
    write(folder, PRIVATE_KEY, &pair.serialize_pem());
    write(folder, PUBLIC_KEY, &pair.public_key_pem());
}

/// One line a user; one of them may have another token than at first.
pub(super) fn write_tokens(folder: &Path, users: &[String], changed: Option<(&str, &str)>) {
    let mut lines = String::new();
    for user in users {
        let token = token_now(user, changed);
        let group = if user == ADMIN { ",\"system:masters\"" } else { "" };
        lines += &format!("{token},{user},{user}{group}\n");
    }
    write(folder, TOKENS, &lines);
}

/// One context a user, named like the user.
pub(super) fn write_kubeconfig(folder: &Path, url: &str, users: &[String], changed: Option<(&str, &str)>) {
    let authority = folder.join(AUTHORITY);
    let (mut contexts, mut identities) = (String::new(), String::new());
    for user in users {
        let token = token_now(user, changed);
        contexts += &format!("- name: {user}\n  context: {{cluster: test, user: {user}}}\n");
        identities += &format!("- name: {user}\n  user: {{token: \"{token}\"}}\n");
    }
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {ADMIN}\nclusters:\n- name: test\n  cluster:\n    server: {url}\n    certificate-authority: {}\ncontexts:\n{contexts}users:\n{identities}",
        authority.display()
    );
    write(folder, "kubeconfig", &text);
}

fn token_now(user: &str, changed: Option<(&str, &str)>) -> String {
    match changed {
        Some((who, token)) if who == user => token.to_owned(),
        _ => token(user),
    }
}

/// Readers see the old text or the new one.
fn write(folder: &Path, name: &str, text: &str) {
    let new = folder.join(format!("{name}.new"));
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, folder.join(name)))
        .expect("a file of the cluster is written");
}
