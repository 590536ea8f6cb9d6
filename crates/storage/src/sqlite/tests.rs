//! The store: what it guarantees to several processes, and its errors.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::*;
use crate::testing::{FACTS, block_on, store_at};
use crate::{Migration, Store, Unfinished, params};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = store_at(folder.path().join("data/toolshed.db"));
    (folder, store)
}

fn file(store: &Store) -> &Path {
    store.file().unwrap()
}

fn put(store: &Store, name: &str, value: &str) -> Result<(), StoreError> {
    let put = "INSERT INTO facts (name, value) VALUES ($1, $2)
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    block_on(store.write(async |store| store.execute(put, params![name, value]).await)).map(drop)
}

fn names(store: &Store) -> Result<BTreeSet<String>, StoreError> {
    let names =
        block_on(store.read(async |store| store.query("SELECT name FROM facts", &[]).await));
    names.map(BTreeSet::from_iter)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_are_created_on_first_use_and_private() {
    let (folder, store) = store();
    assert!(!folder.path().join("data").exists());
    put(&store, "a", "1").unwrap();
    assert_eq!(names(&store).unwrap(), BTreeSet::from(["a".to_owned()]));
    assert_eq!(mode(&folder.path().join("data")), 0o700);
    for file in fs::read_dir(folder.path().join("data")).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

/// Each waits for the disk, and all visitors with it.
#[test]
fn each_concurrent_write_takes_its_own_turn_of_the_loop() {
    let (_folder, store) = store();
    let turns = Rc::new(RefCell::new(BTreeSet::new()));
    event_loop::run(async {
        let write = |number: usize| {
            let (store, turns) = (store.clone(), turns.clone());
            event_loop::spawn(async move {
                let write = store.write(async |_| {
                    turns.borrow_mut().insert(event_loop::counters().turns);
                    Ok(number)
                });
                write.await.unwrap()
            })
        };
        let writes: Vec<_> = (0..200).map(write).collect();
        for (number, write) in writes.into_iter().enumerate() {
            assert_eq!(write.await, number);
        }
    })
    .unwrap();
    assert_eq!(turns.borrow().len(), 200);
}

/// A new process looks at the tables while others write.
#[test]
fn a_new_process_waits_for_locks() {
    let (_folder, store) = store();
    put(&store, "a", "1").unwrap();
    let is_done = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        for name in ["b", "c"] {
            let (is_done, other) = (&is_done, store_at(file(&store)));
            scope.spawn(move || {
                while !is_done.load(Ordering::Relaxed) {
                    put(&other, name, "2").unwrap();
                }
            });
        }
        let found: Vec<_> = (0..200).map(|_| names(&store_at(file(&store)))).collect();
        is_done.store(true, Ordering::Relaxed);
        found
    });
    for names in found {
        assert!(names.unwrap().contains("a"));
    }
}

/// SQLite opens a file read-only if it cannot be opened for writing at that moment, for example without a free
/// descriptor.
#[test]
fn a_read_only_connection_is_not_reused() {
    let (_folder, store) = store();
    put(&store, "a", "1").unwrap();
    let crate::Engine::Sqlite(engine) = &*store.engine else { panic!("it is a file") };
    let query_only = |open: &Open| open.connection.execute_batch("PRAGMA query_only = ON").unwrap();
    engine.open.lock().unwrap().as_ref().map(query_only);
    let error = put(&store, "b", "2").unwrap_err();
    assert!(error.to_string().contains("readonly"), "{error}");
    put(&store, "b", "2").unwrap();
    assert_eq!(names(&store).unwrap().len(), 2);
}

/// A page that cannot be read from disk does not mean that the file is damaged: the error does not say to remove it.
#[test]
fn an_unreadable_disk_is_not_a_damaged_store() {
    use rusqlite::{Error, ffi};
    let corrupt = || Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), None);
    let said = |error: Error| match refusal(error) {
        Refusal::Failed(error) => error.to_string(),
        Refusal::Busy => "busy".to_owned(),
    };
    // Reading the address space at 0 is EIO (proc(5)), and there is no such file.
    let memory = File::open("/proc/self/mem").unwrap();
    assert!(std::os::unix::fs::FileExt::read_at(&memory, &mut [0], 0).is_err());
    let text = said(corrupt());
    assert!(text.contains("os error 5") && !text.contains("remove"), "{text}");
    let nothing = || assert!(fs::metadata("/proc/self/nothing").is_err());
    nothing();
    let text = said(corrupt());
    assert!(text.contains("damaged"), "{text}");
    let text = said(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR), None));
    assert!(!text.contains("os error"), "SQLite looks for files that may be missing: {text}");
}

