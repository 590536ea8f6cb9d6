//! Crashes of tools on all machines of a site, as rows that each machine adds and reads, so that a quarantine may hold
//! on all of them.
//!
//! Only a store on a server has them: with a file there is one machine. Machines' clocks differ, so a row says when the
//! crash was by the server's, and what is read is how long ago that is. The table is in `login/schema.rs`, with the
//! site's others.

use storage::{Store, StoreError, Transaction, params};

/// Rows are removed when the crash is this many seconds ago: more than any quarantine looks back, whatever time it took
/// to tell of it.
const KEPT_SECONDS: i64 = 300;

/// The most rows that are read, newest first.
const MAX_ROWS: i64 = 200;

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
    /// Tells it from others of this machine in the same second.
    pub position: i64,
    /// The tool.
    pub tool: String,
}

/// A crash on any machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCrash {
    /// The name of the machine.
    pub node: String,
    /// What tells the version of the program that crashed from others.
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

    /// Tells the others of crashes on this machine, `node`, of this version of the program. `now`: by this machine's clock,
    /// in seconds since 1970. What was told before is not told twice.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    pub async fn tell(
        &self,
        node: &str,
        program: &str,
        now: i64,
        crashes: &[OwnCrash],
    ) -> Result<(), StoreError> {
        let tell = async |store: &Transaction<'_>| {
            for OwnCrash { second, position, tool } in crashes {
                let age = (now - second).max(0);
                store
                    .execute(
                        "INSERT INTO crashes (node, node_second, position, program, tool, at)
                             VALUES ($1, $2, $3, $4, $5, CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - $6)
                             ON CONFLICT (node, node_second, position) DO NOTHING",
                        params![node, second, position, program, &**tool, age],
                    )
                    .await?;
            }
            Ok(())
        };
        self.store.write(tell).await
    }

    /// Returns the crashes of the last minutes on all machines, this one included, newest first.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    pub async fn known(&self) -> Result<Vec<KnownCrash>, StoreError> {
        let find = "SELECT node, program, tool, CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - at
                        FROM crashes ORDER BY at DESC, node, position DESC LIMIT $1";
        let rows: Vec<(String, String, String, i64)> =
            self.store.read(async |store| store.query(find, params![MAX_ROWS]).await).await?;
        let crash = |(node, program, tool, age)| KnownCrash { node, program, tool, age };
        Ok(rows.into_iter().map(crash).collect())
    }

    /// Forgets what was long ago, and what a server's clock that was ahead has put into the future, if `known` has any of it.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    pub async fn forget_old(&self, known: &[KnownCrash]) -> Result<(), StoreError> {
        if known.iter().all(|crash| (-KEPT_SECONDS..=KEPT_SECONDS).contains(&crash.age)) {
            return Ok(());
        }
        let forget = "DELETE FROM crashes
                          WHERE abs(CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - at) > $1";
        let forget = async |store: &Transaction<'_>| {
            store.execute(forget, params![KEPT_SECONDS]).await.map(drop)
        };
        self.store.write(forget).await
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
            one.tell("a", "v1", now, &crashes[..1]).await.unwrap();
            other.tell("a", "v1", now, &crashes).await.unwrap();
            one.tell("a", "v1", now, &crashes).await.unwrap();
            // As if another version told of it: the first one was right.
            one.tell("a", "v2", now, &crashes).await.unwrap();
            let expected = ["a v1 x 20", "a v1 x 40"];
            assert_eq!(known(&elsewhere).await, expected);

            // The same second and position on another machine, and a clock that was ahead for a moment.
            elsewhere.tell("b", "v2", now, &[crash(now - 20, 13, "y")]).await.unwrap();
            elsewhere.tell("b", "v2", now, &[crash(now + 50, 26, "y")]).await.unwrap();
            let expected = ["b v2 y 0", "a v1 x 20", "b v2 y 20", "a v1 x 40"];
            assert_eq!(known(&one).await, expected);
        })
        .unwrap();
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let server = Server::start();
        run(async {
            let crashes = process(&server);
            let tell = async |age| {
                let now = storage::now();
                crashes.tell("a", "v", now, &[crash(now - age, 0, "x")]).await.unwrap();
            };
            tell(KEPT_SECONDS - 60).await;
            let recent = crashes.known().await.unwrap();
            tell(KEPT_SECONDS + 5).await;
            let all = crashes.known().await.unwrap();
            assert_eq!(all.len(), 2);
            crashes.forget_old(&recent).await.unwrap();
            assert_eq!(crashes.known().await.unwrap().len(), 2, "there was no reason to look");
            crashes.forget_old(&all).await.unwrap();
            assert_eq!(known(&crashes).await, ["a v x 240"]);
            // The server's clock was ahead.
            server.psql("UPDATE crashes SET at = at + 100000");
            crashes.forget_old(&crashes.known().await.unwrap()).await.unwrap();
            assert!(crashes.known().await.unwrap().is_empty());
        })
        .unwrap();
    }

    #[test]
    fn a_flood_is_read_in_part() {
        let server = Server::start();
        run(async {
            let crashes = process(&server);
            let now = storage::now();
            let many: Vec<_> = (0..MAX_ROWS + 5).map(|at| crash(now, at, "x")).collect();
            crashes.tell("a", "v", now + 60, &many).await.unwrap();
            crashes.tell("b", "v", now, &[crash(now, 0, "y")]).await.unwrap();
            let known = crashes.known().await.unwrap();
            assert_eq!(known.len() as i64, MAX_ROWS);
            assert_eq!(known[0].tool, "y", "the newest is among them");
        })
        .unwrap();
    }
}
