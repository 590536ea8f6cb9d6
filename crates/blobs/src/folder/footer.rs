//! What is known of a blob, as the last bytes of its file: so content and details are replaced in one step.
//!
//! ```text
//! toolshed blob 1
//! length 12345
//! sha256 0123…
//! expires 1790000000
//! upload 0123…
//! content-type text/plain
//! ```
//!
//! and spaces up to [`BYTES`]. `expires` is missing for a blob that stays, `upload` for one that was put.

use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use data_encoding::HEXLOWER;

use crate::blob::{Details, time_at};

/// The length of every footer. A content type has at most 255 bytes, the rest needs less than 210.
pub(super) const BYTES: u64 = 512;

const MAGIC: &str = "toolshed blob 1";

/// The SHA-256 of a content.
pub(super) type Checksum = [u8; 32];

/// What a footer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) details: Details,
    pub(super) checksum: Checksum,
    /// The id of the upload that has brought it.
    pub(super) upload: Option<String>,
}

/// Writes a footer.
pub(super) fn format(
    length: u64,
    checksum: &[u8],
    expires: Option<u64>,
    upload: Option<&str>,
    content_type: &str,
) -> String {
    let mut text = format!("{MAGIC}\nlength {length}\nsha256 {}\n", HEXLOWER.encode(checksum));
    if let Some(expires) = expires {
        // Writing to a string does not fail.
        let _ = writeln!(text, "expires {expires}");
    }
    if let Some(upload) = upload {
        let _ = writeln!(text, "upload {upload}");
    }
    text = text + "content-type " + content_type + "\n";
    let spaces = usize::try_from(BYTES).unwrap_or_default() - text.len() - 1;
    text + &" ".repeat(spaces) + "\n"
}

/// Reads the footer of a file; `None` if it has none that fits its length.
///
/// # Errors
///
/// If the file cannot be read.
pub(super) fn read(file: &File) -> io::Result<Option<Footer>> {
    let metadata = file.metadata()?;
    let Some(length) = metadata.len().checked_sub(BYTES) else { return Ok(None) };
    let mut bytes = [0; BYTES as usize];
    match file.read_exact_at(&mut bytes, length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let modified = metadata.modified()?;
    let footer = std::str::from_utf8(&bytes).ok().and_then(|text| parse(text, modified));
    Ok(footer.filter(|footer| footer.details.length == length))
}

fn parse(text: &str, modified: SystemTime) -> Option<Footer> {
    let lines = text.strip_prefix(MAGIC)?.lines();
    let value = |name| lines.clone().find_map(|line: &str| line.strip_prefix(name));
    let expires = match value("expires ") {
        Some(seconds) => time_at(seconds.parse().ok()?),
        None => None,
    };
    let checksum = value("sha256 ")?;
    Some(Footer {
        details: Details {
            length: value("length ")?.parse().ok()?,
            content_type: value("content-type ")?.to_owned(),
            expires,
            modified,
            tag: Some(checksum.to_owned()),
        },
        checksum: HEXLOWER.decode(checksum.as_bytes()).ok()?.try_into().ok()?,
        upload: value("upload ").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const MODIFIED: SystemTime = UNIX_EPOCH;

    fn read_back(text: &[u8]) -> Option<Footer> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        file.set_modified(MODIFIED).unwrap();
        read(&file).unwrap()
    }

    #[test]
    fn text_and_back() {
        let content_type = format!("text/plain; x={}", "y".repeat(240));
        let id = "0123456789abcdef".repeat(2);
        for (expires, upload, content_type) in
            [(None, None, "a/b"), (Some(u64::from(u32::MAX)), Some(&*id), &content_type)]
        {
            let text = format(7, &[0xab; 32], expires, upload, content_type);
            assert_eq!(text.len() as u64, BYTES);
            let details = Details {
                length: 7,
                content_type: content_type.to_owned(),
                expires: expires.map(|it| UNIX_EPOCH + Duration::from_secs(it)),
                modified: MODIFIED,
                tag: Some("ab".repeat(32)),
            };
            let file = ["content", &text].concat();
            let upload = upload.map(str::to_owned);
            let footer = Footer { details, checksum: [0xab; 32], upload };
            assert_eq!(read_back(file.as_bytes()), Some(footer));
            assert_eq!(read_back(&file.as_bytes()[1..]), None, "a byte is missing");
            assert_eq!(read_back(&file.as_bytes()[..file.len() - 1]), None, "a byte is missing");
        }
    }

    #[test]
    fn other_files_have_none() {
        for other in [&b""[..], b"short", &[b'x'; 512], &[0xff; 2000]] {
            assert_eq!(read_back(other), None);
        }
    }
}