#[test]
fn a_file_readable_by_others_is_made_private() {
    let (_folder, store) = store();
    put(&store, "a", "1").unwrap();
    // SQLite gives its journal the mode that the file has.
    let journal = file(&store).with_extension("db-journal");
    fs::write(&journal, "").unwrap();
    for file in [file(&store), &journal] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o664)).unwrap();
    }
    let again = store_at(file(&store));
    assert!(names(&again).is_ok());
    assert_eq!((mode(file(&store)), mode(&journal)), (0o600, 0o600));
}

#[test]
fn a_change_that_fails_or_panics_changes_nothing() {
    let (_folder, store) = store();
    put(&store, "a", "1").unwrap();
    let failed = block_on(store.write(async |store| {
        store.execute("DELETE FROM facts", &[]).await?;
        store.execute("no SQL", &[]).await
    }));
    assert!(matches!(failed, Err(StoreError::Sql(_))), "{failed:?}");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        block_on(store.write(async |store| -> Result<(), StoreError> {
            store.execute("DELETE FROM facts", &[]).await?;
            panic!("a tool's mistake")
        }))
    }));
    assert!(panicked.is_err());
    assert_eq!(names(&store).unwrap().len(), 1);
    put(&store, "b", "2").unwrap();
    assert_eq!(names(&store).unwrap().len(), 2);
}

#[test]
fn waiting_for_a_lock_does_not_block_the_loop() {
    let (_folder, store) = store();
    put(&store, "a", "1").unwrap();
    let other = Connection::open(file(&store)).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    event_loop::run(async {
        let waiting = event_loop::spawn({
            let store = store.clone();
            async move {
                store
                    .write(async |store| store.execute("DELETE FROM facts", &[]).await)
                    .await
                    .map_err(|error| error.to_string())
            }
        });
        // The loop keeps running during the wait; if it were blocked, the lock would never be released.
        for _ in 0..20 {
            event_loop::time::sleep(Duration::from_millis(1)).await;
        }
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(waiting.await, Ok(1));
    })
    .unwrap();
}

#[test]
fn a_reader_does_not_see_half_a_change() {
    let (_folder, store) = store();
    put(&store, "a", "1").unwrap();
    let other = store_at(file(&store));
    let count = "SELECT count(*) FROM facts";
    let seen = block_on(store.read(async |reader| {
        let before: i64 = reader.query_one(count, &[]).await?;
        // During a read, no process can write.
        let refused = Connection::open(file(&other)).unwrap().execute("DELETE FROM facts", []);
        assert_eq!(
            refused.unwrap_err().sqlite_error_code(),
            Some(rusqlite::ErrorCode::DatabaseBusy)
        );
        let after: i64 = reader.query_one(count, &[]).await?;
        Ok((before, after))
    }));
    assert_eq!(seen.unwrap(), (1, 1));
}

#[test]
fn errors_say_what_to_do() {
    let (folder, store) = store();
    put(&store, "a", "1").unwrap();
    let whole = fs::read(file(&store)).unwrap();
    for (what, bytes, words) in [
        (
            "no database",
            b"this is not a database at all, but a text of some length".to_vec(),
            "damaged",
        ),
        ("cut off", whole[..whole.len() / 2].to_vec(), "damaged"),
    ] {
        let file = folder.path().join(format!("{what}.db"));
        fs::write(&file, bytes).unwrap();
        let broken = store_at(&file);
        let error = names(&broken).map(drop).and_then(|()| block_on(broken.check())).unwrap_err();
        assert!(error.to_string().contains(words), "{what}: {error}");
        assert!(error.to_string().contains("`restore`"), "{what}: {error}");
    }
    let newer = folder.path().join("newer.db");
    fs::write(&newer, &whole).unwrap();
    let row = "INSERT INTO migrations VALUES ('site', 2, 'checksum', 2, 0)";
    Connection::open(&newer).unwrap().execute(row, []).unwrap();
    let error = names(&store_at(&newer)).unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
    let nowhere = store_at("/proc/nowhere/toolshed.db");
    let error = names(&nowhere).unwrap_err();
    assert!(
        error.to_string().contains("/proc/nowhere") && error.to_string().contains("set data"),
        "{error}"
    );
}

