//! Why an attempt at a request failed, and whether another may succeed.

use std::time::Duration;

use http::StatusCode;

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
}

impl Refusal {
    /// Reads the body of an error response. The access key is not shown, even if the server repeats it.
    pub(super) fn new(status: StatusCode, body: &str, access_key: &str) -> Self {
        let message = element(body, "Message").unwrap_or_default().replace(access_key, "…");
        let message = message.chars().map(|it| if it.is_control() { ' ' } else { it });
        Refusal {
            status,
            code: element(body, "Code").unwrap_or_default().to_owned(),
            message: message.take(MAX_MESSAGE_CHARACTERS).collect(),
        }
    }

    pub(super) fn is_missing_object(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && self.code != "NoSuchBucket"
    }
}

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
            Failure::Refused(Refusal { status, code, message }) => {
                BlobError::Refused { server, status: status.as_u16(), code, message }
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
    use super::*;

    #[test]
    fn error_responses_are_read() {
        let body = "<?xml?><Error><Code>SlowDown</Code><Message>key AK1\nis slow</Message></Error>";
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, body, "AK1");
        assert_eq!((&*refusal.code, &*refusal.message), ("SlowDown", "key … is slow"));
        let failure = Failure::Refused(refusal);
        assert!(failure.is_transient());
        let text = failure.into_error("s3.test:80").to_string();
        assert!(text.contains("key … is slow"), "{text}");

        let other = Refusal::new(StatusCode::NOT_FOUND, "<html>", "AK1");
        assert_eq!((&*other.code, &*other.message), ("", ""));
        assert!(other.is_missing_object());
        assert!(!Failure::Refused(other).is_transient());
        let bucket = Refusal::new(StatusCode::NOT_FOUND, "<Code>NoSuchBucket</Code>", "AK1");
        assert!(!bucket.is_missing_object());
    }
}
