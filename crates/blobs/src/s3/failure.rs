//! Why an attempt at a request failed, and whether another may succeed.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::response::Parts;

use super::{date, text_of};
use crate::error::BlobError;

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server cannot be reached, or the connection broke: why.
    Broken(String),
    /// Nothing happened for this time.
    Silent(Duration),
    /// All connections are in use.
    Busy,
    /// The server said so.
    Refused(Refusal),
}

/// An error response.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// S3's name of the error; empty if there is none (a response to HEAD has no body).
    pub(super) code: String,
    pub(super) message: String,
    /// By how many seconds the server's clock is ahead of ours, if by many.
    clock_difference: Option<i64>,
}

impl Refusal {
    /// Reads the head and body of an error response. The access key is not shown, even if the server repeats it.
    pub(super) fn new(head: &Parts, body: &str, access_key: &str) -> Self {
        let message = element(body, "Message").unwrap_or_default().replace(access_key, "…");
        let shown = |text: &str| {
            let characters = text.chars().map(|it| if it.is_control() { ' ' } else { it });
            characters.take(MAX_MESSAGE_CHARACTERS).collect()
        };
        Refusal {
            status: head.status,
            code: shown(element(body, "Code").unwrap_or_default()),
            message: shown(&message),
            clock_difference: text_of(&head.headers, "date").and_then(date).and_then(difference),
        }
    }

    pub(super) fn is_missing_object(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && self.code != "NoSuchBucket"
    }
}

/// Returns by how many seconds the server's clock is ahead, unless that is too little to matter.
fn difference(theirs: SystemTime) -> Option<i64> {
    let seconds = |duration: Duration| duration.as_secs().cast_signed();
    let difference = match theirs.duration_since(SystemTime::now()) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    };
    (difference.unsigned_abs() >= MIN_CLOCK_DIFFERENCE.as_secs()).then_some(difference)
}

/// From which difference of the clocks on a server may refuse what we sign. AWS allows 15 minutes; others less.
const MIN_CLOCK_DIFFERENCE: Duration = Duration::from_secs(5 * 60);

/// What is shown of a server's message.
const MAX_MESSAGE_CHARACTERS: usize = 200;

/// Returns the text of the first element of that name.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = xml.split_once(&format!("<{name}>"))?;
    Some(after.split_once(&format!("</{name}>"))?.0)
}

impl Failure {
    /// Returns whether the same request may succeed in a moment.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Failure::Broken(_) | Failure::Silent(_) => true,
            Failure::Busy => false,
            Failure::Refused(refusal) => is_transient(refusal.status, &refusal.code),
        }
    }

    /// Converts to the error for callers. `server` is the host and port.
    pub(super) fn into_error(self, server: &str) -> BlobError {
        let server = server.to_owned();
        match self {
            Failure::Broken(problem) => BlobError::Unreachable { server, problem },
            Failure::Silent(time) => {
                let problem = format!("it did not respond within {} s", time.as_secs_f32());
                BlobError::Unreachable { server, problem }
            }
            Failure::Busy => BlobError::Busy,
            Failure::Refused(Refusal { status, code, message, clock_difference }) => {
                let status = status.as_u16();
                BlobError::Refused { server, status, code, message, clock_difference }
            }
        }
    }
}

/// Returns whether an error passes: the server is overloaded, restarting or broken, or has received something else than we
/// have sent.
pub(super) fn is_transient(status: StatusCode, code: &str) -> bool {
    let transient = [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    let codes = ["InternalError", "SlowDown", "RequestTimeout", "BadDigest", "InvalidDigest"];
    transient.contains(&status) || codes.contains(&code)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::fmt::rfc2822::DateTimePrinter;

    use super::*;

    fn refusal(status: StatusCode, date: SystemTime, body: &str) -> Refusal {
        let date = Timestamp::try_from(date).unwrap();
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap();
        let response = http::Response::builder().status(status).header("date", date);
        Refusal::new(&response.body(()).unwrap().into_parts().0, body, "AK1")
    }

    #[test]
    fn error_responses_are_read() {
        let now = SystemTime::now();
        let body = "<?xml?><Error><Code>SlowDown</Code><Message>key AK1\nis slow</Message></Error>";
        let slow = refusal(StatusCode::SERVICE_UNAVAILABLE, now, body);
        assert_eq!((&*slow.code, &*slow.message), ("SlowDown", "key … is slow"));
        let failure = Failure::Refused(slow);
        assert!(failure.is_transient());
        let text = failure.into_error("s3.test:80").to_string();
        assert!(text.contains("key … is slow"), "{text}");

        let other = refusal(StatusCode::NOT_FOUND, now, "<html>");
        assert_eq!((&*other.code, &*other.message), ("", ""));
        assert!(other.is_missing_object());
        assert!(!Failure::Refused(other).is_transient());
        let bucket = refusal(StatusCode::NOT_FOUND, now, "<Code>NoSuchBucket</Code>");
        assert!(!bucket.is_missing_object());
    }

    #[test]
    fn a_clock_that_is_wrong_is_named() {
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        for (date, expected) in [
            (now + hour, "; this machine's clock is 59 min behind the server's, so correct it"),
            (now - hour, "; this machine's clock is 60 min ahead of the server's, so correct it"),
            (now + hour / 20, "; check access key, secret key, and what they allow"),
        ] {
            let error = Failure::Refused(refusal(StatusCode::FORBIDDEN, date, "")).into_error("s3");
            assert!(error.to_string().ends_with(expected), "{error}");
        }
    }
}
