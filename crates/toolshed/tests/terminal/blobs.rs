//! What an owner does with blobs from a shell: shows, copies and checks them, in the folder and in S3.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use axum::body::Body;
use s3_fixture::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};
use site::blobs::{BlobSettings, Blobs, PutOptions, S3Settings};

use crate::check::{LISTEN, NOBODY, about};
use crate::login::{PASSWORD, log_in};
use crate::program::Installation;

fn folder(installation: &Installation, name: &str) -> Blobs {
    Blobs::new(BlobSettings::Folder(installation.path().join(name)))
}

fn bucket(server: &Server) -> Blobs {
    let settings = S3Settings::new(server.endpoint(), REGION, BUCKET, ACCESS_KEY, SECRET_KEY);
    Blobs::new(BlobSettings::S3(settings))
}

fn put(blobs: &Blobs, key: &str, content: &str) {
    let content = Body::from(content.to_owned());
    let key = key.parse().unwrap();
    event_loop::run(blobs.put(&key, content, PutOptions::default())).unwrap().unwrap();
}

fn keys(blobs: &Blobs) -> Vec<String> {
    let listed = event_loop::run(blobs.list("", None, 1000)).unwrap().unwrap();
    listed.into_iter().map(|listed| listed.key.to_string()).collect()
}

/// The settings of a server, as lines of a file.
fn settings_of(server: &Server) -> String {
    format!(
        "s3_endpoint = \"{}\"\ns3_region = \"{REGION}\"\ns3_bucket = \"{BUCKET}\"\n\
         s3_access_key = \"{ACCESS_KEY}\"\ns3_secret_key = \"{SECRET_KEY}\"\n",
        server.endpoint()
    )
}

#[test]
fn blobs_are_shown_by_tool() {
    let installation = Installation::new();
    let (code, text) = installation.run(&["blobs"], &[]);
    assert_eq!(
        (code, text.lines().next()),
        (1, Some("! toolshed: There are no blobs in HOME/data/blobs."))
    );
    assert!(!installation.path().join("data").exists());
    fs::create_dir(installation.path().join("data")).unwrap();
    let blobs = folder(&installation, "data/blobs");
    put(&blobs, "notes/a", "x");
    put(&blobs, "notes/b/c", &"x".repeat(3000));
    put(&blobs, "drawings/1", "");
    let (code, text) = installation.run(&["blobs"], &[]);
    let expected = "HOME/data/blobs: 3 blobs, 3 KiB\n\n\
                    TOOL      BLOBS  SIZE\n\
                    drawings  1      0 KiB\n\
                    notes     2      3 KiB\n";
    assert_eq!((code, text.as_str()), (0, expected));
}

