//! What may be shown of a request, and what Linux says about a process: text in, values out.
//!
//! Nothing here reads a request or a file; `mod.rs` does.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// What stands in the place of a secret. Its length is a secret too.
pub(crate) const HIDDEN: &str = "(hidden)";

/// What the name of a secret has in it. `PHP_AUTH_PW` is where some servers put the password.
const SECRET_WORDS: &[&str] = &[
    "AUTHORIZATION",
    "AUTH_PW",
    "COOKIE",
    "CREDENTIAL",
    "CSRF",
    "KEY",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "SECRET",
    "SESSION",
    "SIGNATURE",
    "TOKEN",
];

/// Tells whether something with this name is nobody's business: a header, a variable, a parameter, in
/// any case and with hyphens or underscores.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace('-', "_");
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Returns what may be shown of the value of a header or variable. Of cookies the names are shown, of
/// `Authorization` its scheme; in all other values, parameters with secret names are masked.
pub(crate) fn shown(name: &str, value: &str) -> String {
    if !is_secret(name) {
        return without_secret_parameters(value);
    }
    let upper = name.to_ascii_uppercase().replace('-', "_");
    if upper.ends_with("AUTHORIZATION") {
        return match value.split_once(' ') {
            Some((scheme, _))
                if ["basic", "bearer", "digest"].contains(&&*scheme.to_ascii_lowercase()) =>
            {
                format!("{scheme} {HIDDEN}")
            }
            _ => HIDDEN.to_owned(),
        };
    }
    if upper.ends_with("COOKIE") && value.contains('=') {
        let cookies = value.split(';').filter_map(|cookie| cookie.split_once('='));
        let cookies: Vec<_> =
            cookies.map(|(name, _)| format!("{}={HIDDEN}", name.trim())).collect();
        return cookies.join("; ");
    }
    HIDDEN.to_owned()
}

/// Masks parameters with secret names in a query, or in an address with a query: `?token=…`. A value
/// that holds such an address itself (`?next=%2Fa%3Ftoken%3D…`) is masked as a whole.
pub(crate) fn without_secret_parameters(text: &str) -> String {
    text.split_inclusive(['?', '&', ';', '#']).map(masked_parameter).collect()
}

/// Masks one parameter, with the character that ends it.
fn masked_parameter(parameter: &str) -> Cow<'_, str> {
    let end = parameter.strip_suffix(['?', '&', ';', '#']).unwrap_or(parameter).len();
    let (parameter, delimiter) = parameter.split_at(end);
    let Some((name, value)) = parameter.split_once('=') else {
        return format!("{parameter}{delimiter}").into();
    };
    let inner = percent_decode_str(value).decode_utf8_lossy();
    let is_hidden = is_secret(&percent_decode_str(name).decode_utf8_lossy())
        || inner != value && without_secret_parameters(&inner) != inner;
    let value = if is_hidden { HIDDEN } else { value };
    format!("{name}={value}{delimiter}").into()
}

/// One line of `/proc/self/limits`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Limit {
    pub(crate) name: String,
    /// A number or `unlimited`; the process may raise it up to `hard`.
    pub(crate) soft: String,
    pub(crate) hard: String,
    /// May be empty.
    pub(crate) unit: String,
}

/// Reads `/proc/self/limits`. Its columns begin where their titles do; lines that do not fit are left
/// out.
pub(crate) fn limits(text: &str) -> Vec<Limit> {
    let mut lines = text.lines();
    let title = lines.next().unwrap_or("");
    let column = |title_of: &str| title.find(title_of);
    let (Some(soft), Some(hard), Some(unit)) =
        (column("Soft Limit"), column("Hard Limit"), column("Units"))
    else {
        return Vec::new();
    };
    let limit = |line: &str| {
        let part = |part: Option<&str>| Some(part?.trim().to_owned());
        Some(Limit {
            name: part(line.get(..soft))?.trim_start_matches("Max ").to_owned(),
            soft: part(line.get(soft..hard))?,
            hard: part(line.get(hard..unit.min(line.len())))?,
            unit: part(line.get(unit..)).unwrap_or_default(),
        })
    };
    lines.filter_map(limit).collect()
}

/// Finds a size in `/proc/self/status` (`VmRSS: 1234 kB`), in bytes.
pub(crate) fn memory(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Returns for how many seconds a process has run: from `/proc/self/stat`, where field 22 says when it
/// began in hundredths of a second since the machine did, and `/proc/uptime`.
pub(crate) fn seconds_running(stat: &str, uptime: &str) -> Option<u64> {
    /// The unit of `/proc`'s times on every Linux of today (`USER_HZ`).
    const TICKS_A_SECOND: f64 = 100.0;
    // The second field is the program's name in parentheses, and may have spaces and more of them.
    let (_, fields) = stat.rsplit_once(") ")?;
    let began: f64 = fields.split(' ').nth(22 - 3)?.parse().ok()?;
    let now: f64 = uptime.split(' ').next()?.parse().ok()?;
    Some((now - began / TICKS_A_SECOND).max(0.0) as u64)
}

/// Writes `3 s`, `2 min 5 s`, `3 h 0 min`, `2 d 4 h`.
pub(crate) fn duration_in_words(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Writes `512 bytes`, `3.5 MiB`.
pub(crate) fn size_in_words(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["bytes", "KiB", "MiB"] {
        if size < 1024.0 {
            return if unit == "bytes" {
                format!("{bytes} bytes")
            } else {
                format!("{size:.1} {unit}")
            };
        }
        size /= 1024.0;
    }
    format!("{size:.1} GiB")
}
