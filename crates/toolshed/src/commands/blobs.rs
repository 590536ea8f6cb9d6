//! `toolshed blobs`: where the blobs are, how many, and how large; and copies of them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use atomic_file::FileIdentity;
use hosted::config::CommandLine;
use hosted::report::{self, Failure, PROGRESS_INTERVAL};
use site::blobs::{BlobError, BlobSettings, Blobs, Copied, MAX_LISTED};
use site::size;

use crate::application;
use crate::config::{Settings, keys};
use crate::flags::BlobsCommand;

pub(crate) fn run(
    command_line: &CommandLine,
    command: Option<&BlobsCommand>,
) -> Result<(), Failure> {
    let settings = keys().load_valid(command_line)?.settings;
    let own = Place::of_site(&settings);
    match command {
        None => show(&own),
        Some(BlobsCommand::Copy(places)) => match places.places.as_slice() {
            [from, to] => copy(&Place::named(from, &settings)?, &Place::named(to, &settings)?),
            [to] => copy(&own, &Place::named(to, &settings)?),
            _ => Err(Failure::wrong("Name the place to copy the blobs to.")),
        },
    }
}

/// Returns a sentence about the site's blobs, `…` in which is their place, if it may have some: for commands that take the
/// store and not the blobs.
pub(crate) fn remark(settings: &Settings, sentence: impl FnOnce(&str) -> String) -> String {
    let place = Place::of_site(settings);
    let may_have_some = match place.settings {
        BlobSettings::Folder(_) => {
            // What cannot be listed may be full of them.
            let none = async || place.blobs.list("", None, 1).await.is_ok_and(|it| it.is_empty());
            place.blobs.exists() && !event_loop::run(none()).is_ok_and(|none| none)
        }
        // It is not asked: the command is not to wait for a server that it does not need.
        _ => true,
    };
    if may_have_some { sentence(&place.shown) } else { String::new() }
}

/// Where blobs are.
struct Place {
    settings: BlobSettings,
    blobs: Blobs,
    /// As it is shown.
    shown: String,
}

impl Place {
    fn new(settings: BlobSettings) -> Place {
        let shown = match &settings {
            BlobSettings::S3(s3) => format!("the S3 bucket {}", s3.bucket),
            BlobSettings::Folder(folder) => folder.display().to_string(),
            _ => String::new(),
        };
        Place { blobs: Blobs::new(settings.clone()), settings, shown }
    }

    fn of_site(settings: &Settings) -> Place {
        Place::new(application::blobs(settings))
    }

    /// Returns the place that an argument names.
    fn named(name: &str, settings: &Settings) -> Result<Place, Failure> {
        if name != "s3" {
            return Ok(Place::new(BlobSettings::Folder(PathBuf::from(name))));
        }
        match application::blobs(settings) {
            BlobSettings::Folder(_) => Err(Failure::wrong("No S3 store is set.").hint(
                "Write s3_endpoint and what goes with it into a file of its own, and name that: \
                 toolshed --config FILE blobs copy … s3",
            )),
            s3 => Ok(Place::new(s3)),
        }
    }

    fn is_same(&self, other: &Place) -> bool {
        let identity = |folder: &Path| FileIdentity::of(folder);
        match (&self.settings, &other.settings) {
            (BlobSettings::Folder(one), BlobSettings::Folder(other)) => {
                identity(one).is_some_and(|one| identity(other) == Some(one))
            }
            (one, other) => one == other,
        }
    }

    fn is_inside(&self, other: &Place) -> bool {
        let absolute = |folder: &Path| {
            // Where the folder is to be, as far as there is something.
            let there = folder.ancestors().find_map(|it| fs::canonicalize(it).ok());
            fs::canonicalize(folder).ok().or(there)
        };
        match (&self.settings, &other.settings) {
            (BlobSettings::Folder(one), BlobSettings::Folder(other)) => absolute(one)
                .zip(absolute(other))
                .is_some_and(|(one, other)| one.starts_with(other)),
            _ => false,
        }
    }

    fn is_on_a_server(&self) -> bool {
        !matches!(self.settings, BlobSettings::Folder(_))
    }

    /// Refuses a folder without blobs, which would be created.
    fn refuse_missing(&self) -> Result<(), Failure> {
        match self.blobs.exists() {
            true => Ok(()),
            false => Err(Failure::refused(format!("There are no blobs in {}.", self.shown)).hint(
                "The site creates the folder when a tool first keeps something; set data if it is elsewhere.",
            )),
        }
    }
}

