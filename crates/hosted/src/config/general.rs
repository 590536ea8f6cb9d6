//! The settings of every program: where it listens and logs, and the limits of its server.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use app_server::{Address, BasePath};

use super::Settings;
use super::key::{Advice, Key, Kind};
use super::node::is_name;
use super::problem::Location;
use super::value::Value;

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

/// The settings of every program: first those an owner sets, then limits in the order in which a request meets them.
pub(super) fn keys<O>() -> Vec<Key<O>> {
    vec![
        Key {
            name: "data",
            kind: Kind::Custom {
                write: "the path of a folder such as \"data\"",
                default: "`data` beside the program",
                take: data,
            },
            what: "Folder of the state that the processes of a site share. Created when first needed, for this account only. \
               A relative path is resolved as for `log`.",
            why: "Several processes lock files there, so the file system has to support locks: a local disk, or NFS with its \
              lock service.",
        },
        Key {
            name: "log",
            kind: Kind::Custom {
                write: "the path of a file such as \"logs/app.log\"",
                default: "`logs/{name}.log` beside the program if a web server started it, otherwise \
                      standard error",
                take: log,
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
                write: "an address such as \"127.0.0.1:8080\" or \"unix:/run/app.sock\"",
                default: "`127.0.0.1:8080` for `serve`; `fastcgi` has none",
                take: listen,
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
                take: workers,
            },
            what: "Number of processes that `serve` and `fastcgi` keep for one socket. With 2 or more, or a \
               range, a supervisor starts them, replaces those that die, upgrades them one by one on \
               SIGHUP, and adjusts their number to the load within the range. `auto` is from 1 to the \
               number of processors.",
            why: "One process serves tens of thousands of requests per second. More are for parts that compute \
              for long in the event loop, and to use several processors. Ignored by a process that a web \
              server started: the web server decides how many there are.",
        },
        Key {
            name: "node",
            kind: Kind::Custom {
                write: "a name such as \"web-1\": letters, digits and -, at most 32",
                default: "none",
                take: node,
            },
            what: "Name of this machine, if several serve the site. It is in each line of the log and in `check`; the references \
               of errors differ between machines with different names.",
            why: "Logs of several machines are read together. On one machine there is nothing to tell apart.",
        },
        Key {
            name: "trusted_proxies",
            kind: Kind::List {
                write: "addresses and networks such as [\"192.0.2.1\", \"10.0.0.0/8\"], or \"unix\"",
                default: "[]",
                take: trusted_proxies,
            },
            what: "Proxies that are trusted to name the visitor's address and to report HTTPS \
               (`X-Forwarded-For`, `X-Forwarded-Proto`): IP addresses, networks such as `10.0.0.0/8`, and \
               `unix` for anyone who can connect to our Unix socket.",
            why: "Anyone can send these headers, so only named proxies are trusted.",
        },
        Key {
            name: "base",
            kind: Kind::Custom {
                write: "a path such as \"/project\"",
                default: "found for each request",
                take: base,
            },
            what: "Path the site is mounted at, as in URLs.",
            why: "Needed only where the web server's variables do not show it (below a folder behind nginx, \
              mod_proxy_fcgi, or any reverse proxy). A web server may also send the same variable with each \
              request, which takes precedence.",
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
            what: "Processor time of an isolated request; a part may ask for more. Beyond it, the response is \
               504, and the log says so.",
            why: "In most parts a longer computation is a mistake, and hosts kill processes that compute for \
              too long.",
        },
        Key {
            name: "isolated_time",
            kind: time_field!(1..=24 * HOUR, server.isolated_time),
            what: "Time of an isolated request, not counting the time it waits for the visitor to send or \
               receive; a part may ask for more. Beyond it, the response is 504.",
            why: "Less than the 40 to 60 s after which web servers give up with a page of their own.",
        },
        Key {
            name: "isolated_memory",
            kind: field!(Size, MIB..=1024 * GIB, server.isolated_memory),
            what: "Memory of an isolated request beyond what the program uses; a part may ask for more. Beyond \
               it, allocations fail, which is usually a 500.",
            why: "When an account uses too much memory, its host kills whichever process it likes.",
        },
        Key {
            name: "isolated_file_size",
            kind: field!(Size, 0..=1024 * GIB, server.isolated_file_size),
            what: "Largest file an isolated request may write; a part may ask for more. Beyond it, the \
               response is 500.",
            why: "A loop that writes would fill the account's disk quota.",
        },
        Key {
            name: "crash_guard",
            kind: Kind::Bool {
                get: |settings| settings.server.crash_guard,
                set: |settings, value| settings.server.crash_guard = value,
            },
            what: "Whether a crash of a part (bad memory access, abort, stack overflow) is answered: 500 for \
               its own request, 503 for the others, and a restart in place. A part that crashes 3 times in \
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
            what: "How long one part may stall the event loop by computing without a pause before its request \
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
            what: "Address space the process may use beyond what it has when it starts to serve. A part that \
               asks for more gets 500, as after a crash. 0 is no limit.",
            why: "Hosts give an account about 1 GiB and kill the process that exceeds it, with all its \
              requests. Bodies stream, so an ordinary request needs a few hundred KiB.",
        },
    ]
}

