//! `toolshed tools`: the table of tools.

use hosted::config::CommandLine;
use hosted::report::{self, Failure};
use site::Access;

use crate::application;
use crate::config::keys;

/// Prints a line per tool: name, who may use it, path, title.
pub(crate) fn run(command_line: &CommandLine) -> Result<(), Failure> {
    let configuration = keys().load_valid(command_line)?;
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
