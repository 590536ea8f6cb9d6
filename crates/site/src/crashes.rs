//! Crashes of tools on all machines of a site, as rows that each machine adds and reads, so that a quarantine may hold
//! on all of them.
//!
//! Only a store on a server has them: with a file there is one machine. Machines' clocks differ, so a row says when the
//! crash was by the server's, and what is read is how long ago that is. The table is in `login/schema.rs`, with the
//! site's others.

use storage::{Snapshot, Store, StoreError, Transaction, params};

/// Rows are removed when the crash is this many seconds ago: more than any quarantine looks back, whatever time it took
/// to tell of it.
const KEPT_SECONDS: i64 = 300;

/// How far in the future a crash may seem to be: the server's clock may be set back a little.
const CLOCK_TOLERANCE: i64 = 5;

/// How many crashes of one tool on one machine are read: more than a quarantine needs.
const MAX_OF_EACH: i64 = 10;

/// The maximum of rows that are read, newest first.
const MAX_ROWS: i64 = 200;

/// The server's clock, in seconds since 1970.
const SERVER_NOW: &str = "CAST(EXTRACT(EPOCH FROM now()) AS BIGINT)";

/// The crashes of all machines. Clones share its store.
#[derive(Clone, Debug)]
pub struct SharedCrashes {
    store: Store,
}

/// A crash on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCrash {
    /// When it was by this machine's clock: seconds since 1970.
    pub second: i64,
    /// Distinguishes it from others of this machine in the same second.
    pub position: i64,
    /// The tool.
    pub tool: String,
}

/// A crash on any machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCrash {
    /// The name of the machine.
    pub node: String,
    /// Identifies the version of the program that crashed.
    pub program: String,
    /// The tool.
    pub tool: String,
    /// How many seconds ago it was.
    pub age: i64,
}

impl SharedCrashes {
    /// Makes a handle on the crashes in the site's store. `None` if that is a file.
    pub fn in_store(store: Store) -> Option<Self> {
        store.file().is_none().then_some(SharedCrashes { store })
    }

    /// Adds crashes on this machine, `node`, of this version of the program. `now`: by this machine's clock, in seconds
    /// since 1970. What was published before is not added twice. Rows that no longer count are removed: those of long ago,
    /// and what a server's clock that was ahead has put into the future.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    pub async fn publish(
        &self,
        node: &str,
        program: &str,
        now: i64,
        crashes: &[OwnCrash],
    ) -> Result<(), StoreError> {
        let insert = format!(
            "INSERT INTO crashes (node, node_second, position, program, tool, at)
                 VALUES ($1, $2, $3, $4, $5, {SERVER_NOW} - $6)
                 ON CONFLICT (node, node_second, position) DO NOTHING"
        );
        let forget =
            format!("DELETE FROM crashes WHERE at < {SERVER_NOW} - $1 OR at > {SERVER_NOW} + $1");
        let publish = async |store: &Transaction<'_>| {
            for OwnCrash { second, position, tool } in crashes {
                let age = (now - second).max(0);
                store
                    .execute(&insert, params![node, second, position, program, &**tool, age])
                    .await?;
            }
            store.execute(&forget, params![KEPT_SECONDS]).await.map(drop)
        };
        self.store.write(publish).await
    }

    /// Returns the crashes of the last minutes on all machines, this one included: of each program's tool on each machine
    /// the newest 10, so that many of one do not hide others.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    pub async fn known(&self) -> Result<Vec<KnownCrash>, StoreError> {
        // Nothing is computed from a time that makes no sense.
        let find = format!(
            "SELECT node, program, tool, {SERVER_NOW} - at FROM (
                 SELECT node, program, tool, at, position, row_number() OVER
                     (PARTITION BY node, program, tool ORDER BY at DESC, position DESC) AS rank
                 FROM crashes WHERE at BETWEEN {SERVER_NOW} - $1 AND {SERVER_NOW} + $2
             ) AS ranked WHERE rank <= $3 ORDER BY at DESC, node, position DESC LIMIT $4"
        );
        let read = async |store: &Snapshot<'_>| {
            store.query(&find, params![KEPT_SECONDS, CLOCK_TOLERANCE, MAX_OF_EACH, MAX_ROWS]).await
        };
        let rows: Vec<(String, String, String, i64)> = self.store.read(read).await?;
        let crash = |(node, program, tool, age)| KnownCrash { node, program, tool, age };
        Ok(rows.into_iter().map(crash).collect())
    }
}

#[cfg(test)]
mod tests {
    use event_loop::run;
    use postgres_fixture::Server;

    use super::*;
    use crate::login::LoginSettings;

    fn crash(second: i64, position: i64, tool: &str) -> OwnCrash {
        OwnCrash { second, position, tool: tool.to_owned() }
    }

    /// A process of some machine, with connections of its own.
    fn process(server: &Server) -> SharedCrashes {
        let database = Some(server.url().parse().unwrap());
        let login = LoginSettings { database, ..LoginSettings::in_folder("/nowhere") };
        SharedCrashes::in_store(login.store()).unwrap()
    }

