//! Which connection or request is evicted when the server is full: values in, values out. Counting and
//! evicting is up to `connections.rs` (connections) and `permits.rs` (requests).
//!
//! The address with the most is evicted first, but never one whose response is in flight.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The unit that shares are counted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum ClientNet {
    /// All clients without a known address.
    #[default]
    Unknown,
    /// One address.
    V4(u32),
    /// The /64 of an address: what one customer gets.
    V6(u64),
}

impl ClientNet {
    pub(crate) fn of(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => ClientNet::Unknown,
            Some(IpAddr::V4(address)) => ClientNet::V4(u32::from(address)),
            Some(IpAddr::V6(address)) => ClientNet::V6((u128::from(address) >> 64) as u64),
        }
    }
}

/// One open connection, reduced to what matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connected {
    pub(crate) net: ClientNet,
    /// What closing it would lose; `None` if that is a response.
    pub(crate) would_lose: Option<Loss>,
}

/// What closing a connection costs, lowest first. Times may lie in the future; until then the connection
/// is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// Nothing: the connection has been between two requests since then.
    Nothing(Instant),
    /// A request that has been incomplete since then, or the rest of one that has already been answered.
    PartOfRequest(Instant),
}

impl Loss {
    fn since(self) -> Instant {
        match self {
            Loss::Nothing(since) | Loss::PartOfRequest(since) => since,
        }
    }
}

/// Returns the connection to close for a new one: from the net that has the most connections, the one
/// that loses least, and among equals the oldest.
pub(crate) fn connection_to_close<K>(
    connections: impl Iterator<Item = (K, Connected)>,
    now: Instant,
) -> Option<K> {
    let mut nets: HashMap<ClientNet, (usize, Option<(Loss, K)>)> = HashMap::new();
    for (key, Connected { net, would_lose }) in connections {
        let (count, first) = nets.entry(net).or_default();
        *count += 1;
        if let Some(loss) = would_lose
            && loss.since() <= now
            && first.as_ref().is_none_or(|(least, _)| loss < *least)
        {
            *first = Some((loss, key));
        }
    }
    nets.into_values()
        .filter_map(|(count, first)| first.map(|(loss, key)| (count, loss, key)))
        .max_by(|(count, loss, _), (other_count, other_loss, _)| {
            count.cmp(other_count).then(other_loss.cmp(loss))
        })
        .map(|(_, _, key)| key)
}

/// One body that is still arriving, without a response yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upload {
    pub(crate) net: ClientNet,
    /// How far behind its sender is.
    pub(crate) behind: Duration,
}

/// A sender whose bytes are merely in transit is never this far behind.
const CLEARLY_BEHIND: Duration = Duration::from_secs(2);

