//! Sizes and times as people write them: `128 KiB`, `5 min`. Read and written by the same two lists.

use std::time::Duration;

/// Units of a size, largest first, in bytes. A bare number is bytes.
const SIZES: &[(&str, u64)] = &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Units of a time, largest first, in seconds. A bare number is seconds.
const TIMES: &[(&str, u64)] = &[("h", 3600), ("min", 60), ("s", 1)];

/// Reads `128 KiB`, `128KiB` or `131072`.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    parse(text, SIZES)
}

/// Reads `5 min`, `90 s` or `90`.
pub fn parse_time(text: &str) -> Option<Duration> {
    parse(text, TIMES).map(Duration::from_secs)
}

/// Writes a size in the largest unit that leaves a whole number.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, SIZES)
}

/// Writes a time in the largest unit that leaves a whole number.
pub(super) fn show_time(time: Duration) -> String {
    show(time.as_secs(), TIMES)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let factor = match unit {
        "" => 1,
        _ => units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let fitting =
        units.iter().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    let (unit, factor) = fitting.or(units.last()).copied().unwrap_or(("", 1));
    format!("{} {unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("128 KiB", Some(128 << 10)),
            ("128KiB", Some(128 << 10)),
            (" 1 gib ", Some(1 << 30)),
            ("131072", Some(131_072)),
            ("0", Some(0)),
            ("7 B", Some(7)),
            ("", None),
            ("KiB", None),
            ("-1", None),
            ("1.5 MiB", None),
            ("128 KB", None),
            ("99999999999 GiB", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text:?}");
        }
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("90", Some(90)),
            ("90 s", Some(90)),
            ("5 min", Some(300)),
            ("2h", Some(7200)),
            ("5 parsecs", None),
            ("5m", None),
            ("min", None),
        ] {
            assert_eq!(parse_time(text), expected.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn written_quantities_parse_to_the_same_value() {
        for value in [0, 1, 59, 60, 90, 300, 3600, 86_400, 1023, 1024, 65_536, 1 << 30] {
            assert_eq!(parse_size(&show_size(value)), Some(value));
            let time = Duration::from_secs(value);
            assert_eq!(parse_time(&show_time(time)), Some(time));
        }
        assert_eq!(show_size(128 << 10), "128 KiB");
        assert_eq!(show_time(Duration::from_secs(90)), "90 s");
    }
}
