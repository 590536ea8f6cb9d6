//! Parts of a file: the header `Range` (RFC 9110 §14).
//!
//! Text in, ranges out; `file_request.rs` evaluates the other headers.

use std::ops::Range;

/// How many ranges one request may ask for. Readers of PDF and ZIP files ask for two or three; an attack with many
/// tiny ones gets the whole file.
const MAX_RANGES: usize = 16;

/// What a `Range` header means for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The whole file: the header is not understood, or asks for more than the file.
    Whole,
    /// These parts, none of them empty, in the order of the header.
    Parts(Vec<Range<u64>>),
    /// Every range is outside of the file: 416.
    Nothing,
}

/// Parses a `Range` header for a file of this length.
///
/// An invalid header is ignored (RFC 9110 §14.2), as are ranges that together are longer than the file, so that a
/// response is never longer than the file.
pub(crate) fn parse(header: &str, length: u64) -> Wanted {
    let Some((unit, ranges)) = header.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let mut parts = Vec::new();
    let mut named = 0;
    for range in ranges.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        named += 1;
        match parse_one(range, length) {
            Some(part) if named <= MAX_RANGES => parts.extend(part),
            _ => return Wanted::Whole,
        }
    }
    if named == 0 || bytes_of(&parts) > length {
        Wanted::Whole
    } else if parts.is_empty() {
        Wanted::Nothing
    } else {
        Wanted::Parts(parts)
    }
}

fn bytes_of(parts: &[Range<u64>]) -> u64 {
    parts.iter().map(|part| part.end - part.start).fold(0, u64::saturating_add)
}

/// Parses `0-99`, `100-` or `-100`. `None`: invalid; `Some(None)`: outside of the file.
fn parse_one(range: &str, length: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    let part = match (first.is_empty(), last.is_empty()) {
        (true, true) => return None,
        (true, false) => length.saturating_sub(number(last)?)..length,
        (false, true) => number(first)?..length,
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            first..last.saturating_add(1).min(length)
        }
    };
    Some((part.start < part.end).then_some(part))
}

/// Parses a number that consists of digits only. One that is too large saturates.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_file_of_ten_bytes() {
        let part = |range| Wanted::Parts(vec![range]);
        for (header, expected) in [
            ("bytes=0-4", part(0..5)),
            ("Bytes = 0-4", part(0..5)),
            ("bytes=5-", part(5..10)),
            ("bytes=-3", part(7..10)),
            ("bytes=-99", part(0..10)),
            ("bytes=0-99", part(0..10)),
            ("bytes=9-9", part(9..10)),
            ("bytes=0-99999999999999999999999", part(0..10)),
            ("bytes=0-0,-1", Wanted::Parts(vec![0..1, 9..10])),
            ("bytes=5-6, 0-1 ,", Wanted::Parts(vec![5..7, 0..2])),
            ("bytes=0-1,20-30", part(0..2)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=20-30,40-", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=0-9,0-9", Wanted::Whole),
            ("bytes=0-,5-", Wanted::Whole),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=0-4,x", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=--1", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("lines=0-4", Wanted::Whole),
        ] {
            assert_eq!(parse(header, 10), expected, "{header}");
        }
        assert_eq!(parse("bytes=0-", 0), Wanted::Nothing);
        assert_eq!(parse(&format!("bytes={}", "0-0,".repeat(17)), 100), Wanted::Whole);
    }
}