/// Runs code as an unprivileged account, because root can write everywhere.
fn without_rights<T: Send + 'static>(
    folder: &Path,
    code: impl FnOnce() -> T + Send + 'static,
) -> T {
    const NOBODY: u32 = 65_534;
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        let all = [folder.to_owned(), folder.join("data"), folder.join("data/toolshed.db")];
        for path in all.iter().filter(|path| path.exists()) {
            std::os::unix::fs::chown(path, Some(NOBODY), None).unwrap();
        }
    }
    // The system call affects only the calling thread.
    let thread = std::thread::spawn(move || {
        if is_root {
            let nobody = rustix::process::Uid::from_raw(NOBODY);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        code()
    });
    thread.join().unwrap()
}

#[test]
fn errors_of_unwritable_files_say_what_to_do() {
    for (name, mode, is_open) in [
        ("data", 0o500, false),
        ("data", 0o500, true),
        ("data/toolshed.db", 0o400, false),
        ("data/toolshed.db", 0o000, false),
    ] {
        let (folder, store) = store();
        put(&store, "a", "1").unwrap();
        // SQLite leaves an empty journal, which would be written to.
        fs::remove_file(folder.path().join("data/toolshed.db-journal")).unwrap();
        let path = folder.path().join(name);
        let (file, closed) = (file(&store).to_owned(), path.clone());
        let error = without_rights(folder.path(), move || {
            let store = store_at(file);
            if is_open {
                names(&store).unwrap();
            }
            fs::set_permissions(closed, fs::Permissions::from_mode(mode)).unwrap();
            put(&store, "b", "2").unwrap_err().to_string()
        });
        let expected = format!(
            "{} cannot be used: Permission denied (os error 13); it has to be writable for the account the \
             site runs as, or set data to a folder that is",
            path.display()
        );
        assert_eq!(error, expected, "{name} {mode:o} {is_open}");
        fs::set_permissions(folder.path().join("data"), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_copy_is_complete_private_and_moved_into_place_at_once() {
    let (folder, store) = store();
    put(&store, "a", "1").unwrap();
    let target = folder.path().join("copy.db");
    block_on(store.back_up(&target)).unwrap();
    put(&store, "b", "2").unwrap();
    block_on(store.back_up(&target)).unwrap();
    assert_eq!(mode(&target), 0o600);
    let copy = store_at(&target);
    block_on(copy.check()).unwrap();
    assert_eq!(names(&copy).unwrap().len(), 2);
    let refused = block_on(store.back_up(&folder.path().join("nowhere/copy.db"))).unwrap_err();
    assert!(refused.to_string().contains("nowhere"), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left over");
}

#[test]
fn a_copy_replaces_only_a_copy() {
    let (folder, store) = store();
    put(&store, "a", "1").unwrap();
    let target = folder.path().join("target");
    for other in ["x", "a key or a text, longer than the first bytes of a store"] {
        fs::write(&target, other).unwrap();
        let error = block_on(store.back_up(&target)).unwrap_err().to_string();
        assert!(error.contains("not a copy") && error.contains("another name"), "{error}");
        assert_eq!(fs::read_to_string(&target).unwrap(), other);
    }
    fs::write(&target, "").unwrap();
    block_on(store.back_up(&target)).unwrap();
}

/// A backup that is made every day replaces the one before.
#[test]
fn what_could_not_be_restored_is_no_copy() {
    let (folder, store) = store();
    put(&store, "a", "1").unwrap();
    let target = folder.path().join("copy.db");
    block_on(store.back_up(&target)).unwrap();
    let good = fs::read(&target).unwrap();
    block_on(store.move_to(&store_at(folder.path().join("to/toolshed.db")), &[FACTS], |_| {}))
        .unwrap();
    let refused = |why: &str| {
        for error in [block_on(store.back_up(&target)), block_on(store.check())] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(fs::read(&target).unwrap() == good);
    };
    refused("has moved");
    fs::write(file(&store), "").unwrap();
    refused("it is empty");
}

/// A trigger could bring back what a restore removes.
#[test]
fn a_backup_with_statements_of_its_own_is_refused() {
    let (folder, store) = store();
    put(&store, "a", "1").unwrap();
    let backup = folder.path().join("copy.db");
    for code in [
        "CREATE TRIGGER again AFTER DELETE ON facts BEGIN INSERT INTO facts VALUES (old.name, old.value); END",
        "CREATE VIEW more AS SELECT * FROM facts",
    ] {
        block_on(store.back_up(&backup)).unwrap();
        Connection::open(&backup).unwrap().execute_batch(code).unwrap();
        let refused = block_on(store.restore(&backup, &[FACTS], async |_| Ok(()))).unwrap_err();
        assert!(refused.to_string().contains("triggers or views"), "{refused}");
    }
}

/// Otherwise the store that the second one keeps is the first's, and the one before both is gone.
#[test]
fn of_two_restores_at_once_one_is_refused() {
    let (folder, store) = store();
    put(&store, "a", "1").unwrap();
    let backup = folder.path().join("copy.db");
    block_on(store.back_up(&backup)).unwrap();
    put(&store, "b", "2").unwrap();
    let replaced = folder.path().join("data/toolshed.db-replaced");
    let another = async |_: &Transaction<'_>| {
        fs::rename(file(&store), &replaced).unwrap();
        fs::copy(&backup, file(&store)).unwrap();
        Ok(())
    };
    let refused = block_on(store.restore(&backup, &[FACTS], another)).unwrap_err();
    assert!(refused.to_string().contains("at the same moment"), "{refused}");
    assert_eq!(names(&store_at(&replaced)).unwrap().len(), 2);
    assert_eq!(names(&store).unwrap().len(), 1);
}

#[test]
fn leftovers_of_killed_backups_are_removed_by_the_next() {
    let (folder, store) = store();
    put(&store, "a", "1").unwrap();
    let data = file(&store).parent().unwrap();
    let hours_ago = |hours: u64| std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
    let make = |name: &str| {
        fs::create_dir(data.join(name)).unwrap();
        fs::write(data.join(name).join("copy.db"), [0; 1000]).unwrap();
        fs::write(data.join(name).join("copy.db-journal"), [0; 24]).unwrap();
        let made = File::open(data.join(name)).unwrap();
        made.set_modified(hours_ago(1)).unwrap();
        made
    };
    drop((make(".copy.left"), make("copy.own")));
    let busy = make(".copy.busy");
    rustix::fs::flock(&busy, rustix::fs::FlockOperation::LockExclusive).unwrap();
    make(".copy.young").set_modified(hours_ago(0)).unwrap();
    fs::write(data.join(".copy.file"), "").unwrap();
    std::os::unix::fs::symlink(data.join("copy.own"), data.join(".copy.link")).unwrap();
    let left = Unfinished { folder: data.join(".copy.left"), bytes: 1024 };
    assert_eq!(store.unfinished_copies(), [left]);
    block_on(store.back_up(&folder.path().join("copy.db"))).unwrap();
    assert_eq!(store.unfinished_copies(), []);
    let found = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name());
    let found: BTreeSet<_> = found.map(|name| name.into_string().unwrap()).collect();
    let stay = ["copy.own", ".copy.busy", ".copy.young", ".copy.file", ".copy.link"];
    let stay = stay.into_iter().chain(["toolshed.db", "toolshed.db-journal"]);
    assert_eq!(found, stay.map(str::to_owned).collect());
    assert_eq!(fs::read_dir(data.join("copy.own")).unwrap().count(), 2);
}

/// Of two at once, neither removes the other's unfinished copy as a leftover, however long it takes.
#[test]
fn an_unfinished_copy_is_locked() {
    let (_folder, store) = store();
    put(&store, "a", "1").unwrap();
    let copy = copy::Copy::beside(file(&store)).unwrap();
    let making = copy.path();
    let making = File::open(making.parent().unwrap()).unwrap();
    making.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(store.unfinished_copies(), []);
    let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    assert_eq!(rustix::fs::flock(&making, lock), Err(rustix::io::Errno::WOULDBLOCK));
}

/// The attacker can write to the folder of the copy, and knows every predictable name.
#[test]
fn a_copy_in_a_shared_folder_leaks_nothing_and_overwrites_nothing() {
    let (folder, store) = store();
    put(&store, "a", &"secret ".repeat(20_000)).unwrap();
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
    let victim = folder.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let target = open.join("copy.db");
    let pid = std::process::id();
    let foretold = ["", "-journal", "-wal", "-shm", ".tmp", ".new", ".part"].map(str::to_owned);
    let with_pid = ["unfinished", "new", "tmp", "locks"].map(|word| format!(".{word}-{pid}"));
    let with_pid = with_pid.into_iter().flat_map(|name| [format!("{name}-journal"), name]);
    let foretold: Vec<_> = foretold.into_iter().chain(with_pid).collect();
    let path = |ending: &String| open.join(format!("copy.db{ending}"));
    type Trap = fn(&Path, &Path);
    let traps: [(&str, Trap); 3] = [
        ("a link to a file of the owner's", |path, victim| {
            std::os::unix::fs::symlink(victim, path).unwrap();
        }),
        ("a link to where nothing is", |path, victim| {
            std::os::unix::fs::symlink(victim.with_extension("made"), path).unwrap();
        }),
        ("an empty file that all may read and write", |path, _| {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        }),
    ];
    for (what, trap) in traps {
        for ending in &foretold {
            trap(&path(ending), &victim);
        }
        block_on(store.back_up(&target)).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{what}");
        assert!(!victim.with_extension("made").exists(), "{what}");
        let found = fs::symlink_metadata(&target).unwrap();
        assert!(found.is_file() && mode(&target) == 0o600, "{what}: {found:?}");
        for ending in &foretold[1..] {
            let left = fs::symlink_metadata(path(ending)).map(|left| left.len());
            assert!(left.is_err() || left.unwrap() < 200, "{what}: {ending} has something in it");
        }
        foretold[1..].iter().for_each(|ending| fs::remove_file(path(ending)).unwrap());
        // A store in a shared folder is not opened.
        let kept = folder.path().join("kept.db");
        fs::rename(&target, &kept).unwrap();
        assert_eq!(names(&store_at(&kept)).unwrap().len(), 1, "{what}");
        assert_eq!(fs::read_dir(&open).unwrap().count(), 0, "{what}: something is left over");
    }
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for refused in [&socket, &open, Path::new("/")] {
        let error = block_on(store.back_up(refused)).unwrap_err().to_string();
        assert!(error.contains(refused.to_str().unwrap()), "{error}");
    }
    assert_eq!(fs::read_dir(file(&store).parent().unwrap()).unwrap().count(), 2, "nothing is left");
}

#[test]
fn a_copy_that_others_could_replace_is_refused() {
    let (folder, store) = store();
    put(&store, "a", "1").unwrap();
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let target = shared.join("copy.db");
    fs::write(&target, "an older copy").unwrap();
    for mode in [0o777, 0o775, 0o757] {
        fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).unwrap();
        let error = block_on(store.back_up(&target)).unwrap_err().to_string();
        let named = format!("{} (mode {mode:o})", shared.display());
        assert!(error.contains(&named) && error.contains("choose a folder"), "{error}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "an older copy");
    }
    assert_eq!(fs::read_dir(&shared).unwrap().count(), 1, "nothing is left over");
}

/// The attacker can write to the folder, and knows every predictable name.
#[test]
fn the_lock_check_uses_no_file_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let foretold = format!("toolshed.db.locks-{}", std::process::id());
    let trap = folder.path().join(foretold);
    std::os::unix::fs::symlink(&victim, &trap).unwrap();
    open::has_locks(&folder.path().join("toolshed.db")).unwrap();
    assert_eq!(fs::read_to_string(&trap).unwrap(), "precious");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left over");
}

/// Watches everything that is created in the two folders meanwhile.
#[test]
fn others_can_never_read_a_copy() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (folder, store) = store();
    put(&store, "a", &"secret ".repeat(100_000)).unwrap();
    let (target, data) = (folder.path().join("copy.db"), file(&store).parent().unwrap());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut in_the_making, mut exposed) = ([0; 2], BTreeSet::new());
            while !over.load(Ordering::Relaxed) {
                for (seen, place) in in_the_making.iter_mut().zip([folder.path(), data]) {
                    for entry in fs::read_dir(place).unwrap().flatten() {
                        let Ok(found) = entry.metadata() else { continue };
                        let name = entry.file_name();
                        *seen += u32::from(name.as_bytes().starts_with(b".copy."));
                        // A folder of ours beside the copy could be replaced by anyone who can write there.
                        let is_exchangeable = place != data && found.is_dir() && name != "data";
                        if found.permissions().mode() & 0o077 != 0 || is_exchangeable {
                            exposed.insert(name);
                        }
                    }
                }
            }
            (in_the_making, exposed)
        });
        for _ in 0..20 {
            block_on(store.back_up(&target)).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        let (in_the_making, exposed) = watcher.join().unwrap();
        assert!(
            !in_the_making.contains(&0),
            "the watcher has seen no unfinished copy: {in_the_making:?}"
        );
        assert!(exposed.is_empty(), "{exposed:?}");
    });
}

