//! The credentials of a broker's provisioner, from its secret.

use std::collections::BTreeMap;

use spec::{Cause, Reason, model};

/// Returns the value of the first of these keys in a provisioner's secret. The clients of both brokers accept only
/// text. Other bytes are refused, because a changed password would only be a wrong one for the broker.
pub(super) fn secret(
    provisioner: &model::Provisioner,
    credentials: &BTreeMap<String, model::SecretText>,
    keys: &[&str],
) -> Result<Option<String>, Cause> {
    let found = keys.iter().find_map(|key| Some((key, credentials.get(*key)?)));
    let Some((key, value)) = found else { return Ok(None) };
    match std::str::from_utf8(value.expose()) {
        Ok(text) if !text.contains('\0') => Ok(Some(text.to_owned())),
        _ => Err(Cause {
            reason: Reason::CredentialsInvalid,
            message: format!(
                "the key `{key}` in the secret of provisioner {} is no UTF-8 text, which is all that a broker's client \
                 takes: store the value itself there, and nothing that was encrypted, compressed or encoded",
                provisioner.name
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn password(bytes: &[u8]) -> Result<Option<String>, Cause> {
        let credentials = BTreeMap::from([("password".to_owned(), model::SecretText::new(bytes))]);
        let provisioner = model::Provisioner {
            name: "lab".into(),
            config: model::Config::Memory,
            credentials: Ok(BTreeMap::new()),
            require_durability: None,
        };
        secret(&provisioner, &credentials, &["pass", "password"])
    }

    /// Proves: SR-6
    #[test]
    fn a_password_reaches_the_broker_as_it_is_or_not_at_all() {
        assert_eq!(password("pä ss\n".as_bytes()).unwrap().unwrap(), "pä ss\n");
        for bytes in [&b"p\xffss"[..], b"p\0ss"] {
            let why = password(bytes).unwrap_err();
            assert_eq!(why.reason, "CredentialsInvalid");
            assert!(
                why.message.contains("`password` in the secret of provisioner lab"),
                "{}",
                why.message
            );
        }
    }
}
