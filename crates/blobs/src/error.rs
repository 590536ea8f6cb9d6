//! What can go wrong with blobs, and what the owner can do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::key::Key;

/// Why an operation on a blob failed. As text: what happened and what the owner can do, without a period.
#[derive(Debug)]
#[non_exhaustive]
pub enum BlobError {
    /// What was to be put could not be read to its end: the visitor left, say. Nothing was stored.
    Source(Box<dyn Error + Send + Sync>),
    /// This is not a media type that can be kept.
    ContentType(String),
    /// The content of this blob is not what was put.
    Damaged(Key),
    /// A copy of this blob was put, and comes back as something else.
    Altered(Key),
    /// The disk or the account's quota is full.
    Full,
    /// The folder of the blobs is no longer there.
    Gone(PathBuf),
    /// This account may not use a file or folder.
    Denied {
        /// Which.
        path: PathBuf,
        /// The account that owns it: the uid.
        owner: u32,
    },
    /// The folder is another account's, which could put other blobs there.
    Foreign {
        /// Which.
        folder: PathBuf,
        /// Whose: the uid.
        account: u32,
    },
    /// Other accounts can put blobs into the folder, and its permissions cannot be tightened.
    Exposed {
        /// Which.
        folder: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The rest of a blob cannot be read.
    Read {
        /// Which.
        key: Key,
        /// What the system says.
        error: io::Error,
    },
    /// The rest of a blob has not arrived.
    Cut {
        /// Which.
        key: Key,
        /// Why.
        problem: String,
    },
    /// The blob or part has more than this many bytes, the most that the store takes. Nothing was stored.
    TooLarge(u64),
    /// There is no such upload of this blob: it was cancelled, or not finished within a day, or it was finished and the
    /// blob deleted.
    NoUpload(Key),
    /// An upload cannot be finished yet.
    Incomplete {
        /// Of which blob.
        key: Key,
        /// The first part that is missing, or does not have the length that it should have.
        part: u16,
    },
    /// The settings of the S3 store cannot be used.
    Settings {
        /// Which of them: the name of a field of [`S3Settings`](crate::S3Settings).
        setting: &'static str,
        /// Why.
        problem: String,
    },
    /// The S3 server cannot be reached, breaks connections or does not respond, also after several attempts.
    Unreachable {
        /// Its host and port.
        server: String,
        /// What the last attempt met.
        problem: String,
    },
    /// Too many requests or uploads to the S3 server are in flight.
    Busy,
    /// The S3 server refused a request, or has failed, also after several attempts.
    Refused {
        /// Its host and port.
        server: String,
        /// The status code of the response.
        status: u16,
        /// S3's name of the error, if the response has one.
        code: String,
        /// What the server says.
        message: String,
        /// By how many seconds the server's clock, which stamps its response, is ahead of this machine's, if by so many
        /// that this may be the reason; negative if it is behind.
        clock_difference: Option<i64>,
    },
    /// A file or folder cannot be used.
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl BlobError {
    /// Sorts an error of the file system; `path` is what was used, `folder` that of all blobs.
    pub(crate) fn of_file(error: io::Error, path: &Path, folder: &Path) -> Self {
        use io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BlobError::Full,
            ErrorKind::NotFound if !folder.exists() => BlobError::Gone(folder.to_owned()),
            ErrorKind::PermissionDenied => match owner_of_nearest(path) {
                Some((path, owner)) => BlobError::Denied { path, owner },
                None => BlobError::File { path: path.to_owned(), error },
            },
            _ => BlobError::File { path: path.to_owned(), error },
        }
    }
}

/// Returns the file itself, or the nearest folder above it that can be examined, with its owner.
fn owner_of_nearest(path: &Path) -> Option<(PathBuf, u32)> {
    use std::os::unix::fs::MetadataExt;
    path.ancestors().find_map(|path| {
        let found = std::fs::symlink_metadata(path).ok()?;
        Some((path.to_owned(), found.uid()))
    })
}

impl fmt::Display for BlobError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobError::Source(error) => {
                write!(formatter, "what was to be stored could not be read to its end: {error}")
            }
            BlobError::ContentType(text) => write!(
                formatter,
                "{text:?} cannot be kept as a media type: it must be one line of 1 to 255 visible ASCII characters"
            ),
            BlobError::Damaged(key) => write!(
                formatter,
                "the blob {key} is damaged: its content is not what was stored; delete it or restore it from a backup"
            ),
            BlobError::Altered(key) => write!(
                formatter,
                "the copy of the blob {key} comes back as something else; delete it there, and copy again"
            ),
            BlobError::Full => {
                formatter.write_str("the disk or this account's quota is full; free some space")
            }
            BlobError::Gone(folder) => write!(
                formatter,
                "the folder {} of the blobs is gone; restore it, or restart the site to begin with an empty one",
                folder.display()
            ),
            BlobError::Denied { path, owner } => write!(
                formatter,
                "{} belongs to another account (uid {owner}) or its permissions do not allow this; make the account \
                 that the site runs as its owner",
                path.display()
            ),
            BlobError::Foreign { folder, account } => write!(
                formatter,
                "the folder {} of the blobs belongs to another account (uid {account}), which could put others \
                 there; make the account that the site runs as its owner",
                folder.display()
            ),
            BlobError::Exposed { folder, mode } => write!(
                formatter,
                "other accounts can put files into {0} (mode {mode:o}); run `chmod 700 {0}` if only this site uses it",
                folder.display()
            ),
            BlobError::Read { key, error } => {
                write!(formatter, "the blob {key} cannot be read to its end: {error}")
            }
            BlobError::Cut { key, problem } => {
                write!(formatter, "the blob {key} did not arrive to its end: {problem}")
            }
            BlobError::TooLarge(max) => {
                write!(formatter, "it is larger than {max} bytes, the most that can be stored")
            }
            BlobError::NoUpload(key) => write!(
                formatter,
                "there is no such upload of the blob {key}: it was cancelled, or not finished within a day; begin again"
            ),
            BlobError::Incomplete { key, part } => write!(
                formatter,
                "the upload of the blob {key} is not complete: part {part} is missing or has another length"
            ),
            BlobError::Settings { problem, .. } => {
                write!(formatter, "the S3 store cannot be used: {problem}")
            }
            BlobError::Unreachable { server, problem } => {
                write!(formatter, "the S3 server {server} cannot be used: {problem}")
            }
            BlobError::Busy => formatter.write_str(
                "as many requests or uploads to the S3 server as allowed were in flight for 10 s; if that happens \
                 often, allow more of them",
            ),
            BlobError::Refused { server, status, code, message, clock_difference } => {
                write!(formatter, "the S3 server {server} refused a request ({status}")?;
                // The response to a HEAD has no body.
                match code.is_empty() {
                    true => formatter.write_str(")")?,
                    false => write!(formatter, " {code}): {message}")?,
                }
                match clock_difference {
                    Some(seconds) => {
                        let minutes = seconds.unsigned_abs() / 60;
                        let side = if *seconds > 0 { "behind" } else { "ahead of" };
                        write!(
                            formatter,
                            "; this machine's clock is {minutes} min {side} the server's, so correct it"
                        )
                    }
                    None => formatter.write_str(cure_of(*status, code)),
                }
            }
            BlobError::File { path, error } => {
                write!(formatter, "{} cannot be used: {error}", path.display())
            }
        }
    }
}

/// Returns what to do, where the server's message does not say it.
fn cure_of(status: u16, code: &str) -> &'static str {
    match (status, code) {
        (_, "NoSuchBucket") => "; create the bucket, or correct its name",
        (_, "RequestTimeTooSkewed") => "; correct this machine's clock",
        (_, "AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect") => {
            "; correct the region, and the endpoint if it names one"
        }
        (401 | 403, _) => "; check access key, secret key, and what they allow",
        _ => "",
    }
}

impl Error for BlobError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BlobError::Source(error) => Some(&**error),
            BlobError::Read { error, .. } | BlobError::File { error, .. } => Some(error),
            _ => None,
        }
    }
}
