//! Every setting: its name, what it takes, its default, what it means and why its default is what it is.
//!
//! The file, the environment, `docs/configuration.md` and the tests all come from this one table. A key
//! is `idle_timeout` in `toolshed.toml` and `TOOLSHED_IDLE_TIMEOUT` in the environment. What a row can say is in
//! `key.rs`; values that are not a number, size, time or list are read in `custom.rs`.

use super::custom;
use super::key::{Key, Kind};

macro_rules! field {
    ($kind:ident, $range:expr, $($field:ident).+) => {
        Kind::$kind {
            range: $range,
            get: |settings| settings.$($field).+ as u64,
            // The range prevents truncation.
            set: |settings, value| settings.$($field).+ = value as _,
        }
    };
}

macro_rules! time_field {
    ($range:expr, $($field:ident).+) => {
        Kind::Time {
            range: $range,
            get: |settings| settings.$($field).+,
            set: |settings, value| settings.$($field).+ = value,
        }
    };
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const HOUR: u64 = 3600;

/// Every key: first those an owner sets, then limits in the order in which a request meets them.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "public",
        kind: Kind::List {
            write: "names of tools such as [\"all\"] or [\"checksum\"]",
            default: "[]",
            take: custom::public,
        },
        what: "Tools that need no login. `all` means every tool except those that expose the server's \
               environment (*inspect* and *diagnostics*), which have to be named as well: `[\"all\", \
               \"inspect\"]`.",
        why: "A tool uses the owner's disk, processor time and address, so every tool is private until it \
              is opened.",
    },
    Key {
        name: "password_hash",
        kind: Kind::Custom {
            write: "the line that `toolshed hash-password` prints \
                    (`toolshed set-password` writes it into toolshed.toml)",
            default: "none: nobody can log in",
            take: custom::password_hash,
        },
        what: "Hash of the owner's password. `toolshed set-password` sets it.",
        why: "The password cannot be recovered from it. The environment variables `APP_PASSWORD_HASH` \
              (such a hash) and `APP_PASSWORD` (the password itself) take precedence; under Apache, \
              `SetEnv` in .htaccess is used if nothing else is set. docs/login.md has all the ways.",
    },
    Key {
        name: "data",
        kind: Kind::Custom {
            write: "the path of a folder such as \"data\"",
            default: "`data` beside the program",
            take: custom::data,
        },
        what: "Folder of the site's state: `toolshed.db`, `secret.key`, `blobs`. Created when first needed, for \
               this account only. A relative path is resolved as for `log`.",
        why: "Several processes lock the database, so the file system has to support locks: a local disk, \
              or NFS with its lock service.",
    },
    Key {
        name: "database",
        kind: Kind::Custom {
            write: "a URL such as \"postgres://USER:PASSWORD@HOST/DATABASE\"",
            default: "the file `toolshed.db` in the folder `data`",
            take: custom::database,
        },
        what: "PostgreSQL database (10 or newer) that keeps what `toolshed.db` would: sessions, attempts, what \
               tools store. Then several machines can serve one site. The tables are made when they are first \
               used. Encrypted connections (TLS) are the default unless the server is on this machine; \
               docs/storing.md has all that the URL may contain.",
        why: "A file needs no server, and is faster. The URL may contain a password, so it is never shown.",
    },
    Key {
        name: "s3_endpoint",
        kind: Kind::Custom {
            write: "a URL such as \"https://s3.eu-central-1.amazonaws.com\"",
            default: "none: blobs are in the folder `blobs` in `data`",
            take: custom::s3_endpoint,
        },
        what: "S3-compatible store that keeps blobs: the large values of tools, such as uploads. With it go \
               `s3_bucket`, `s3_access_key` and `s3_secret_key`; docs/storing.md says more.",
        why: "A folder needs no server. Several machines that serve one site need a store that all can reach.",
    },
    Key {
        name: "s3_region",
        kind: Kind::Custom {
            write: "the name of a region such as \"eu-central-1\"",
            default: "`\"us-east-1\"`",
            take: custom::s3_region,
        },
        what: "Region of the S3 store, which is part of each signature.",
        why: "Most stores that are not AWS's accept the default; others say which one they expect.",
    },
    Key {
        name: "s3_bucket",
        kind: Kind::Custom {
            write: "the name of a bucket such as \"my-site\"",
            default: "none",
            take: custom::s3_bucket,
        },
        what: "Bucket in the S3 store. It has to exist.",
        why: "Creating one takes rights that the site does not need: it reads, writes, deletes and lists objects.",
    },
    Key {
        name: "s3_access_key",
        kind: Kind::Custom {
            write: "the access key that the store has issued",
            default: "none",
            take: custom::s3_access_key,
        },
        what: "Access key for the S3 store, its name for this site.",
        why: "It is never shown, like the secret key it belongs to.",
    },
    Key {
        name: "s3_secret_key",
        kind: Kind::Custom {
            write: "the secret key that the store has issued",
            default: "none",
            take: custom::s3_secret_key,
        },
        what: "Secret key for the S3 store.",
        why: "It signs requests and is never sent or shown.",
    },
    Key {
        name: "s3_prefix",
        kind: Kind::Custom {
            write: "the start of names with a slash at the end, such as \"my-site/\"",
            default: "none",
            take: custom::s3_prefix,
        },
        what: "What the names of all objects in the bucket start with.",
        why: "For a bucket that is used for other things, or for several sites.",
    },
    Key {
        name: "s3_style",
        kind: Kind::Custom {
            write: "\"path\" or \"virtual-host\"",
            default: "virtual-host for AWS, path for others",
            take: custom::s3_style,
        },
        what: "How addresses name the bucket: `https://ENDPOINT/BUCKET/…` (path) or \
               `https://BUCKET.ENDPOINT/…` (virtual-host).",
        why: "Nearly all stores know path, which needs neither names nor certificates for buckets. AWS has \
              announced to end it.",
    },
    Key {
        name: "s3_redirect",
        kind: Kind::Custom {
            write: "true or false",
            default: "true if `s3_endpoint` is https, otherwise false",
            take: custom::s3_redirect,
        },
        what: "Whether a visitor who downloads a blob is redirected to the S3 store, by an address that is \
               valid for five minutes. Otherwise the blob passes through the site.",
        why: "Large files then cost the site nothing. Visitors have to be able to reach the store: not so in \
              a private network, where stores mostly do without HTTPS.",
    },
    Key {
        name: "session_idle",
        kind: time_field!(60..=8760 * HOUR, session_idle),
        what: "Idle time after which the owner has to log in again.",
        why: "A week: long enough for a tool that is used now and then, short enough for a browser that \
              was left behind.",
    },
    Key {
        name: "session_longest",
        kind: time_field!(60..=8760 * HOUR, session_longest),
        what: "Time after which the owner has to log in again in any case.",
        why: "A month: a stolen cookie does not work forever.",
    },
    Key {
        name: "cookie_path",
        kind: Kind::Custom {
            write: "a path such as \"/\", only letters, digits and - . _ ~ %",
            default: "where the site is mounted",
            take: custom::cookie_path,
        },
        what: "Path that browsers send the login cookies to.",
        why: "Needed only if the login guards folders beside the site: then `/`. On a host where other \
              people have folders under the same name, they would receive the cookies too.",
    },
    Key {
        name: "https",
        kind: Kind::Custom {
            write: "\"redirect\" or \"optional\"",
            default: "`\"optional\"`",
            take: custom::https,
        },
        what: "Whether the site requires HTTPS: `redirect` sends visitors who use HTTP to the same address \
               over HTTPS, and raises the default of `hsts` to 4380 h, half a year. `/healthz`, `/readyz` and \
               local host names (localhost) are still answered over HTTP.",
        why: "Only the owner knows whether HTTPS works and will keep working. There are no redirect loops: \
              a request that shows in any way that the visitor used HTTPS (`X-Forwarded-Proto`, trusted or \
              not, or headers that browsers send only over HTTPS) is answered.",
    },
    Key {
        name: "hsts",
        kind: Kind::Custom {
            write: "a time from 0 s to 17520 h such as \"4380 h\"",
            default: "`\"24 h\"`; `\"4380 h\"` if `https` is redirect",
            take: custom::hsts,
        },
        what: "How long browsers are told to use only HTTPS (Strict-Transport-Security). 0 disables it.",
        why: "A day, because it applies to the whole host, including other sites on it, and nobody can \
              click through the warning about an expired certificate. Owners who set `https = \
              \"redirect\"` have committed to HTTPS and get half a year. docs/headers.md has the reasons.",
    },
    Key {
        name: "log",
        kind: Kind::Custom {
            write: "the path of a file such as \"logs/toolshed.log\"",
            default: "`logs/toolshed.log` beside the program if a web server started it, otherwise \
                      standard error",
            take: custom::log,
        },
        what: "File to append messages to. A missing folder is created; an existing one keeps its mode. A \
               relative path is relative to the configuration file, or to the current folder if set in the \
               environment.",
        why: "On a shared host the web server's own log is out of reach. Only the owner can read file and \
              folder, because messages contain visitors' addresses and paths.",
    },
    Key {
        name: "log_bytes",
        kind: Kind::Size {
            range: 64 << 10..=1 << 30,
            get: |settings| settings.log_bytes,
            set: |settings, bytes| settings.log_bytes = bytes,
        },
        what: "Size at which a log file is renamed to `….1` and a new one is started. The previous `….1` \
               is removed, so the log takes at most twice this.",
        why: "Hosts count disk space, and visitors can cause messages. Each process also limits the rate \
              of each kind of message: a burst of 100, then one every 5 s, with the number of those \
              suppressed. Under plain CGI each request is a process of its own, so this size is the only \
              limit there.",
    },
    Key {
        name: "listen",
        kind: Kind::Custom {
            write: "an address such as \"127.0.0.1:8080\" or \"unix:/run/toolshed.sock\"",
            default: "`127.0.0.1:8080` for `serve`; `fastcgi` has none",
            take: custom::listen,
        },
        what: "Where `serve` and `fastcgi` listen: HOST:PORT or unix:PATH. HOST is an IP address or \
               localhost. Ignored by a process that a web server started: it has the web server's socket.",
        why: "By default only this machine can connect: anyone who reaches a FastCGI socket can claim to \
        be anyone.",
    },
    Key {
        name: "workers",
        kind: Kind::Custom {
            write: "a number such as 2, a range such as \"1-4\", or \"auto\"",
            default: "`1`",
            take: custom::workers,
        },
        what: "Number of processes that `serve` and `fastcgi` keep for one socket. With 2 or more, or a \
               range, a supervisor starts them, replaces those that die, upgrades them one by one on \
               SIGHUP, and adjusts their number to the load within the range. `auto` is from 1 to the \
               number of processors.",
        why: "One process serves tens of thousands of requests per second. More are for tools that compute \
              for long in the event loop, and to use several processors. Ignored by a process that a web \
              server started: the web server decides how many there are.",
    },
    Key {
        name: "node",
        kind: Kind::Custom {
            write: "a name such as \"web-1\": letters, digits and -, at most 32",
            default: "the host's name if `database` is set, otherwise none",
            take: custom::node,
        },
        what: "Name of this machine, if several serve the site. It is in each line of the log, in `toolshed \
               check`, and among the facts that *inspect* shows; the references of errors differ between \
               machines with different names.",
        why: "Logs of several machines are read together. On one machine there is nothing to tell apart.",
    },
    Key {
        name: "base",
        kind: Kind::Custom {
            write: "a path such as \"/project\"",
            default: "found for each request",
            take: custom::base,
        },
        what: "Path the site is mounted at, as in URLs.",
        why: "Needed only where the web server's variables do not show it (below a folder behind nginx, \
              mod_proxy_fcgi, or any reverse proxy). A web server may also send the variable TOOLSHED_BASE \
              with each request, which takes precedence.",
    },
    Key {
        name: "trusted_proxies",
        kind: Kind::List {
            write: "addresses and networks such as [\"192.0.2.1\", \"10.0.0.0/8\"], or \"unix\"",
            default: "[]",
            take: custom::trusted_proxies,
        },
        what: "Proxies that are trusted to name the visitor's address and to report HTTPS \
               (`X-Forwarded-For`, `X-Forwarded-Proto`): IP addresses, networks such as `10.0.0.0/8`, and \
               `unix` for anyone who can connect to our Unix socket.",
        why: "Anyone can send these headers, so only named proxies are trusted.",
    },
    Key {
        name: "show_configuration_errors",
        kind: Kind::Bool {
            get: |settings| settings.show_configuration_errors,
            set: |settings, value| settings.show_configuration_errors = value,
        },
        what: "Whether the page that says the site is being set up also shows, to every visitor, what is \
               wrong.",
        why: "For owners who cannot read the log file. Off by default because the messages contain file \
              names and values. There is no exception for local visitors: behind a proxy everyone seems \
              to be local.",
    },
    Key {
        name: "max_connections",
        kind: field!(Count, 1..=65_536, server.max_connections),
        what: "Connections open at once. At the limit, accepting pauses and one connection is closed for \
               each that waits: from the address with the most, the longest idle, or one whose request is \
               incomplete. Never one whose request is being answered.",
        why: "Each costs a descriptor, and hosts commonly allow 1,024 of these.",
    },
    Key {
        name: "max_requests",
        kind: field!(Count, 1..=65_536, server.max_requests),
        what: "Requests in flight at once, over all connections. At the limit, a new request replaces one \
               whose body arrives slowly, or gets a 503 with `Retry-After`. At most three quarters are for \
               requests whose bodies are still arriving; of these, the address with the most is evicted \
               first.",
        why: "It bounds memory: each may hold `body_bytes` and `response_bytes`.",
    },
    Key {
        name: "requests_per_connection",
        kind: field!(Count, 1..=65_535, server.requests_per_connection),
        what: "Requests in flight at once on one FastCGI connection. Beyond it, the web server gets \
               `FCGI_OVERLOADED` (FastCGI 1.0 §5.5).",
        why: "Only web servers that multiplex requests on a connection come near it.",
    },
    Key {
        name: "params_bytes",
        kind: field!(Size, 8 * KIB..=16 * MIB, server.params_bytes),
        what: "Size of one FastCGI request's variables, including its headers. Beyond it, the response is \
               431.",
        why: "Twice the 64 KiB that mod_fcgid can send.",
    },
    Key {
        name: "http_head_bytes",
        kind: field!(Size, 8 * KIB..=16 * MIB, server.http_head_bytes),
        what: "Size of one request's head over HTTP. Beyond it, the response is 431.",
        why: "Web servers accept 8 to 64 KiB; large cookies are what fills a head.",
    },
    Key {
        name: "total_head_bytes",
        kind: field!(Size, 64 * KIB..=GIB, server.total_head_bytes),
        what: "Incomplete request heads and variables, over all connections together. At the limit, the \
               connection that holds the most is closed.",
        why: "Each may take `http_head_bytes` or `params_bytes`; a thousand visitors who never finish \
              would fill the memory. Heads that arrive in one piece do not count.",
    },
    Key {
        name: "body_bytes",
        kind: field!(Size, 4 * KIB..=GIB, server.body_bytes),
        what: "Bytes of a request's body held in memory until its handler reads them. Beyond it, the \
               connection is not read until the handler catches up.",
        why: "No body has to fit: larger ones stream. It covers what mod_fcgid accepts unless the host \
              raised `FcgidMaxRequestLen`.",
    },
    Key {
        name: "spilled_body_bytes",
        kind: field!(Size, 0..=1024 * GIB, server.spilled_body_bytes),
        what: "Bytes of one request's body that may wait in a temporary file. Beyond it, the body ends \
               with an error.",
        why: "Used only on a FastCGI connection that carries several requests at once, where not reading \
              one would delay the others.",
    },
    Key {
        name: "response_bytes",
        kind: field!(Size, 4 * KIB..=GIB, server.response_bytes),
        what: "Bytes of responses that may wait for one connection. Beyond it, the handlers that write to \
               that connection wait.",
        why: "Enough to keep a connection busy; a visitor who stops reading costs no more.",
    },
    Key {
        name: "unread_body_bytes",
        kind: field!(Size, 0..=1024 * GIB, server.unread_body_bytes),
        what: "Bytes of an unread body that are read and discarded after the response, before the \
               connection is closed.",
        why: "Closing at once would reset the connection, and the response would be lost.",
    },
    Key {
        name: "idle_timeout",
        kind: time_field!(1..=24 * HOUR, server.idle_timeout),
        what: "How long a keep-alive connection may be idle.",
        why: "Longer than web servers keep theirs (nginx 60 s), so that they close first and no request \
              meets a closed socket.",
    },
    Key {
        name: "head_timeout",
        kind: time_field!(1..=HOUR, server.head_timeout),
        what: "How long a request's head (over FastCGI, its variables) may take to arrive. After that the \
               connection is closed.",
        why: "A head is a few KiB and arrives quickly. Apache's `RequestReadTimeout` also starts at 20 s.",
    },
    Key {
        name: "receive_timeout",
        kind: time_field!(1..=24 * HOUR, server.receive_timeout),
        what: "How long a request's body may pause while the server waits for it. After that the response \
               is 408.",
        why: "mod_fcgid gives up after 40 s, most web servers after 60 s.",
    },
    Key {
        name: "send_timeout",
        kind: time_field!(1..=24 * HOUR, server.send_timeout),
        what: "How long a client may read nothing of a response that is ready. After that the connection \
               is closed.",
        why: "As long as most web servers wait.",
    },
    Key {
        name: "min_rate",
        kind: field!(Size, 0..=MIB, server.min_rate),
        what: "Bytes per second that a client must send of a body, or read of a response, on average: each \
               second that the server waits uses up a second of `receive_timeout` (or `send_timeout`), and \
               this many bytes earn it back. With 0, any byte earns back all of it.",
        why: "A phone may pause again and again, but a client that sends a byte every ten seconds is cut \
              off after a minute. Apache asks for 500 bytes per second; the worst mobile networks still \
              manage a few hundred.",
    },
    Key {
        name: "drain_timeout",
        kind: time_field!(0..=HOUR, server.drain_timeout),
        what: "How long requests in flight may continue after SIGTERM.",
        why: "A less patient web server kills the process earlier (mod_fcgid after 4 to 8 s).",
    },
    Key {
        name: "drain_wait",
        kind: time_field!(0..=HOUR, server.drain_wait),
        what: "How long `serve` and `fastcgi` continue as before after SIGTERM, while `/healthz` and `/readyz` \
               answer 503, so that a load balancer sends its requests elsewhere before the process drains. A second \
               signal ends the wait.",
        why: "Only behind a load balancer: the time in which it notices, its interval between checks times \
              the failures that it waits for. Ignored by a process that a web server started.",
    },
    Key {
        name: "idle_exit",
        kind: time_field!(1..=24 * HOUR, server.idle_exit),
        what: "Idle time after which a process that a web server started exits. Others (`serve`, \
               `fastcgi`) never do.",
        why: "mod_fcgid keeps the last three processes of a site forever, and hosts count processes. One \
              whose launcher was replaced by another file exits within seconds: mod_fcgid never uses it \
              again.",
    },
    Key {
        name: "max_isolated",
        kind: field!(Count, 1..=1024, server.max_isolated),
        what: "Isolated requests in flight at once: each is answered by a child process of its own. Others \
               wait in a queue.",
        why: "Shared hosts limit processes: 20 to 100 per account are common, and several of this program \
              may run.",
    },
    Key {
        name: "isolated_wait",
        kind: time_field!(0..=HOUR, server.isolated_wait),
        what: "How long an isolated request waits for a permit, or for a host that cannot create a process \
               at the moment (\"Resource temporarily unavailable\"). Beyond it, the response is 503 with \
               `Retry-After`.",
        why: "Visitors put up with a wait that long; and together with `isolated_time` it is less than the 40 \
              s after which mod_fcgid gives up.",
    },
    Key {
        name: "isolated_cpu",
        kind: time_field!(1..=24 * HOUR, server.isolated_cpu),
        what: "Processor time of an isolated request; a tool may ask for more. Beyond it, the response is \
               504, and the log says so.",
        why: "In most tools a longer computation is a mistake, and hosts kill processes that compute for \
              too long.",
    },
    Key {
        name: "isolated_time",
        kind: time_field!(1..=24 * HOUR, server.isolated_time),
        what: "Time of an isolated request, not counting the time it waits for the visitor to send or \
               receive; a tool may ask for more. Beyond it, the response is 504.",
        why: "Less than the 40 to 60 s after which web servers give up with a page of their own.",
    },
    Key {
        name: "isolated_memory",
        kind: field!(Size, MIB..=1024 * GIB, server.isolated_memory),
        what: "Memory of an isolated request beyond what the program uses; a tool may ask for more. Beyond \
               it, allocations fail, which is a 500 with most tools.",
        why: "When an account uses too much memory, its host kills whichever process it likes.",
    },
    Key {
        name: "isolated_file_size",
        kind: field!(Size, 0..=1024 * GIB, server.isolated_file_size),
        what: "Largest file an isolated request may write; a tool may ask for more. Beyond it, the \
               response is 500.",
        why: "A loop that writes would fill the account's disk quota.",
    },
    Key {
        name: "crash_guard",
        kind: Kind::Bool {
            get: |settings| settings.server.crash_guard,
            set: |settings, value| settings.server.crash_guard = value,
        },
        what: "Whether a crash of a tool (bad memory access, abort, stack overflow) is answered: 500 for \
               its own request, 503 for the others, and a restart in place. A tool that crashes 3 times in \
               30 s is quarantined: its requests get 503 for a minute.",
        why: "Without it the process dies, its requests are lost, and mod_fcgid starts fewer and fewer new \
              ones. Turn it off to examine a crash with a debugger.",
    },
    Key {
        name: "watchdog",
        kind: Kind::Time {
            range: 0..=HOUR,
            get: |settings| settings.server.watchdog.unwrap_or_default(),
            set: |settings, value| {
                settings.server.watchdog = Some(value).filter(|value| !value.is_zero());
            },
        },
        what: "How long one tool may stall the event loop by computing without a pause before its request \
               gets 504 and the process restarts in place. 0 is forever. Needs `crash_guard`.",
        why: "There is one thread: an endless loop would end the site. Less than web servers wait for a \
              response (mod_fcgid 40 s, nginx 60 s).",
    },
    Key {
        name: "memory",
        kind: Kind::Size {
            range: 0..=1024 * GIB,
            get: |settings| settings.server.memory.unwrap_or(0),
            set: |settings, value| {
                settings.server.memory = Some(value).filter(|value| *value > 0);
            },
        },
        what: "Address space the process may use beyond what it has when it starts to serve. A tool that \
               asks for more gets 500, as after a crash. 0 is no limit.",
        why: "Hosts give an account about 1 GiB and kill the process that exceeds it, with all its \
              requests. Bodies stream, so an ordinary request needs a few hundred KiB.",
    },
];