const TWO: &[Migration] = &[
    Migration::contract("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)"),
    Migration::expand("ALTER TABLE facts ADD COLUMN note TEXT NOT NULL DEFAULT ''"),
];
const FIRST: Schema = Schema { name: "site", migrations: TWO.split_at(1).0 };
const EXPANDED: Schema = Schema { name: "site", migrations: TWO };
const CONTRACTED: Schema = Schema {
    name: "site",
    migrations: &[TWO[0], TWO[1], Migration::contract("ALTER TABLE facts DROP COLUMN value")],
};

/// The second one fails.
const TOOL: &[Migration] = &[Migration::expand("CREATE TABLE tool (id BIGINT PRIMARY KEY)"); 2];

fn user_version(store: &Store) -> i64 {
    let other = Connection::open(file(store)).unwrap();
    other.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// From the time when `user_version` counted the migrations.
#[test]
fn a_file_without_a_table_of_migrations_is_taken_over_with_its_content() {
    for (version, tables) in [(1, FIRST), (1, EXPANDED), (2, EXPANDED), (2, CONTRACTED)] {
        let (_folder, store) = store();
        fs::create_dir(file(&store).parent().unwrap()).unwrap();
        let older = Connection::open(file(&store)).unwrap();
        let facts = "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
                     INSERT INTO facts VALUES ('a', '1');";
        older.execute_batch(facts).unwrap();
        if version == 2 {
            let note = "ALTER TABLE facts ADD COLUMN note TEXT NOT NULL DEFAULT ''";
            older.execute_batch(note).unwrap();
        }
        older.pragma_update(None, "user_version", version).unwrap();
        drop(older);
        // Another schema comes first.
        let tool = Schema { name: "tool", migrations: TOOL.split_at(1).0 };
        let store = store.with_schema(tables);
        let of_tool = store.with_schema(tool);
        block_on(of_tool.write(async |store| store.execute("DELETE FROM tool", &[]).await))
            .unwrap();
        assert_eq!(names(&store).unwrap(), BTreeSet::from(["a".to_owned()]));
        assert_eq!(names(&store_at(file(&store)).with_schema(tables)).unwrap().len(), 1, "again");
        // A program of that time can use it as long as nothing was removed that it needs.
        let known = if tables == CONTRACTED { 3 } else { 1 };
        assert_eq!(user_version(&store), known);
    }
}

/// What is awaited must not hold the lock; and a lock taken twice would never be had.
#[test]
fn a_transaction_awaits_nothing_but_its_statements() {
    let (_folder, store) = store();
    event_loop::run(async {
        let waits = store.write(async |store| {
            store.execute("DELETE FROM facts", &[]).await?;
            event_loop::yield_now().await;
            Ok(())
        });
        let error = waits.await.unwrap_err().to_string();
        assert!(error.contains("not its own"), "{error}");
        let nested = store.read(async |_| store.read(async |_| Ok(())).await);
        let error = nested.await.unwrap_err().to_string();
        assert!(error.contains("inside another"), "{error}");
        store.write(async |_| Ok(())).await.unwrap();
    })
    .unwrap();
}

#[test]
fn a_replaced_file_is_noticed() {
    let (folder, store) = store();
    put(&store, "a", "1").unwrap();
    let copy = folder.path().join("copy.db");
    block_on(store.back_up(&copy)).unwrap();
    put(&store, "b", "2").unwrap();
    fs::rename(&copy, file(&store)).unwrap();
    assert_eq!(names(&store).unwrap(), BTreeSet::from(["a".to_owned()]));
    put(&store, "c", "3").unwrap();
    assert_eq!(names(&store_at(file(&store))).unwrap().len(), 2);
}

/// What was written before a restore is in the file that was replaced, and what comes after it in the new one; neither is
/// damaged, although processes are in the middle of their writes.
#[test]
fn a_restore_loses_no_write_of_processes_that_go_on() {
    let (folder, store) = store();
    put(&store, "a", "1").unwrap();
    let backup = folder.path().join("backup.db");
    block_on(store.back_up(&backup)).unwrap();
    let mut before = "1".to_owned();
    for round in 0..2_usize {
        let start = |number| Writer::start(file(&store), 10 * round + number);
        let mut writers: Vec<_> = (0..2).map(start).collect();
        let mut acknowledged: BTreeSet<_> =
            writers.iter_mut().map(|writer| writer.read_name().unwrap()).collect();
        let restored = store.restore(&backup, &[FACTS], async |store| {
            store.execute("UPDATE facts SET value = 'changed'", &[]).await.map(drop)
        });
        let kept = event_loop::run(restored).unwrap().unwrap().unwrap();
        // Each is killed in the middle of a write; its journal is rolled back.
        acknowledged.extend(writers.into_iter().flat_map(Writer::kill));
        let replaced = store_at(&kept);
        for store in [&store, &replaced] {
            block_on(store.check()).unwrap();
        }
        let (old, new) = (names(&replaced).unwrap(), names(&store).unwrap());
        assert_eq!(old.intersection(&new).collect::<Vec<_>>(), ["a"], "{round}");
        let look = "SELECT value FROM facts WHERE name = 'a'";
        let value = |store: &Store| -> String {
            block_on(store.read(async |store| store.query_one(look, &[]).await)).unwrap()
        };
        assert_eq!((value(&replaced), value(&store)), (before.clone(), "changed".to_owned()));
        before = value(&store);
        let all = old.union(&new).cloned().collect();
        let lost: Vec<_> = acknowledged.difference(&all).collect();
        assert!(lost.is_empty(), "{round}: {lost:?}");
        assert!(acknowledged.iter().any(|name| new.contains(name)), "{round}");
    }
}

/// 30 processes write, are killed at random moments and restarted: everything they reported as written is there.
#[test]
fn no_acknowledged_write_is_lost_when_processes_are_killed() {
    const PROCESSES: usize = 30;
    const KILLS: usize = 25;
    let (_folder, store) = store();
    put(&store, "a", "1").unwrap();
    let mut generation = 0;
    let mut start = || {
        generation += 1;
        Writer::start(file(&store), generation)
    };
    let mut writers: Vec<_> = (0..PROCESSES).map(|_| start()).collect();
    let mut acknowledged = BTreeSet::new();
    for kill in 0..KILLS {
        // A process is killed right after its report: usually in the middle of its next write.
        let at = kill * 7 % PROCESSES;
        let name = writers[at].read_name().expect("a writer exited by itself");
        acknowledged.insert(name);
        let killed = std::mem::replace(&mut writers[at], start());
        acknowledged.extend(killed.kill());
    }
    for writer in writers {
        acknowledged.extend(writer.kill());
    }
    assert!(acknowledged.len() >= KILLS);
    block_on(store.check()).unwrap();
    let found = names(&store).unwrap();
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{} of {} were lost: {lost:?}", lost.len(), acknowledged.len());
}

/// A process that writes forever and reports what it has written.
struct Writer {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Writer {
    fn start(file: &Path, number: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::tests::writes_forever", "--nocapture", "--quiet"])
            .env("TEST_STORE_FILE", file)
            .env("TEST_STORE_WRITER", number.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Writer { child, output }
    }

    /// Returns the next name that it has written.
    fn read_name(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            // An incomplete line does not count: the process was killed while it wrote.
            if let Some((_, name)) = line.split_once("wrote ")
                && let Some(name) = name.strip_suffix('\n')
            {
                return Some(name.to_owned());
            }
            line.clear();
        }
        None
    }

    /// Kills it; returns what it had reported before.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.read_name()).collect()
    }
}

/// Run by the children of the test above; on its own it writes once.
#[test]
fn writes_forever() {
    let (_folder, own) = store();
    let asked = std::env::var_os("TEST_STORE_FILE").zip(std::env::var("TEST_STORE_WRITER").ok());
    let Some((file, writer)) = asked else {
        return put(&own, "a", "1").unwrap();
    };
    let store = store_at(file);
    let value = "x".repeat(6000);
    for number in 0_u64.. {
        let name = format!("{writer}-{number}");
        match put(&store, &name, &value) {
            Ok(()) => {}
            // 30 at once on a slow disk: nothing was acknowledged.
            Err(StoreError::Busy) => continue,
            Err(error) => panic!("{error}"),
        }
        let mut out = std::io::stdout().lock();
        if writeln!(out, "\nwrote {name}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}