#[test]
fn a_site_moves_to_s3_and_back() {
    let (installation, server) = (Installation::new(), Server::start());
    fs::create_dir(installation.path().join("data")).unwrap();
    let (own, bucket) = (folder(&installation, "data/blobs"), bucket(&server));
    put(&own, "notes/a", "first");
    put(&own, "notes/b", "first");
    let copy = ["blobs", "copy", "s3"];
    let (code, text) = installation.run(&copy, &[]);
    assert!(
        code == 2 && text.starts_with("! toolshed: No S3 store is set.\n! Hint: Write"),
        "{text}"
    );

    // Before the site uses it.
    installation.write("s3.toml", &settings_of(&server));
    let there = ["blobs", "copy", "--config", "s3.toml", "data/blobs", "s3"];
    let (code, text) = installation.run(&there, &[]);
    let expected = "Copied and compared 2 blobs (1 KiB), from data/blobs to the S3 bucket tests.\n";
    assert_eq!((code, text.as_str()), (0, expected));
    put(&own, "notes/c", "meanwhile");
    fs::rename(installation.path().join("s3.toml"), installation.path().join("toolshed.toml"))
        .unwrap();
    let (code, text) = installation.run(&["blobs", "copy", "data/blobs", "s3"], &[]);
    assert!(code == 0 && text.starts_with("Copied and compared "), "{text}");
    assert_eq!(keys(&bucket), ["notes/a", "notes/b", "notes/c"]);
    let (code, text) = installation.run(&["blobs"], &[]);
    assert!(code == 0 && text.starts_with("the S3 bucket tests: 3 blobs, 1 KiB\n"), "{text}");

    let (code, text) = installation.run(&copy, &[]);
    assert_eq!((code, text.as_str()), (2, "! toolshed: Both places are the S3 bucket tests.\n"));
    let (code, text) = installation.run(&["blobs", "copy", "kept"], &[]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(keys(&folder(&installation, "kept")), keys(&bucket));
}

#[test]
fn what_cannot_be_copied_is_named() {
    let installation = Installation::new();
    fs::create_dir(installation.path().join("data")).unwrap();
    let own = folder(&installation, "data/blobs");
    put(&own, "notes/a", "content");
    put(&own, "notes/b", "content");
    fs::write(installation.path().join("data/blobs/stored/notes/a="), "rubbish").unwrap();
    let (code, text) = installation.run(&["blobs", "copy", "copy"], &[]);
    let expected = "Copied and compared 1 blob (1 KiB), from HOME/data/blobs to copy.\n\
                    ! toolshed: Not copied: the blob notes/a is damaged: its content is not what was stored; \
                    delete it or restore it from a backup.\n\
                    ! toolshed: 1 blob could not be read; all others were copied.\n";
    assert_eq!((code, text.as_str()), (1, expected));
    put(&folder(&installation, "emptied"), "notes/a", "content");
    fs::remove_file(installation.path().join("emptied/stored/notes/a=")).unwrap();
    let (code, text) = installation.run(&["blobs", "copy", "emptied", "copy"], &[]);
    let expected = "There is nothing to copy: no blobs in emptied.\n";
    assert_eq!((code, text.as_str()), (0, expected));
    for (from, to, what) in [
        ("nowhere", "copy", "There are no blobs in nowhere."),
        ("data", "copy", "There are no blobs in data."),
        ("data/blobs", "./data/../data/blobs", "Both places are ./data/../data/blobs."),
        ("data/blobs", "toolshed/copy", "Not everything was copied: "),
    ] {
        let (code, text) = installation.run(&["blobs", "copy", from, to], &[]);
        assert!(code > 0 && text.starts_with(&format!("! toolshed: {what}")), "{text}");
    }
    assert!(!installation.path().join("data/stored").exists());
}

#[test]
fn a_backup_says_what_it_does_not_hold() {
    let (installation, server) = (Installation::new(), Server::start());
    let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
    assert!(log_in(&running, PASSWORD, &[]).1.is_some());
    let backup = || installation.run(&["backup", "copy.db"], &[]);
    let first = "Backed up HOME/data/toolshed.db to copy.db.\n".to_owned();
    assert_eq!(backup(), (0, first.clone()));
    let own = folder(&installation, "data/blobs");
    put(&own, "a", "x");
    let remark = "The blobs in HOME/data/blobs are not in it: copy them with `toolshed blobs copy FOLDER`.\n";
    assert_eq!(backup(), (0, first.clone() + remark));
    event_loop::run(own.delete(&"a".parse().unwrap())).unwrap().unwrap();
    assert_eq!(backup(), (0, first.clone()));
    installation.write("toolshed.toml", &settings_of(&server));
    drop(server);
    let remark = remark.replace("HOME/data/blobs", "the S3 bucket tests");
    assert_eq!(backup(), (0, first + &remark));
    // Of a database it is not even tried.
    let elsewhere = [("TOOLSHED_DATABASE", "postgres://site@localhost:1/toolshed")];
    let refused = "! toolshed: No backup was made: the store is in PostgreSQL.\n\
                   ! Hint: Back it up with pg_dump (docs/storing.md).\n";
    assert_eq!(installation.run(&["backup", "copy.db"], &elsewhere), (1, refused.to_owned()));
}

#[test]
fn a_folder_of_blobs_is_tried_out() {
    let installation = Installation::new();
    fs::create_dir(installation.path().join("data")).unwrap();
    let blobs = || about(&installation.run(&["check"], &[LISTEN]).1, "Blobs");
    assert_eq!(blobs(), "ok Blobs HOME/data/blobs, not yet created.");
    put(&folder(&installation, "data/blobs"), "a", "x");
    assert_eq!(blobs(), "ok Blobs HOME/data/blobs.");
    assert_eq!(keys(&folder(&installation, "data/blobs")), ["a"]);
    let path = installation.path().join("data/blobs");
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    let expected = "wrong Blobs HOME/data/blobs is writable by others (mode 777).\n\
                    Hint: chmod 700 HOME/data/blobs";
    assert_eq!((blobs().as_str(), blobs().as_str()), (expected, expected), "nothing is changed");
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    // Whoever may write everywhere cannot do so in a file.
    fs::remove_dir(path.join("incoming")).unwrap();
    fs::write(path.join("incoming"), "").unwrap();
    let text = blobs();
    assert!(text.starts_with("wrong Blobs HOME/data/blobs/incoming cannot be used: "), "{text}");
    let hint = "\nHint: Until then tools that keep files do not work.";
    assert!(text.ends_with(hint), "{text}");
    fs::remove_dir_all(&path).unwrap();
    fs::write(&path, "").unwrap();
    let expected = "wrong Blobs HOME/data/blobs is not a folder, so tools cannot keep files.\nHint: Remove it.";
    assert_eq!(blobs(), expected);
}

#[test]
fn a_folder_of_another_account_is_named() {
    let installation = Installation::new();
    let path = installation.path().join("data/blobs");
    fs::create_dir(installation.path().join("data")).unwrap();
    put(&folder(&installation, "data/blobs"), "a", "x");
    if fs::metadata(&path).unwrap().uid() != 0 {
        return;
    }
    fs::set_permissions(installation.path(), Permissions::from_mode(0o755)).unwrap();
    let mut check = installation.command(&["check"], &[LISTEN]);
    let output = check.uid(NOBODY).output().unwrap();
    let text = installation.without_folder(&String::from_utf8(output.stdout).unwrap());
    let expected = "wrong Blobs HOME/data/blobs belongs to another account (uid 0) or its permissions do not \
                    allow this; make the account that the site runs as its owner.\n\
                    Hint: Until then tools that keep files do not work.";
    assert_eq!(about(&text, "Blobs"), expected);

    let output = installation.command(&["blobs"], &[]).uid(NOBODY).output().unwrap();
    let text = installation.without_folder(&String::from_utf8(output.stderr).unwrap());
    let start =
        "toolshed: Cannot look into HOME/data/blobs: HOME/data/blobs belongs to another account";
    assert!(text.starts_with(start), "{text}");

    // Root checks on behalf of the account that the site runs as.
    chown(&path, Some(NOBODY), None).unwrap();
    let expected = "note Blobs HOME/data/blobs belongs to another account (uid 65534).\n\
                    Hint: Fine if the site runs as that account; check as that one whether it can be written.";
    assert_eq!(about(&installation.run(&["check"], &[LISTEN]).1, "Blobs"), expected);
    let (code, text) = installation.run(&["blobs"], &[]);
    assert_eq!(code, 1);
    let start = "! toolshed: Cannot look into HOME/data/blobs: the folder HOME/data/blobs of the blobs belongs to";
    assert!(text.starts_with(start), "{text}");
    let hint = "! Hint: Run it as the account that the site runs as, which owns its blobs.\n";
    assert!(text.ends_with(hint), "{text}");
}

#[test]
fn an_s3_store_is_tried_out_and_what_is_wrong_is_named() {
    let (installation, server) = (Installation::new(), Server::start());
    let good = settings_of(&server);
    let blobs = |settings: &str, environment: &[(&str, &str)]| {
        installation.write("toolshed.toml", settings);
        let environment = [&[LISTEN], environment].concat();
        about(&installation.run(&["check"], &environment).1, "Blobs")
    };
    assert_eq!(blobs(&good, &[]), "ok Blobs the S3 store keeps what it is given.");
    assert_eq!(keys(&bucket(&server)), [""; 0], "it is removed");
    // Two at once do not disturb each other.
    installation.write("toolshed.toml", &good);
    let checks = [0; 4].map(|_| {
        let mut check = installation.command(&["check"], &[LISTEN]);
        check.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    });
    for check in checks {
        let text = String::from_utf8(check.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(about(&text, "Blobs"), "ok Blobs the S3 store keeps what it is given.");
    }

    let refused =
        format!("wrong Blobs the S3 server localhost:{} refused a request", server.port());
    let clock = clock_that_is_an_hour_behind(&installation);
    let late = [("LD_PRELOAD", clock.to_str().unwrap())];
    for (settings, environment, problem) in [
        (
            good.replace(SECRET_KEY, "another"),
            &[][..],
            "; check access key, secret key, and what they allow.",
        ),
        (
            good.replace(ACCESS_KEY, "GK00"),
            &[],
            "; check access key, secret key, and what they allow.",
        ),
        (
            good.replace("\"tests\"", "\"no-such-bucket\""),
            &[],
            "; create the bucket, or correct its name.",
        ),
        (
            good.replace("\"garage\"", "\"mars\""),
            &[],
            "; correct the region, and the endpoint if it names one.",
        ),
        (good.clone(), &late, " min behind the server's, so correct it."),
    ] {
        let text = blobs(&settings, environment);
        let (line, hint) = text.split_once('\n').unwrap();
        assert!(line.starts_with(&refused) && line.ends_with(problem), "{text}");
        assert_eq!(hint, "Hint: Until then tools that keep files do not work.");
    }
    drop(server);
    let text = blobs(&good, &[]);
    let (line, hint) = text.split_once('\n').unwrap();
    assert!(line.starts_with("wrong Blobs the S3 server localhost:"), "{text}");
    assert!(line.contains(" cannot be used: ") && line.contains("Connection refused"), "{text}");
    assert!(
        hint.starts_with("Hint: Check s3_endpoint, and whether this machine may connect"),
        "{hint}"
    );
}

/// Returns a library that makes the program's clock wrong.
fn clock_that_is_an_hour_behind(installation: &Installation) -> PathBuf {
    installation.write(
        "clock.c",
        "#define _GNU_SOURCE\n#include <sys/syscall.h>\n#include <time.h>\n#include <unistd.h>\n\
         int clock_gettime(clockid_t clock, struct timespec *time) {\n\
             long result = syscall(SYS_clock_gettime, clock, time);\n\
             if (clock == CLOCK_REALTIME) time->tv_sec -= 3600;\n\
             return result;\n\
         }\n",
    );
    let library = installation.path().join("clock.so");
    let mut compiler = Command::new("gcc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(installation.path().join("clock.c"));
    assert!(compiler.status().unwrap().success());
    library
}
