//! The table of docs/popular-crates.md.

use std::fs;
use std::path::Path;

use crate::Case;
use crate::attempt::Reload;
use crate::verdict::{Verdict, Works};

const BEGIN: &str = "<!-- table: written by examples/popular-crates/run -->\n";
const END: &str = "<!-- end of the table -->";

/// Characters of a message that are shown.
const MESSAGE: usize = 160;

/// Writes the tables between the page's markers.
pub(crate) fn write(page: &Path, groups: &[(&str, Vec<(&Case, Verdict)>)]) -> Result<(), String> {
    let error = |error| format!("{}: {error}", page.display());
    let text = fs::read_to_string(page).map_err(error)?;
    let no_marker = || format!("{} has no markers for the table", page.display());
    let (before, after) = text.split_once(BEGIN).ok_or_else(no_marker)?;
    let (_, after) = after.split_once(END).ok_or_else(no_marker)?;
    let mut tables = String::new();
    for (heading, rows) in groups {
        tables += &format!("\n### {heading}\n\n");
        tables += "| crate | | on a host without threads | notes |\n| --- | --- | --- | --- |\n";
        for (case, verdict) in rows {
            tables += &row(case, verdict);
            tables += "\n";
        }
    }
    fs::write(page, format!("{before}{BEGIN}{tables}\n{END}{after}")).map_err(error)
}

/// A line of a table.
pub(crate) fn row(case: &Case, verdict: &Verdict) -> String {
    let works = match verdict.works {
        Works::Everywhere => "works",
        Works::InTokio => "works with tokio",
        Works::OnTheBareLoop => "works without tokio",
        Works::WithThreads => "needs a thread",
        Works::WithThreadsOnTheBareLoop => "needs a thread, without tokio",
        Works::Nowhere => "does not work",
    };
    let version: Vec<_> = case.version.splitn(3, '.').take(2).collect();
    let mut notes = Vec::new();
    // What is missing without tokio is always the same, and said above the table.
    if verdict.works != Works::InTokio
        && let Some(message) = &verdict.message
    {
        notes.push(format!("“{}”", shown(message)));
    }
    if !verdict.threads.is_empty() && verdict.works != Works::WithThreads {
        notes.push("Starts a thread where it may.".to_owned());
    }
    if verdict.reload == Reload::Waits {
        notes.push("Reloads wait.".to_owned());
    }
    if !case.note.is_empty() {
        notes.push(case.note.clone());
    }
    let notes = notes.join(" ");
    let row =
        format!("| `{}` {} | {} | {works} | {notes} |", case.package, version.join("."), case.what);
    row.replace("  ", " ")
}

/// A message as it is in a cell: without the place in the source, the cure, and what is too long.
fn shown(message: &str) -> String {
    let ends = [
        ". The host refuses",
        ". It needs tokio",
        ". Often this is",
        ". The server has one",
        ", at ",
    ];
    let end = |message: &str, end: &&str| message.find(end).unwrap_or(message.len());
    let length = ends.iter().map(|text| end(message, text)).min().unwrap_or(message.len());
    let message = &message[..length];
    let mut shown: String = message.trim_end_matches('.').chars().take(MESSAGE).collect();
    if shown.len() < message.trim_end_matches('.').len() {
        shown.push('…');
    }
    shown.replace('|', "\\|").replace('<', "&lt;")
}
