//! A process that puts, uploads, replaces and deletes blobs is killed again and again. What it was told to be done is done, and
//! what it was at is either done or not. And several such processes use one folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use blobs::{BlobSettings, Blobs, Key, PutOptions};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};

/// How often it is killed at least.
const ROUNDS: u32 = 40;

/// Until it has done so many steps, it is killed more often, on a machine whose disk is slow, but not for longer than
/// this.
const STEPS: usize = 20;
const MAX_TIME: Duration = Duration::from_secs(30);

const FOLDER: &str = "TEST_BLOBS";

/// The version of a blob; 0 for none.
type Version = u64;

fn open(folder: &Path) -> Blobs {
    Blobs::open(&BlobSettings::Folder(folder.to_owned())).unwrap()
}

fn content(version: Version) -> Bytes {
    // Up to 1.5 MB.
    let words = 1 + (version.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % 190_000;
    (0..words).flat_map(|at| (version + at as u64).to_le_bytes()).collect()
}

fn random() -> u64 {
    getrandom::u64().unwrap()
}

/// Puts and deletes blobs until it is killed. Writes a line before and after each step.
pub(crate) fn putter() {
    let blobs = open(Path::new(&std::env::var_os(FOLDER).unwrap()));
    let say = |line: String| std::io::stdout().write_all((line + "\n").as_bytes()).unwrap();
    event_loop::run(async {
        loop {
            let number = random();
            let name = format!("{}/{}/{}", number % 2, number / 2 % 2, number / 4 % 3);
            let key: Key = name.parse().unwrap();
            let version = if random().is_multiple_of(4) { 0 } else { random() | 1 };
            say(format!("begin {name} {version}"));
            match version {
                0 => blobs.delete(&key).await.unwrap(),
                _ if version & 2 == 0 => upload(&blobs, &key, content(version)).await,
                _ => {
                    let content = Full::from(content(version));
                    blobs.put(&key, content, PutOptions::default()).await.unwrap();
                }
            }
            say(format!("done {name} {version}"));
        }
    })
    .unwrap();
}

async fn upload(blobs: &Blobs, key: &Key, content: Bytes) {
    let length = content.len() as u64;
    let id = blobs.begin_upload(key, PutOptions::default()).await.unwrap();
    blobs.put_part(key, &id, NonZeroU16::MIN, Full::from(content)).await.unwrap();
    blobs.finish_upload(key, &id, length).await.unwrap();
}

pub(crate) fn nothing_is_lost() {
    let outer = tempfile::tempdir().unwrap();
    let folder: PathBuf = outer.path().join("blobs");
    let mut known: BTreeMap<String, Version> = BTreeMap::new();
    let start = Instant::now();
    let (mut rounds, mut steps, mut cut) = (0, 0, 0);
    while start.elapsed() < MAX_TIME && (rounds < ROUNDS || steps < STEPS) {
        rounds += 1;
        let in_flight = run_and_kill(&folder, &mut known, &mut steps);
        cut += usize::from(in_flight.is_some());
        let found = event_loop::run(read_all(&open(&folder))).unwrap();
        if let Some((name, version)) = in_flight
            && found.get(&name).copied().unwrap_or_default() == version
        {
            known.insert(name, version);
        }
        known.retain(|_, version| *version != 0);
        assert_eq!(found, known);
    }
    assert!(steps > 0 && cut > 0, "{rounds} rounds, {steps} steps, {cut} cut");

    // The rest of puts that were cut is removed later.
    let incoming = folder.join("incoming");
    let rest = || fs::read_dir(&incoming).unwrap().map(|entry| entry.unwrap().path());
    assert!(rest().count() > 0, "no put was cut");
    let long_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    rest().for_each(|path| fs::File::open(path).unwrap().set_modified(long_ago).unwrap());
    event_loop::run(open(&folder).remove_expired()).unwrap().unwrap();
    assert_eq!(rest().count(), 0);
}

/// Others put, delete and sweep at the same time, and create and remove the same folders.
pub(crate) fn several_processes_share_a_folder() {
    let outer = tempfile::tempdir().unwrap();
    let folder: PathBuf = outer.path().join("blobs");
    let blobs = open(&folder);
    let start = || {
        let mut putter = case_runner::itself("putter");
        putter.env(FOLDER, &folder).stdout(Stdio::null()).spawn().unwrap()
    };
    let mut putters: Vec<_> = (0..3).map(|_| start()).collect();
    let begin = Instant::now();
    let mut seen = 0;
    while begin.elapsed() < Duration::from_secs(3) {
        seen += event_loop::run(read_all(&blobs)).unwrap().len();
        event_loop::run(blobs.remove_expired()).unwrap().unwrap();
    }
    for putter in &mut putters {
        assert_eq!(putter.try_wait().unwrap(), None, "a putter has failed");
        putter.kill().unwrap();
        putter.wait().unwrap();
    }
    assert!(seen > 0);
}

/// Runs the putter for a moment; notes what it has done, and returns what it was at.
fn run_and_kill(
    folder: &Path,
    known: &mut BTreeMap<String, Version>,
    steps: &mut usize,
) -> Option<(String, Version)> {
    let mut putter = case_runner::itself("putter");
    let mut child = putter.env(FOLDER, folder).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    std::thread::sleep(Duration::from_micros(random() % 120_000));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut in_flight = None;
    for line in std::iter::once(first).chain(output.lines().map(Result::unwrap)) {
        let words: Vec<&str> = line.trim().split(' ').collect();
        let step = (words[1].to_owned(), words[2].parse().unwrap());
        if words[0] == "done" {
            *steps += 1;
            known.insert(step.0, step.1);
            in_flight = None;
        } else {
            in_flight = Some(step);
        }
    }
    in_flight
}

/// Reads every blob, and checks that it is whole.
async fn read_all(blobs: &Blobs) -> BTreeMap<String, Version> {
    let mut found = BTreeMap::new();
    for listed in blobs.list("", None, 100).await.unwrap() {
        // It may have been deleted meanwhile.
        let Some(blob) = blobs.get(&listed.key, ..).await.unwrap() else { continue };
        let bytes = blob.body.collect().await.unwrap().to_bytes();
        let version = Version::from_le_bytes(*bytes.first_chunk().unwrap());
        assert!(bytes == content(version), "{} is not whole", listed.key);
        found.insert(listed.key.to_string(), version);
    }
    found
}
