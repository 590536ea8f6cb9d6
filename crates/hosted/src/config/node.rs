//! The names of machines that serve one site.

use std::fs;

/// Bytes of a name: it is in each line of the log.
const MAX_BYTES: usize = 32;

/// Returns whether a text can be the name of a machine.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Returns the host's name, as the name of a machine.
pub fn of_host() -> String {
    // Without /proc, machines have to be named in the settings.
    cleaned(fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim())
}

fn cleaned(host: &str) -> String {
    let replace = |byte| if is_allowed(byte) { char::from(byte) } else { '-' };
    let name: String = host.bytes().map(replace).take(MAX_BYTES).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_a_name() {
        let long = "a".repeat(64);
        for (host, expected) in [
            ("web-1", "web-1"),
            ("web1.example.org", "web1-example-org"),
            ("a b\n", "a-b-"),
            ("", "unnamed"),
            (&*long, &long[..MAX_BYTES]),
        ] {
            assert_eq!(cleaned(host), expected);
            assert!(is_name(expected));
        }
        for text in ["", "a b", "a.b", "ä", &long] {
            assert!(!is_name(text), "{text}");
        }
    }
}