/// Takes the value of the setting `data`, for a program that describes it in its own words.
///
/// # Errors
///
/// If it is not a path.
pub fn data<O>(
    settings: &mut Settings<O>,
    value: &Value,
    location: &Location,
) -> Result<(), Advice> {
    let Value::Text(path) = value else { return Err(Advice::Default) };
    if path.trim().is_empty() {
        return Err(Advice::Default);
    }
    settings.data = Some(relative_to(location, path));
    Ok(())
}

fn log<O>(settings: &mut Settings<O>, value: &Value, location: &Location) -> Result<(), Advice> {
    let Value::Text(path) = value else { return Err(Advice::Default) };
    if path.trim().is_empty() || path.ends_with('/') {
        return Err(Advice::Default);
    }
    settings.log = Some(relative_to(location, path));
    Ok(())
}

fn base<O>(settings: &mut Settings<O>, value: &Value, _: &Location) -> Result<(), Advice> {
    let Value::Text(text) = value else { return Err(Advice::Default) };
    let base = BasePath::from_setting(text).ok_or(Advice::Default)?;
    settings.server.base = Some(base).filter(|base| !base.as_str().is_empty());
    Ok(())
}

fn trusted_proxies<O>(settings: &mut Settings<O>, items: Vec<String>) -> Result<(), Advice> {
    let proxies = items.iter().map(|item| item.parse()).collect::<Result<_, _>>();
    settings.server.trusted_proxies = proxies.map_err(|_: String| Advice::Default)?;
    Ok(())
}

fn listen<O>(settings: &mut Settings<O>, value: &Value, location: &Location) -> Result<(), Advice> {
    let Value::Text(text) = value else { return Err(Advice::Default) };
    let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let is_whole = text.starts_with("unix:") || text.starts_with("tcp:");
    let text = if is_whole { text.to_owned() } else { format!("tcp:{text}") };
    let address = match text.parse().map_err(|_| Advice::Default)? {
        Address::Unix(path) => Address::Unix(relative_to(location, path)),
        address => address,
    };
    settings.listen = Some(address);
    Ok(())
}

fn workers<O>(settings: &mut Settings<O>, value: &Value, _: &Location) -> Result<(), Advice> {
    let text = value.as_scalar().ok_or(Advice::Default)?;
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|it| WORKERS.contains(it));
    settings.workers = if text == "auto" {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        1..=processors.min(*WORKERS.end())
    } else if let Some((min, max)) = text.split_once('-') {
        let (Some(min), Some(max)) = (number(min), number(max)) else {
            return Err(Advice::Default);
        };
        if min > max {
            return Err(Advice::Specific(format!(
                "write the smaller number first: \"{max}-{min}\""
            )));
        }
        min..=max
    } else {
        let count = number(&text).ok_or(Advice::Default)?;
        count..=count
    };
    Ok(())
}

/// Takes the value of the setting `node`, for a program that describes it in its own words.
///
/// # Errors
///
/// If it is not a name.
pub fn node<O>(settings: &mut Settings<O>, value: &Value, _: &Location) -> Result<(), Advice> {
    let Value::Text(text) = value else { return Err(Advice::Default) };
    if !is_name(text) {
        return Err(Advice::Default);
    }
    settings.node = Some(text.clone());
    Ok(())
}

/// Returns a path that is relative to the file in which it is written.
fn relative_to(location: &Location, path: impl AsRef<Path>) -> PathBuf {
    location.folder().map_or_else(|| path.as_ref().to_owned(), |folder| folder.join(&path))
}

/// A larger number is probably a typo: each takes memory of its own.
const WORKERS: RangeInclusive<usize> = 1..=256;