/// Returns the upload to evict for a newcomer. `newcomer` is the net of a request that has a body itself;
/// one without a body is served immediately and therefore has priority. `patience` is how far behind an
/// upload may fall before it ends anyway.
///
/// A newcomer from a net with fewer uploads replaces a slow one, or any if one net has more than half of
/// all uploads. So does a newcomer from a net that has none, so that many addresses with one upload each
/// do not lock out the rest. Among equals, only an upload that is already close to its limit is evicted.
pub(crate) fn upload_to_end(
    uploads: &[Upload],
    newcomer: Option<ClientNet>,
    patience: Duration,
) -> Option<usize> {
    let mut counts: HashMap<ClientNet, usize> = HashMap::new();
    for upload in uploads {
        *counts.entry(upload.net).or_default() += 1;
    }
    let of = |net: &ClientNet| counts.get(net).copied().unwrap_or(0);
    let slow = CLEARLY_BEHIND.min(patience / 2);
    let may_end = |upload: &Upload| match newcomer {
        None => upload.behind >= slow,
        Some(net) if of(&upload.net) > of(&net) + 1 => {
            upload.behind >= slow || of(&upload.net) * 2 > uploads.len()
        }
        Some(net) if of(&net) == 0 => upload.behind >= slow,
        Some(_) => upload.behind >= patience / 2,
    };
    let candidates = uploads.iter().enumerate().filter(|(_, upload)| may_end(upload));
    candidates.max_by_key(|(_, upload)| (of(&upload.net), upload.behind)).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(address: &str) -> ClientNet {
        ClientNet::of(Some(address.parse().unwrap()))
    }

    #[test]
    fn an_ipv6_customer_is_one_net_and_mapped_addresses_are_ipv4() {
        assert_eq!(net("2001:db8::1"), net("2001:db8::ffff:0:0:1"));
        assert_ne!(net("2001:db8::1"), net("2001:db8:0:1::1"));
        assert_eq!(net("192.0.2.1"), net("::ffff:192.0.2.1"));
        assert_ne!(net("192.0.2.1"), net("192.0.2.2"));
        assert_ne!(net("::"), ClientNet::of(None));
    }

    /// Connections in shorthand: the net's last number; `i`dle, `p`art of a request or `b`usy; seconds
    /// since.
    #[test]
    fn picks_the_connection_to_close() {
        let start = Instant::now() + Duration::from_secs(1000);
        for (name, connections, expected) in [
            ("no connections", "", None),
            ("all are busy", "1b1 1b2 2b9", None),
            ("the longest idle", "1i3 1i5 1i1 1b9", Some(1)),
            ("idle before an incomplete request", "1p9 1i1", Some(1)),
            ("the oldest incomplete request", "1p3 1p4 1b9", Some(1)),
            ("not one that has just connected", "1p-1 1i-1 1b9", None),
            ("of the net with the most", "1i9 2p1 2p3 2p2 3p9", Some(2)),
            ("busy ones count", "1i9 2b1 2b1 2p1", Some(3)),
            ("the net with the most is all busy", "1i9 2b1 2b1 2b1", Some(0)),
            ("equal shares: the least loss", "1p9 2i1 3p9", Some(1)),
        ] {
            let connections = connections.split_whitespace().map(|short| {
                let since: i64 = short[2..].parse().unwrap();
                let since = match since {
                    0.. => start - Duration::from_secs(since as u64),
                    _ => start + Duration::from_secs(since.unsigned_abs()),
                };
                let would_lose = match &short[1..2] {
                    "i" => Some(Loss::Nothing(since)),
                    "p" => Some(Loss::PartOfRequest(since)),
                    _ => None,
                };
                Connected { net: net(&format!("192.0.2.{}", &short[..1])), would_lose }
            });
            assert_eq!(connection_to_close(connections.enumerate(), start), expected, "{name}");
        }
    }

    /// Uploads in shorthand: the net's last number, and how many seconds it is behind. Patience is 60 s.
    #[test]
    fn picks_the_upload_to_end() {
        for (name, uploads, newcomer, expected) in [
            ("no uploads", "", None, None),
            ("none is slow", "1:0 1:1 2:0", None, None),
            ("a request without a body: the slowest", "1:3 1:9 1:2", None, Some(1)),
            ("of the net with the most", "2:50 1:3 1:9 1:2", None, Some(2)),
            ("a newcomer with fewer: a slow one", "1:3 1:9 2:0 2:0 3:1", Some("4"), Some(1)),
            ("but not a fast one", "1:0 1:1 2:0 2:0 3:0", Some("4"), None),
            ("unless one net has the majority", "1:0 1:1 1:0 2:0", Some("4"), Some(1)),
            ("a newcomer with as many", "1:9 2:3", Some("2"), None),
            ("a newcomer among many with one each", "1:3 2:9 3:1", Some("4"), Some(1)),
            ("but not one whose bytes arrive", "1:1 2:1 3:1", Some("4"), None),
            ("unless one is nearly over", "1:31 2:3", Some("2"), Some(0)),
            ("a newcomer from the net with the most", "1:9 1:9 1:9", Some("1"), None),
            ("replaces one of its own net", "1:9 1:31 1:9 2:2", Some("1"), Some(1)),
        ] {
            let uploads: Vec<Upload> = uploads
                .split_whitespace()
                .map(|short| {
                    let (last, behind) = short.split_once(':').unwrap();
                    let behind = Duration::from_secs(behind.parse().unwrap());
                    Upload { net: net(&format!("192.0.2.{last}")), behind }
                })
                .collect();
            let newcomer = newcomer.map(|last: &str| net(&format!("192.0.2.{last}")));
            let ends = upload_to_end(&uploads, newcomer, Duration::from_secs(60));
            assert_eq!(ends, expected, "{name}");
        }
    }
}
