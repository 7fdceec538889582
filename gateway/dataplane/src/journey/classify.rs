//! Decides what an answer means: one table, and the table is the test (CONTRACT DL-2, RP-1, RP-3, RP-4).

use std::time::Duration;

use backoff::Policy;
use channel::Delivered;
use event::Event;

use super::{
    failure::{Failure, Reason},
    sink::{Answer, Body, NoAnswer},
};

/// Why a target did not take an event, and with it what to do next.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Another try may help.
    Retry(Failure),
    /// No other try will help.
    ForGood(Failure),
    /// This process could not send it: that is no attempt, and says nothing of the target.
    NotSent(Failure),
}

impl Refusal {
    /// Returns the failure, and how long to wait before the next attempt. `failed` counts this attempt. `None`: no attempt is
    /// left, or none would help.
    pub(crate) fn with_wait(self, policy: &Policy, failed: u32) -> (Failure, Option<Duration>) {
        match self {
            Self::Retry(failure) => {
                let wait = policy.wait(failed, failure.retry_after, rand::random());
                (failure, wait)
            }
            Self::ForGood(failure) | Self::NotSent(failure) => (failure, None),
        }
    }
}

/// The reply in a 2xx answer.
#[derive(Debug)]
pub(crate) enum Reply {
    None,
    Event(Event),
    /// A 200 or 201 with a body that is no CloudEvent, and what is wrong with it.
    Malformed(Box<str>),
    /// A CloudEvent of more than `maxReplyBytes`.
    TooLarge,
}

/// Whether a status that is no success is worth another try.
pub(crate) fn is_retryable(status: u16) -> bool {
    matches!(status, 404 | 408 | 409 | 425 | 429 | 500..=599)
}

/// A 2xx is the proof that the subscriber took the event, and perhaps it answered with another.
pub(crate) fn classify(answer: Result<Answer, NoAnswer>, destination: &str) -> Result<(Delivered, Reply), Refusal> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(none @ NoAnswer::NotSent(_)) => return Err(Refusal::NotSent(Failure::no_answer(&none, destination))),
        Err(none) => return Err(Refusal::Retry(Failure::no_answer(&none, destination))),
    };
    if let Some(proof) = Delivered::by_status(answer.status) {
        return Ok((proof, reply(answer.status, answer.body)));
    }
    let body = match answer.body {
        Body::Bytes(bytes) => bytes,
        Body::Event(_) | Body::Malformed(_) | Body::TooLarge => bytes::Bytes::new(),
    };
    let retryable = is_retryable(answer.status);
    let failure = Failure {
        reason: if retryable {
            Reason::SinkError
        } else {
            Reason::SinkRejected
        },
        destination: destination.to_owned(),
        code: Some(answer.status),
        body,
        // DL-3: a wait is asked for by 429 and 503 alone.
        retry_after: answer.retry_after.filter(|_| matches!(answer.status, 429 | 503)),
        detail: format!("answered {}", answer.status),
    };
    Err(if retryable {
        Refusal::Retry(failure)
    } else {
        Refusal::ForGood(failure)
    })
}

/// RP-1: only 200 and 201 carry replies.
fn reply(status: u16, body: Body) -> Reply {
    match (status, body) {
        (200 | 201, Body::Event(event)) => Reply::Event(event),
        (200 | 201, Body::TooLarge) => Reply::TooLarge,
        (200 | 201, Body::Malformed(fault)) => Reply::Malformed(fault),
        _ => Reply::None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use bytes::Bytes;

    use super::*;

    fn answer(status: u16) -> Result<Answer, NoAnswer> {
        Ok(Answer {
            status,
            retry_after: None,
            body: Body::Bytes(Bytes::new()),
        })
    }

    fn word(classified: &Result<(Delivered, Reply), Refusal>) -> &'static str {
        match classified {
            Ok(_) => "taken",
            Err(Refusal::Retry(_)) => "retry",
            Err(Refusal::ForGood(_)) => "refused",
            Err(Refusal::NotSent(_)) => "not sent",
        }
    }

    /// Proves: DL-2
    #[test]
    fn every_status_means_what_the_contract_says() {
        for status in 100..=599 {
            let expected = match status {
                200..=299 => "taken",
                404 | 408 | 409 | 425 | 429 => "retry",
                500..=599 => "retry",
                _ => "refused",
            };
            assert_eq!(word(&classify(answer(status), "http://sink/")), expected, "{status}");
        }
    }

    /// Proves: DL-2
    #[test]
    fn no_answer_of_any_kind_is_retried_without_a_code() {
        for none in [
            NoAnswer::Timeout,
            NoAnswer::Connect("refused".into()),
            NoAnswer::Broken("reset".into()),
        ] {
            let Err(Refusal::Retry(failure)) = classify(Err(none), "http://sink/") else {
                panic!("not retried")
            };
            assert_eq!(failure.code, None);
        }
    }

    #[test]
    fn what_this_process_could_not_send_is_no_attempt() {
        let classified = classify(Err(NoAnswer::NotSent("too many open files".into())), "http://sink/");
        assert_eq!(word(&classified), "not sent");
    }

    /// Proves: DL-3
    #[test]
    fn a_wait_is_honoured_on_429_and_503_alone() {
        for (status, honoured) in [(429, true), (503, true), (500, false), (404, false)] {
            let answer = Answer {
                status,
                retry_after: Some(Duration::from_secs(7)),
                body: Body::Bytes(Bytes::new()),
            };
            let Err(Refusal::Retry(failure)) = classify(Ok(answer), "http://sink/") else {
                panic!("not retried")
            };
            assert_eq!(failure.retry_after.is_some(), honoured, "{status}");
        }
    }

    /// Proves: RP-1, RP-3
    #[test]
    fn only_200_and_201_carry_replies() {
        let event = || Event::builder("1", "/s", "t").finish().unwrap();
        for (status, is_reply) in [(200, true), (201, true), (202, false), (204, false), (206, false)] {
            let answer = Answer {
                status,
                retry_after: None,
                body: Body::Event(event()),
            };
            let Ok((_, reply)) = classify(Ok(answer), "") else {
                panic!("not taken")
            };
            assert_eq!(matches!(reply, Reply::Event(_)), is_reply, "{status}");
        }
        for (status, malformed) in [(200, true), (202, false)] {
            let answer = Answer {
                status,
                retry_after: None,
                body: Body::Malformed("no CloudEvent".into()),
            };
            let Ok((_, reply)) = classify(Ok(answer), "") else {
                panic!("not taken")
            };
            assert_eq!(matches!(reply, Reply::Malformed(_)), malformed, "{status}");
        }
    }
}
