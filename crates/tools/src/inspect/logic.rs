//! What may be shown of a request, and what Linux reports about a process: text in, values out.
//!
//! Of headers and variables, only known harmless values are shown; of all others, only the names.
//!
//! Nothing here reads a request or a file; `mod.rs` does.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// What replaces a hidden value. Its length is a secret, too.
pub(crate) const HIDDEN: &str = "(hidden)";

/// The variables whose values are shown: RFC 3875's, and those that Apache, nginx, lighttpd, caddy, haproxy and
/// LiteSpeed add. An account has its own variables besides (`DB_PASS`, `PGPASS`, `DATABASE_URL`), and no list
/// of secret names could ever be complete, so the harmless ones are listed.
const KNOWN_VARIABLES: &[&str] = &[
    "AUTH_TYPE",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "CONTEXT_DOCUMENT_ROOT",
    "CONTEXT_PREFIX",
    "DOCUMENT_ROOT",
    "DOCUMENT_URI",
    "FCGI_ROLE",
    "GATEWAY_INTERFACE",
    "H2PUSH",
    "H2_PUSH",
    "H2_STREAM_ID",
    "H2_STREAM_TAG",
    "HANDLER",
    "HOME",
    "HOSTNAME",
    "HTTP2",
    "HTTPS",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "LSWS_EDITION",
    "PATH",
    "PATH_INFO",
    "PATH_TRANSLATED",
    "PWD",
    "QUERY_STRING",
    "REMOTE_ADDR",
    "REMOTE_HOST",
    "REMOTE_IDENT",
    "REMOTE_PORT",
    "REMOTE_USER",
    "REQUEST_METHOD",
    "REQUEST_SCHEME",
    "REQUEST_URI",
    "SCRIPT_FILENAME",
    "SCRIPT_NAME",
    "SCRIPT_URI",
    "SCRIPT_URL",
    "SERVER_ADDR",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SERVER_SIGNATURE",
    "SERVER_SOFTWARE",
    "SHELL",
    "SHLVL",
    "SSL_CIPHER",
    "SSL_CIPHER_ALGKEYSIZE",
    "SSL_CIPHER_USEKEYSIZE",
    "SSL_PROTOCOL",
    "SSL_TLS_SNI",
    "STATUS",
    "TEMP",
    "TERM",
    "TMP",
    "TMPDIR",
    "TZ",
    "UNIQUE_ID",
    "URL",
    "USER",
    "X_LSCACHE",
];

/// The headers whose values are shown, spelled like variables: those of browsers and of proxies. A proxy may
/// authenticate itself by a header of its own (`X-Origin-Verify`).
const KNOWN_HEADERS: &[&str] = &[
    "ACCESS_CONTROL_REQUEST_HEADERS",
    "ACCESS_CONTROL_REQUEST_METHOD",
    "CACHE_CONTROL",
    "CDN_LOOP",
    "CF_CONNECTING_IP",
    "CF_IPCOUNTRY",
    "CF_RAY",
    "CF_VISITOR",
    "CLIENT_IP",
    "CONNECTION",
    "CONTENT_ENCODING",
    "CONTENT_LANGUAGE",
    "CONTENT_LENGTH",
    "CONTENT_RANGE",
    "CONTENT_TYPE",
    "DATE",
    "DEPTH",
    "DNT",
    "EXPECT",
    "FASTLY_CLIENT_IP",
    "FORWARDED",
    "FROM",
    "FRONT_END_HTTPS",
    "HOST",
    "HTTPS",
    "IF_MATCH",
    "IF_MODIFIED_SINCE",
    "IF_NONE_MATCH",
    "IF_RANGE",
    "IF_UNMODIFIED_SINCE",
    "KEEP_ALIVE",
    "MAX_FORWARDS",
    "ORIGIN",
    "PRAGMA",
    "PRIORITY",
    "PROXY_CONNECTION",
    "RANGE",
    "REFERER",
    "SAVE_DATA",
    "TE",
    "TRAILER",
    "TRANSFER_ENCODING",
    "TRUE_CLIENT_IP",
    "UPGRADE",
    "UPGRADE_INSECURE_REQUESTS",
    "USER_AGENT",
    "VIA",
    "X_CLIENT_IP",
    "X_CLUSTER_CLIENT_IP",
    "X_FORWARDED",
    "X_FORWARDED_FOR",
    "X_FORWARDED_HOST",
    "X_FORWARDED_PORT",
    "X_FORWARDED_PROTO",
    "X_FORWARDED_PROTOCOL",
    "X_FORWARDED_SCHEME",
    "X_FORWARDED_SERVER",
    "X_FORWARDED_SSL",
    "X_HTTPS",
    "X_ORIGINAL_URL",
    "X_REAL_IP",
    "X_REQUESTED_WITH",
    "X_REQUEST_ID",
    "X_REWRITE_URL",
    "X_URL_SCHEME",
    "X_VARNISH",
];

/// Name prefixes of more such headers and variables.
const KNOWN_PREFIXES: &[&str] = &["ACCEPT", "SEC_CH_", "SEC_FETCH_", "SEC_GPC", "TOOLSHED_"];

/// What the names of secrets contain, where names are arbitrary: in queries, in cookies, in settings.
const SECRET_WORDS: &[&str] = &[
    "AUTH",
    "COOKIE",
    "CREDENTIAL",
    "CSRF",
    "DSN",
    "HASH",
    "JWT",
    "KEY",
    "NONCE",
    "PASS",
    "PWD",
    "SECRET",
    "SESSION",
    "SIGNATURE",
    "TOKEN",
];

