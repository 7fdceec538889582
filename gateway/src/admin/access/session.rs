//! Sessions of people in a browser: a token typed once becomes a cookie, because pages cannot send `Authorization`.
//!
//! A cookie holds the kind of the token, when it ends, and a code that only a holder of the token can make. The gateway keeps nothing of
//! it: a session outlives a restart, is good at every replica that has the token, and ends at once when the token is replaced. The token
//! itself is not in it.

use std::{io, net::SocketAddr};

use axum::http::{HeaderMap, StatusCode};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use spec::Reason;
use uuid::Uuid;

use super::{Access, Secret, Token, is_same};
use crate::admin::Refusal;

/// A working day and a little: who comes back the next morning logs in again.
pub(crate) const SESSION_SECONDS: i64 = 12 * 3600;

impl Access {
    /// Whether there is a token to log in with.
    pub(crate) fn has_tokens(&self) -> bool {
        self.0.operate.is_some() || self.0.read.is_some()
    }

    /// Returns the token of a request: that of `Authorization`, else that of the session.
    pub(crate) fn token(&self, headers: &HeaderMap, session: Option<&str>) -> Token {
        match (self.0.token(headers), session) {
            (Token::None, Some(session)) => self.session(session, Timestamp::now()),
            (token, _) => token,
        }
    }

    /// Makes a session for who typed this token.
    pub(crate) fn log_in(&self, text: &str, remote: SocketAddr) -> Result<String, Refusal> {
        let token = self.0.token_of(text.trim().as_bytes());
        let ends = Timestamp::now().as_second() + SESSION_SECONDS;
        match self.code(token, ends) {
            Some(code) => Ok(format!("{}.{ends}.{code}", token.as_str())),
            None => {
                self.0.warn_of_token(remote);
                let message = "this is neither the read token nor the operate token of the gateway";
                Err(self.refuse(StatusCode::UNAUTHORIZED, Reason::Unauthorized, message))
            }
        }
    }

    fn session(&self, cookie: &str, now: Timestamp) -> Token {
        let mut parts = cookie.splitn(3, '.');
        let token = match parts.next() {
            Some("operate") => Token::Operate,
            Some("read") => Token::Read,
            _ => return Token::None,
        };
        let ends = parts.next().and_then(|ends| ends.parse::<i64>().ok());
        let (Some(ends), Some(code)) = (ends, parts.next()) else {
            return Token::None;
        };
        let is_ours = self
            .code(token, ends)
            .is_some_and(|ours| is_same(code.as_bytes(), ours.as_bytes()));
        if is_ours && now.as_second() < ends {
            token
        } else {
            Token::None
        }
    }

    /// The code of a session; `None` where there is no such token.
    fn code(&self, token: Token, ends: i64) -> Option<String> {
        let secret = match token {
            Token::Operate => &self.0.operate,
            Token::Read => &self.0.read,
            Token::None => return None,
        };
        let key = self.secret(secret.as_ref())?;
        Some(code(&key, "session", &format!("{} {ends}", token.as_str())))
    }

    /// Returns the text that a form of a page must carry: a page of another site cannot read it. `session` is the visitor's cookie.
    pub(crate) fn form_token(&self, session: Option<&str>) -> String {
        // Where nothing has to be typed there is one process, and its own number will do.
        let key = self.secret(self.0.operate.as_ref());
        let key = key
            .as_deref()
            .unwrap_or(self.0.form_key.as_bytes().as_slice())
            .to_owned();
        code(&key, "form", session.unwrap_or_default())
    }

    fn secret(&self, secret: Option<&Secret>) -> Option<Vec<u8>> {
        let read = |secret: &Secret| -> io::Result<String> { secret.read() };
        match secret.map(read)? {
            Ok(token) => Some(token.into_bytes()),
            Err(error) => {
                self.0.warn_of_file(secret, &error);
                None
            }
        }
    }
}

/// A code of `text` for one purpose.
fn code(key: &[u8], purpose: &str, text: &str) -> String {
    let key = Sha256::digest(key);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    mac.update(purpose.as_bytes());
    mac.update(b"\n");
    mac.update(text.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

/// A number that no other process has.
pub(super) fn form_key() -> Uuid {
    Uuid::new_v4()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::net::Ipv4Addr;

    use jiff::SignedDuration;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::args;

    fn access(operate: &str, read: &str) -> Access {
        let args = args::Access {
            admin_read_token: Some(read.to_owned()),
            ..args::Access::default()
        };
        let operate = Secret::of(Some(operate.to_owned()), None);
        Access::new(
            (Ipv4Addr::UNSPECIFIED, 1).into(),
            operate,
            &args,
            None,
            &mut Registry::default(),
        )
    }

    /// Proves: OP-3
    #[test]
    fn a_session_is_good_until_it_ends_or_its_token_is_replaced() {
        let (now, remote) = (Timestamp::now(), (Ipv4Addr::LOCALHOST, 1).into());
        let ours = access("operate-it", "read-it");
        for (typed, token) in [(" operate-it\n", Token::Operate), ("read-it", Token::Read)] {
            let cookie = ours.log_in(typed, remote).unwrap_or_default();
            assert!(!cookie.contains(typed.trim()), "{cookie}");
            assert_eq!(ours.session(&cookie, now), token);
            let later = now.checked_add(SignedDuration::from_secs(SESSION_SECONDS + 1)).unwrap();
            assert_eq!(ours.session(&cookie, later), Token::None);
            assert_eq!(access("another", "and-another").session(&cookie, now), Token::None);
            let forged = cookie.replacen("read", "operate", 1);
            assert_eq!(
                ours.session(&forged, now),
                if token == Token::Read { Token::None } else { token }
            );
        }
        assert!(ours.log_in("operate-i", remote).is_err() && ours.log_in("", remote).is_err());
        for cookie in [
            "",
            "operate",
            "operate.99999999999.",
            "none.99999999999.x",
            "operate.x.y",
        ] {
            assert_eq!(ours.session(cookie, now), Token::None, "{cookie}");
        }
    }

    #[test]
    fn a_form_belongs_to_its_session() {
        let ours = access("operate-it", "read-it");
        assert_eq!(ours.form_token(Some("a")), ours.form_token(Some("a")));
        assert_ne!(ours.form_token(Some("a")), ours.form_token(Some("b")));
        assert_ne!(ours.form_token(None), access("another", "read-it").form_token(None));
    }
}
