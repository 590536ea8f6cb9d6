//! `toolshed tools`: the table of tools.

use site::Access;

use super::valid_settings;
use crate::application;
use crate::config::CommandLine;
use crate::report::{self, Failure};

/// Prints a line per tool: name, who may use it, path, title.
pub(crate) fn run(command_line: &CommandLine) -> Result<(), Failure> {
    let configuration = valid_settings(command_line)?;
    let site = application::site_settings(&configuration.settings);
    let rows: Vec<[String; 4]> = tools::TABLE
        .iter()
        .map(|tool| {
            let open = match (site.opens(tool), tool.access) {
                (true, _) => "everybody",
                (false, Access::Open) => "owner",
                (false, Access::Named) => "owner; to be named",
            };
            [tool.name.to_owned(), open.to_owned(), tool.path(), tool.title.to_owned()]
        })
        .collect();
    report::print(&table(["NAME", "FOR", "PATH", "TITLE"], &rows))
}

/// Formats lines with aligned columns.
fn table(head: [&str; 4], rows: &[[String; 4]]) -> String {
    let head = head.map(str::to_owned);
    let lines = || [&head].into_iter().chain(rows);
    let width = |column: usize| lines().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [name, open, path, title] in lines() {
        text +=
            &format!("{name:0$}  {open:1$}  {path:2$}  {title}\n", widths[0], widths[1], widths[2]);
    }
    text
}