    /// What is known, as `node program tool age`; ages are rounded down to tens, because a test takes time.
    async fn known(crashes: &SharedCrashes) -> Vec<String> {
        let known = crashes.known().await.unwrap();
        let line = |crash: KnownCrash| {
            let KnownCrash { node, program, tool, age } = crash;
            format!("{node} {program} {tool} {}", age / 10 * 10)
        };
        known.into_iter().map(line).collect()
    }

    #[test]
    fn a_file_is_of_one_machine() {
        let login = LoginSettings::in_folder("/nowhere");
        assert!(SharedCrashes::in_store(login.store()).is_none());
    }

    #[test]
    fn what_several_processes_tell_counts_once_and_clocks_do_not_matter() {
        let server = Server::start();
        run(async {
            let [one, other, elsewhere] = [(); 3].map(|()| process(&server));
            // Its clock is a day behind, and two of its processes read the same file.
            let now = storage::now() - 86_400;
            let crashes = [crash(now - 40, 0, "x"), crash(now - 20, 13, "x")];
            one.publish("a", "v1", now, &crashes[..1]).await.unwrap();
            other.publish("a", "v1", now, &crashes).await.unwrap();
            one.publish("a", "v1", now, &crashes).await.unwrap();
            // As if another version published it: the first one was right.
            one.publish("a", "v2", now, &crashes).await.unwrap();
            let expected = ["a v1 x 20", "a v1 x 40"];
            assert_eq!(known(&elsewhere).await, expected);

            // The same second and position on another machine, and a clock that was ahead for a moment.
            elsewhere.publish("b", "v2", now, &[crash(now - 20, 13, "y")]).await.unwrap();
            elsewhere.publish("b", "v2", now, &[crash(now + 50, 26, "y")]).await.unwrap();
            let expected = ["b v2 y 0", "a v1 x 20", "b v2 y 20", "a v1 x 40"];
            assert_eq!(known(&one).await, expected);
        })
        .unwrap();
    }

    #[test]
    fn what_no_longer_counts_is_not_read_and_then_removed() {
        let server = Server::start();
        run(async {
            let crashes = process(&server);
            let publish = async |second, tool| {
                let now = storage::now();
                crashes.publish("a", "v", now, &[crash(now + second, 0, tool)]).await.unwrap();
            };
            let rows = || server.psql("SELECT tool FROM crashes ORDER BY tool");
            publish(60 - KEPT_SECONDS, "recent").await;
            publish(-1, "x").await;
            for times in [
                "at - 1000",
                // The server's clock was ahead.
                "at + 1000",
                // Somebody has written to the table.
                "-9223372036854775808",
                "9223372036854775807",
            ] {
                server.psql(&format!("UPDATE crashes SET at = {times} WHERE tool = 'x'"));
                assert_eq!(known(&crashes).await, ["a v recent 240"], "{times}");
                assert_eq!(rows(), "recent\nx", "reading changes nothing");
                publish(-2, "y").await;
                assert_eq!(rows(), "recent\ny", "{times}");
                server.psql(
                    "UPDATE crashes SET tool = 'x', node_second = node_second - 9 WHERE tool = 'y'",
                );
            }
        })
        .unwrap();
    }

    #[test]
    fn many_crashes_of_one_tool_hide_no_other() {
        let server = Server::start();
        run(async {
            let crashes = process(&server);
            let now = storage::now();
            let many = |seconds: i64, tool: &str| -> Vec<_> {
                (0..300).map(|at| crash(now - seconds, at, tool)).collect()
            };
            crashes.publish("a", "v1", now, &many(60, "x")).await.unwrap();
            crashes.publish("b", "v2", now, &many(0, "x")).await.unwrap();
            let known = crashes.known().await.unwrap();
            let of = |program: &str| known.iter().filter(|it| it.program == program).count();
            assert_eq!((of("v1"), of("v2")), (10, 10));
        })
        .unwrap();
    }

    #[test]
    fn a_flood_is_read_in_part() {
        let server = Server::start();
        run(async {
            let crashes = process(&server);
            let now = storage::now();
            let tools: Vec<_> = (0..MAX_ROWS + 5).map(|number| format!("tool-{number}")).collect();
            let many: Vec<_> = tools.iter().map(|tool| crash(now, 0, tool)).collect();
            for (number, crash) in many.iter().enumerate() {
                let node = format!("node-{number}");
                crashes.publish(&node, "v", now + 60, std::slice::from_ref(crash)).await.unwrap();
            }
            crashes.publish("b", "v", now, &[crash(now, 0, "y")]).await.unwrap();
            let known = crashes.known().await.unwrap();
            assert_eq!(known.len() as i64, MAX_ROWS);
            assert_eq!(known[0].tool, "y", "the newest is among them");
        })
        .unwrap();
    }
}