impl Key {
    /// Returns the key of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::Settings;
    use crate::config::problem::Location;
    use crate::config::value::Value;

    fn location() -> Location {
        Location::Variable("TEST".to_owned())
    }

    #[test]
    fn every_key_is_described_and_unique() {
        let mut seen = HashSet::new();
        for key in KEYS {
            let name = key.name;
            assert!(seen.insert(name), "{name} is in the table twice");
            let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
            assert!(name.bytes().all(is_plain), "{name}");
            for text in [key.what, key.why] {
                assert!(text.ends_with('.') && !text.contains("  "), "{name}: {text}");
            }
            assert!(!key.write().ends_with('.'), "{name}");
        }
    }

    #[test]
    fn defaults_that_are_values_are_accepted_and_change_nothing() {
        for key in KEYS.iter().filter(|key| key.default_in_words().starts_with('`')) {
            let default = key.default_in_words();
            let Some(written) = default.strip_prefix('`').and_then(|text| text.strip_suffix('`'))
            else {
                continue;
            };
            let text = format!("{} = {written}", key.name);
            let table = toml::de::DeTable::parse(&text).unwrap();
            let value = Value::from_toml(table.get_ref()[key.name].get_ref());
            let mut settings = Settings::default();
            assert_eq!(key.take(&mut settings, &value, &location()), Ok(()), "{text}");
            assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()), "{text}");
            assert_eq!(key.default_in_words(), default, "{text}");
        }
    }

    #[test]
    fn every_key_accepts_its_limits_and_nothing_beyond() {
        for key in KEYS {
            let (range, unit) = match &key.kind {
                Kind::Count { range, .. } => (range, ""),
                Kind::Size { range, .. } => (range, " B"),
                Kind::Time { range, .. } => (range, " s"),
                Kind::Bool { .. } | Kind::List { .. } | Kind::Custom { .. } => continue,
            };
            let take = |number: u64| {
                let value = Value::Text(format!("{number}{unit}"));
                key.take(&mut Settings::default(), &value, &location())
            };
            assert_eq!(take(*range.start()), Ok(()), "{}", key.name);
            assert_eq!(take(*range.end()), Ok(()), "{}", key.name);
            assert!(take(range.end() + 1).is_err(), "{}", key.name);
            assert!(*range.start() == 0 || take(range.start() - 1).is_err(), "{}", key.name);
        }
    }

    #[test]
    fn every_key_rejects_nonsense_with_advice() {
        let nonsense = [
            Value::Text("5 parsecs".to_owned()),
            Value::Number(-1),
            Value::List(vec!["quark".to_owned()]),
            Value::Other("a table"),
        ];
        for key in KEYS {
            for value in &nonsense {
                // A file may have any name, and so may a folder.
                if ["log", "data"].contains(&key.name) && *value == nonsense[0] {
                    continue;
                }
                let mut settings = Settings::default();
                let advice = key.take(&mut settings, value, &location()).unwrap_err();
                assert!(advice.contains("write "), "{}: {advice}", key.name);
                assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
            }
        }
    }

    /// A field of the server's settings without a key is a limit that nobody can change.
    #[test]
    fn every_limit_of_the_server_has_a_key() {
        const DECIDED_HERE: [&str; 2] = ["secret_variables", "state_folder"];
        let source = include_str!("../../../app-server/src/settings.rs");
        let (_, fields) = source.split_once("pub struct Settings {").unwrap();
        let (fields, _) = fields.split_once("\n}").unwrap();
        let fields = fields.lines().filter_map(|line| line.trim().strip_prefix("pub "));
        let names: Vec<_> = fields.filter_map(|line| line.split(':').next()).collect();
        assert!(names.contains(&"max_connections"));
        for name in names.iter().filter(|name| !DECIDED_HERE.contains(name)) {
            assert!(Key::named(name).is_some(), "{name} has no key");
        }
    }

    /// `TOOLSHED_UPDATE_DOCS=1 cargo test -p toolshed` writes the table.
    #[test]
    fn docs_contain_this_table() {
        const BEGIN: &str =
            "<!-- The table is made from crates/toolshed/src/config/keys.rs: begin -->\n";
        const END: &str = "<!-- end -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let docs = std::fs::read_to_string(path).unwrap();
        let (before, rest) = docs.split_once(BEGIN).unwrap();
        let (found, after) = rest.split_once(END).unwrap();
        let mut table =
            String::from("| setting | default | what, and why |\n| --- | --- | --- |\n");
        for key in KEYS {
            let Key { name, what, why, .. } = key;
            let (variable, default) = (key.variable(), key.default_in_words());
            let limits = key.limits().map_or(String::new(), |limits| format!(" From {limits}."));
            let write = key.write();
            table += &format!(
                "| **`{name}`**<br>`{variable}` | {default} | {what}<br>*Why:* {why}<br>*Write* {write}.{limits} |\n"
            );
        }
        if found != table && std::env::var_os("TOOLSHED_UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        } else {
            assert_eq!(found, table, "run this test with TOOLSHED_UPDATE_DOCS=1");
        }
    }
}
