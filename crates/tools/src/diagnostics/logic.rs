//! The parameters of *diagnostics* and their limits: query in, values out.

use std::time::Duration;

use http::Uri;
use serde::Serialize;
use site::Limits;

use crate::urlencoded::value;

/// The longest sleep, longer than any web server waits.
pub(crate) const MAX_SLEEP: Duration = Duration::from_secs(600);

/// The largest stream, in MiB.
pub(crate) const MAX_STREAM_MIB: u64 = 4096;

/// The limits of an isolated culprit, unless the owner's settings allow more.
const LIMITS: Limits = Limits {
    cpu: Duration::from_secs(2),
    wall: Duration::from_secs(10),
    memory: 64 << 20,
    file_size: 1 << 20,
};

/// A fault, with its description.
#[derive(Debug, Serialize)]
pub(crate) struct Culprit {
    pub(crate) how: &'static str,
    /// What it does, for the page.
    pub(crate) what: &'static str,
    /// What to expect inline.
    pub(crate) inline: &'static str,
    /// What to expect isolated.
    pub(crate) isolated: &'static str,
    #[serde(skip)]
    pub(crate) run: fn(),
}

const GUARDED: &str = "500 for you, 503 for the other requests in flight, and the program restarts in the \
                       same process. After three crashes in half a minute this tool is unavailable for a \
                       minute.";
const ONE_PAGE: &str = "500 for you. Nobody else notices.";

/// Every fault that is built in, in the order of the page.
pub(crate) const CULPRITS: &[Culprit] = &[
    Culprit {
        how: "panic",
        what: "A bug that Rust detects: a panic.",
        inline: "500 for you. Nobody else notices.",
        isolated: ONE_PAGE,
        run: || panic!("on purpose, by diagnostics"),
    },
    Culprit {
        how: "abort",
        what: "A library gives up: abort().",
        inline: GUARDED,
        isolated: ONE_PAGE,
        run: || std::process::abort(),
    },
    #[cfg(feature = "culprits")]
    Culprit {
        how: "segv",
        what: "C code writes to unmapped memory.",
        inline: GUARDED,
        isolated: ONE_PAGE,
        run: culprits::segv,
    },
    Culprit {
        how: "stack",
        what: "A function calls itself until the stack is full.",
        inline: GUARDED,
        isolated: ONE_PAGE,
        run: || {
            std::hint::black_box(deep(0));
        },
    },
    Culprit {
        how: "memory",
        what: "A list grows without end.",
        inline: "As above if the setting `memory` is set; otherwise the host kills the process once it \
                 has taken too much, which may take a while and slow others down.",
        isolated: "500 for you when the limit is reached. Nobody else notices.",
        run: hoard,
    },
    Culprit {
        how: "loop",
        what: "A computation never ends.",
        inline: "Everybody waits, for as long as the setting `watchdog` says; then 504 for you, 503 for \
                 the others, and the program restarts.",
        isolated: "504 for you when its processor time is used up. Nobody else notices.",
        run: || loop {
            std::hint::spin_loop();
        },
    },
    #[cfg(feature = "culprits")]
    Culprit {
        how: "double-free",
        what: "C code frees the same memory twice.",
        inline: GUARDED,
        isolated: ONE_PAGE,
        run: culprits::double_free,
    },
    #[cfg(feature = "culprits")]
    Culprit {
        how: "overrun",
        what: "C code writes past the end of its memory.",
        inline: GUARDED,
        isolated: ONE_PAGE,
        run: culprits::overrun,
    },
    #[cfg(feature = "culprits")]
    Culprit {
        how: "malloc",
        what: "C code has corrupted the heap, and the allocator detects it in the middle of its work.",
        inline: GUARDED,
        isolated: ONE_PAGE,
        run: culprits::malloc,
    },
];

/// The faults that this program was built without: those in C.
pub(crate) const LEFT_OUT: &[&str] =
    if cfg!(feature = "culprits") { &[] } else { &["segv", "double-free", "overrun", "malloc"] };

/// How to build the program with all of them.
pub(crate) const BUILD_WITH_ALL: &str = "cargo build --release -p toolshed --features culprits";

#[allow(unconditional_recursion, reason = "that is what it is for")]
fn deep(depth: u64) -> u64 {
    std::hint::black_box([depth; 100])[50] + deep(depth + 1)
}

fn hoard() {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    loop {
        pieces.push(vec![1; 1 << 20]);
        std::hint::black_box(&pieces);
    }
}

/// When a culprit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before any of the response.
    Now,
    /// When part of the response has been sent.
    Answering,
    /// When part of the request's body has arrived.
    Receiving,
}

/// Parses `how` and `when` of a query; the error names the valid values.
pub(crate) fn crash(query: &str) -> Result<(&'static Culprit, When), String> {
    let how = value(query, "how").unwrap_or_default();
    if LEFT_OUT.contains(&how.as_str()) {
        return Err(format!(
            "how={how} runs C code that this program was built without; to have it: {BUILD_WITH_ALL}"
        ));
    }
    let Some(culprit) = CULPRITS.iter().find(|culprit| culprit.how == how) else {
        let names: Vec<_> = CULPRITS.iter().map(|culprit| culprit.how).collect();
        return Err(format!("how= is one of {}.", names.join(", ")));
    };
    let when = match value(query, "when").as_deref() {
        None | Some("now") => When::Now,
        Some("answering") => When::Answering,
        Some("receiving") => When::Receiving,
        Some(_) => return Err("when= is one of now, answering, receiving.".to_owned()),
    };
    match value(query, "runs").as_deref() {
        None | Some("inline" | "isolated") => Ok((culprit, when)),
        Some(_) => Err("runs= is one of inline, isolated.".to_owned()),
    }
}

/// Decides where a request runs: isolated if it asks for that.
pub(crate) fn runs(uri: &Uri) -> Option<Limits> {
    let runs = value(uri.query().unwrap_or_default(), "runs");
    (runs.as_deref() == Some("isolated")).then_some(LIMITS)
}

/// Parses how long to sleep; the error names the valid values.
pub(crate) fn sleep(query: &str) -> Result<Duration, String> {
    let seconds = value(query, "seconds").map_or(Some(1.0), |text| text.parse::<f64>().ok());
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|duration| *duration <= MAX_SLEEP)
        .ok_or_else(|| {
            format!("seconds= is a number from 0 to {}, such as 1.5.", MAX_SLEEP.as_secs())
        })
}

/// Parses how many MiB to stream; the error names the valid values.
pub(crate) fn stream(query: &str) -> Result<u64, String> {
    let mib = value(query, "mib").map_or(Some(1), |text| text.parse().ok());
    mib.filter(|mib| *mib <= MAX_STREAM_MIB)
        .ok_or_else(|| format!("mib= is a whole number from 0 to {MAX_STREAM_MIB}."))
}