/// The same, for words that are part of harmless ones: only as a whole word, between hyphens and the like.
const SECRET_WHOLE_WORDS: &[&str] = &["CODE", "OTP", "PIN", "PW", "SALT", "SID", "SIG", "XSRF"];

/// Whether something with this name is secret: a parameter or a setting, in any case and with hyphens or
/// underscores.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let mut words = name.split(|character: char| !character.is_alphanumeric());
    SECRET_WORDS.iter().any(|word| name.contains(word))
        || words.any(|word| SECRET_WHOLE_WORDS.contains(&word))
}

/// Returns what may be shown of a web server variable's value.
pub(crate) fn mask_variable(name: &str, value: &str) -> String {
    let name = variable_name(name);
    // After an internal redirect Apache sets every variable again, with this prefix.
    let name = name.trim_start_matches("REDIRECT_");
    match name.strip_prefix("HTTP_") {
        Some(header) => mask_header(header, value),
        None if KNOWN_VARIABLES.contains(&name) => without_secrets(value),
        None => shown_if_harmless(name, value),
    }
}

/// Returns what may be shown of a header's value. For cookies the names are shown, for `Authorization` the
/// scheme.
pub(crate) fn mask_header(name: &str, value: &str) -> String {
    match &*variable_name(name) {
        "AUTHORIZATION" | "PROXY_AUTHORIZATION" => match value.split_once(' ') {
            Some((scheme, _))
                if ["basic", "bearer", "digest"].contains(&&*scheme.to_ascii_lowercase()) =>
            {
                format!("{scheme} {HIDDEN}")
            }
            _ => HIDDEN.to_owned(),
        },
        "COOKIE" if value.contains('=') => {
            let cookies = value.split(';').filter_map(|cookie| cookie.split_once('='));
            let cookies: Vec<_> =
                cookies.map(|(name, _)| format!("{}={HIDDEN}", name.trim())).collect();
            cookies.join("; ")
        }
        name if KNOWN_HEADERS.contains(&name) => without_secrets(value),
        name => shown_if_harmless(name, value),
    }
}

/// For a name that is in no list: only if its prefix says what it is.
fn shown_if_harmless(name: &str, value: &str) -> String {
    let is_known = KNOWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if is_known && !is_secret(name) { without_secrets(value) } else { HIDDEN.to_owned() }
}

fn variable_name(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

/// How often a URL may be encoded in another's query before it is masked without being decoded.
const DEPTH: usize = 3;

/// Masks the secrets in a text that is shown: parameters with secret names, as in `?token=…` or `host=a
/// password=…`, and the user name and password before a URL's host. A value that contains such a thing
/// percent-encoded (`?next=%2Fa%3Ftoken%3D…`) is masked as a whole.
pub(crate) fn without_secrets(text: &str) -> String {
    masked(text, DEPTH)
}

fn masked(text: &str, depth: usize) -> String {
    if is_quoted(text) && is_secret(&percent_decode_str(text).decode_utf8_lossy()) {
        return HIDDEN.to_owned();
    }
    let text = without_userinfo(text);
    text.split_inclusive(DELIMITERS).map(|parameter| masked_parameter(parameter, depth)).collect()
}

/// Whether this is JSON, or a connection string with quotes or with spaces around `=`. It is not taken
/// apart: with anything like the name of a secret in it, all of it is hidden.
fn is_quoted(text: &str) -> bool {
    text.contains(['"', '\'', '{']) || text.contains(" =") || text.contains("= ")
}

/// What ends a parameter: in a query, a fragment, a list, a connection string.
const DELIMITERS: [char; 8] = ['?', '&', ';', '#', ',', ' ', '\t', '\n'];

/// Masks one parameter, with the character that ends it.
fn masked_parameter(parameter: &str, depth: usize) -> Cow<'_, str> {
    let end = parameter.strip_suffix(DELIMITERS).unwrap_or(parameter).len();
    let (whole, delimiter) = parameter.split_at(end);
    let Some((name, value)) = whole.split_once('=') else { return parameter.into() };
    let inner = percent_decode_str(value).decode_utf8_lossy();
    let is_hidden = is_secret(&percent_decode_str(name).decode_utf8_lossy())
        || inner != value
            && depth.checked_sub(1).is_none_or(|depth| masked(&inner, depth) != inner);
    if is_hidden { format!("{name}={HIDDEN}{delimiter}").into() } else { parameter.into() }
}

/// Masks everything between `://` and the last `@` before the path.
fn without_userinfo(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown += before;
        shown += "://";
        let end = after
            .find(|character: char| "/?#\"'<>".contains(character) || character.is_whitespace());
        let authority = &after[..end.unwrap_or(after.len())];
        rest = match authority.rfind('@') {
            Some(at) => {
                shown += HIDDEN;
                &after[at..]
            }
            None => after,
        };
    }
    if shown.is_empty() { text.into() } else { (shown + rest).into() }
}

/// One line of `/proc/self/limits`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Limit {
    pub(crate) name: String,
    /// A number or `unlimited`; the process may raise it to `hard`.
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

/// Returns for how many seconds a process has run: from `/proc/self/stat`, whose field 22 is its start time in
/// hundredths of a second since boot, and `/proc/uptime`.
pub(crate) fn seconds_running(stat: &str, uptime: &str) -> Option<u64> {
    /// The unit of `/proc`'s times on every current Linux (`USER_HZ`).
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
