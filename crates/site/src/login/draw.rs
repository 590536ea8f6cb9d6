//! Who may try next under load: a draw by lot, so that asking more often does not help.
//!
//! While unknown browsers together have used up their attempts (`throttle.rs`), one attempt per
//! [`ROUND_SECONDS`] is left. First come, first served would always give it to clients that poll. So time is
//! divided into rounds; everyone who asks in a round takes part in its draw once, however often they ask; and
//! in the next round the winner may try, or gets a pass to do so within [`PASS_SECONDS`].
//!
//! A lot is computed from the secret key, the round and the network: it costs no memory, cannot be chosen, and
//! asking again draws the same one. Networks (a /24 for IPv4, a /48 for IPv6) compete with each other, then
//! addresses within the winning network, so that a rented /48 counts as one and not as 65,536. Only the best
//! lot of this round and the previous one is kept, and some passes.

use storage::{Snapshot, StoreError, Transaction, params};

use super::client::Client;
use super::clock::Seconds;
use super::secrets::Secrets;

/// The length of a round, in seconds: the cost of one attempt by all unknown browsers together.
pub(crate) const ROUND_SECONDS: Seconds = 10;

/// How long a winner may take to type the password, in seconds.
pub(crate) const PASS_SECONDS: Seconds = 120;

/// The result of taking part in a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lot {
    /// The client won the last draw: one attempt.
    Won,
    /// Asking again after this many seconds may help.
    Drawn(Seconds),
}

/// Returns whether attempts are drawn by lot: a client has asked in this round or the previous one.
pub(crate) async fn is_on(store: &Snapshot<'_>, now: Seconds) -> Result<bool, StoreError> {
    let last = now / ROUND_SECONDS - 1;
    let found = "SELECT EXISTS (SELECT 1 FROM draws WHERE round IN ($1, $2))";
    store.query_one(found, params![last, last + 1]).await
}

/// Takes part in this round's draw, unless the last one was won. A win counts once.
pub(crate) async fn ask(
    store: &Transaction<'_>,
    who: &Client,
    now: Seconds,
    secrets: &Secrets,
) -> Result<Lot, StoreError> {
    let (round, name) = (now / ROUND_SECONDS, who.name());
    // Later rounds come from a clock that was ahead.
    store
        .execute("DELETE FROM draws WHERE round NOT IN ($1, $2)", params![round - 1, round])
        .await?;
    let won = "UPDATE draws SET is_used = 1 WHERE round = $1 AND who = $2 AND is_used = 0";
    if store.execute(won, params![round - 1, name]).await? > 0 {
        return Ok(Lot::Won);
    }
    let lot = lot(who, round, secrets);
    store
        .execute(
            "INSERT INTO draws (round, lot, who) VALUES ($1, $2, $3)
             ON CONFLICT (round) DO UPDATE SET lot = excluded.lot, who = excluded.who
                 WHERE excluded.lot < draws.lot",
            params![round, lot, name],
        )
        .await?;
    Ok(Lot::Drawn(ROUND_SECONDS - now.rem_euclid(ROUND_SECONDS)))
}

/// Gives a winner the time to type the password.
pub(crate) async fn give_pass(
    store: &Transaction<'_>,
    who: &Client,
    now: Seconds,
) -> Result<(), StoreError> {
    store
        .execute(
            "INSERT INTO passes (who, until) VALUES ($1, $2)
             ON CONFLICT (who) DO UPDATE SET until = excluded.until",
            params![who.name(), now + PASS_SECONDS],
        )
        .await?;
    Ok(())
}

/// Returns whether a client has a pass.
pub(crate) async fn has_pass(
    store: &Snapshot<'_>,
    who: &Client,
    now: Seconds,
) -> Result<bool, StoreError> {
    let find = "SELECT until FROM passes WHERE who = $1";
    let until: Option<Seconds> = store.query_opt(find, params![who.name()]).await?;
    // A pass from a clock that was ahead does not count.
    Ok(until.is_some_and(|until| (now + 1..=now + PASS_SECONDS).contains(&until)))
}