fn show(place: &Place) -> Result<(), Failure> {
    place.refuse_missing()?;
    let tools = event_loop::run(count_by_tool(&place.blobs))
        .map_err(Failure::refused)?
        .map_err(|error| failure(&format!("Cannot look into {}", place.shown), &error))?;
    let (blobs, bytes) = tools.values().fold((0, 0), |sum, tool| (sum.0 + tool.0, sum.1 + tool.1));
    let mut text = format!("{}: {}, {}\n", place.shown, counted(blobs), size(bytes));
    if !tools.is_empty() {
        let row =
            |(tool, (blobs, bytes)): (String, (u64, u64))| [tool, blobs.to_string(), size(bytes)];
        let rows: Vec<_> = tools.into_iter().map(row).collect();
        text += "\n";
        text += &report::table(["TOOL", "BLOBS", "SIZE"], &rows);
    }
    report::print(&text)
}

/// Counts blobs and bytes by the first segment of their keys, which is the tool's name.
async fn count_by_tool(blobs: &Blobs) -> Result<BTreeMap<String, (u64, u64)>, BlobError> {
    let mut tools = BTreeMap::new();
    let mut after = None;
    loop {
        let page = blobs.list("", after.as_ref(), MAX_LISTED).await?;
        let Some(last) = page.last() else { return Ok(tools) };
        after = Some(last.key.clone());
        for listed in page {
            let tool = listed.key.as_str().split('/').next().unwrap_or_default();
            let (blobs, bytes) = tools.entry(tool.to_owned()).or_default();
            *blobs += 1;
            *bytes += listed.length;
        }
    }
}

fn copy(from: &Place, to: &Place) -> Result<(), Failure> {
    from.refuse_missing()?;
    if from.is_same(to) {
        return Err(Failure::wrong(format!("Both places are {}.", to.shown)));
    }
    if to.is_inside(from) {
        return Err(Failure::wrong(format!("{} is inside {}.", to.shown, from.shown)));
    }
    // A server says why it refuses only in answer to requests like this one.
    for place in [from, to].into_iter().filter(|place| place.is_on_a_server()) {
        event_loop::run(place.blobs.list("", None, 1))
            .map_err(Failure::refused)?
            .map_err(|error| failure("Nothing was copied", &error))?;
    }
    let mut shown = Instant::now();
    let progress = |now: &Copied| {
        if shown.elapsed() >= PROGRESS_INTERVAL {
            shown = Instant::now();
            // If it cannot be shown, the end still is.
            let _ = writeln!(io::stderr(), "{}, {} …", counted(now.blobs), size(now.bytes));
        }
    };
    let copied = event_loop::run(from.blobs.copy_to(&to.blobs, progress))
        .map_err(Failure::refused)?
        .map_err(|error| failure("Not everything was copied", &error))?;
    if copied.blobs == 0 && copied.present == 0 && copied.unreadable.is_empty() {
        return report::print(&format!("There is nothing to copy: no blobs in {}.\n", from.shown));
    }
    let mut text = format!(
        "Copied and compared {} ({}), from {} to {}",
        counted(copied.blobs),
        size(copied.bytes),
        from.shown,
        to.shown
    );
    if copied.present > 0 {
        text += &format!("; already there: {}", copied.present);
    }
    report::print(&(text + ".\n"))?;
    match copied.unreadable.len() as u64 {
        0 => Ok(()),
        count => {
            for error in copied.unreadable {
                // If it cannot be written, the exit code says it.
                let _ = writeln!(io::stderr(), "toolshed: Not copied: {error}.");
            }
            let count = counted(count);
            Err(Failure::refused(format!("{count} could not be read; all others were copied.")))
        }
    }
}

fn counted(blobs: u64) -> String {
    match blobs {
        1 => "1 blob".to_owned(),
        blobs => format!("{blobs} blobs"),
    }
}

fn failure(what: &str, error: &BlobError) -> Failure {
    let failure = Failure::refused(format!("{what}: {error}."));
    match error {
        BlobError::Foreign { .. } => {
            failure.hint("Run it as the account that the site runs as, which owns its blobs.")
        }
        _ => failure,
    }
}
