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
    report::print(&report::table(["NAME", "FOR", "PATH", "TITLE"], &rows))
}