/// Removes the pass, and expired ones.
pub(crate) async fn use_pass(
    store: &Transaction<'_>,
    who: &Client,
    now: Seconds,
) -> Result<(), StoreError> {
    store
        .execute(
            "DELETE FROM passes WHERE who = $1 OR until <= $2 OR until > $3",
            params![who.name(), now, now + PASS_SECONDS],
        )
        .await?;
    Ok(())
}

/// First the network's lot, then the address's own.
fn lot(who: &Client, round: i64, secrets: &Secrets) -> Vec<u8> {
    let of = |name: &str| secrets.mac("draw", format!("{round} {name}").as_bytes());
    [of(&who.network()), of(&who.name())].concat()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::login::tests::store_in;
    use crate::testing::block_on;

    fn at(address: impl Into<IpAddr>) -> Client {
        Client::Unknown(Some(address.into()))
    }

    #[test]
    fn each_network_wins_as_often_however_often_and_from_how_many_addresses_it_asks() {
        const ROUNDS: i64 = 1000;
        let folder = tempfile::tempdir().unwrap();
        // The same in every run, so every draw is, too.
        let secrets = Secrets::of_key(&[7; 64]);
        let store = store_in(folder.path());
        let owner = at([192, 0, 2, 1]);
        let wins = block_on(store.write(async |store| {
            let mut wins = 0;
            for round in 0..ROUNDS {
                let now = round * ROUND_SECONDS;
                for network in 0..8 {
                    ask(store, &at([10, 0, network, 1]), now, &secrets).await?;
                }
                // A rented /48 is one more network, with any number of /64s; it asks before and after the
                // owner.
                for net in 0..10_u16 {
                    ask(store, &at([0x2001, 0xdb8, 0, net, 0, 0, 0, 1]), now, &secrets).await?;
                }
                wins += i64::from(ask(store, &owner, now + 5, &secrets).await? == Lot::Won);
                ask(store, &at([0x2001, 0xdb8, 0, 77, 0, 0, 0, 1]), now + 9, &secrets).await?;
            }
            Ok(wins)
        }));
        // One of ten networks: 100 expected, with a standard deviation of 9.5.
        assert!((70..=130).contains(&wins.unwrap()));
    }

    #[test]
    fn a_win_and_a_pass_count_once_and_not_for_long() {
        let folder = tempfile::tempdir().unwrap();
        // The same in every run, so every draw is, too.
        let secrets = Secrets::of_key(&[7; 64]);
        let store = store_in(folder.path());
        let owner = at([192, 0, 2, 1]);
        block_on(store.write(async |store| {
            assert!(!is_on(store, 1000).await?);
            assert_eq!(ask(store, &owner, 1003, &secrets).await?, Lot::Drawn(7));
            assert_eq!(ask(store, &owner, 1009, &secrets).await?, Lot::Drawn(1));
            assert!(
                is_on(store, 1009).await?
                    && is_on(store, 1019).await?
                    && !is_on(store, 1020).await?
            );
            assert_eq!(ask(store, &owner, 1010, &secrets).await?, Lot::Won);
            assert_eq!(ask(store, &owner, 1010, &secrets).await?, Lot::Drawn(10), "it is used");
            assert_eq!(ask(store, &owner, 1039, &secrets).await?, Lot::Drawn(1), "it is too late");
            give_pass(store, &owner, 1039).await?;
            assert!(has_pass(store, &owner, 1039).await? && has_pass(store, &owner, 1158).await?);
            assert!(!has_pass(store, &owner, 1159).await? && !has_pass(store, &owner, 900).await?);
            assert!(!has_pass(store, &at([192, 0, 2, 2]), 1040).await?);
            use_pass(store, &owner, 1040).await?;
            assert!(!has_pass(store, &owner, 1040).await?);
            // A record from a clock that was ahead.
            ask(store, &at([10, 0, 0, 1]), 5000, &secrets).await?;
            ask(store, &owner, 1040, &secrets).await?;
            assert!(!is_on(store, 5000).await?);
            Ok(())
        }))
        .unwrap();
    }
}
