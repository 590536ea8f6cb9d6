//! The files of a new application.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hosted::Program;
use hosted::installation::{LAUNCHER, RULES};
use toml::Spanned;
use toml::de::DeTable;

/// What stands for the name in the templates.
const NAME: &str = "{name}";

/// Writes all of them into a folder. `hosted`: the folder of that crate; without one, it comes from a registry.
///
/// # Errors
///
/// If one cannot be written.
pub(crate) fn write(name: &str, hosted: Option<&Path>, folder: &Path) -> io::Result<()> {
    let source = match hosted {
        // A path in TOML: escaped as Rust does.
        Some(hosted) => format!("path = {:?}", hosted.to_string_lossy()),
        None => format!("version = {:?}", env!("CARGO_PKG_VERSION")),
    };
    let manifest = include_str!("../template/Cargo.toml.txt");
    let manifest = manifest.replace("{hosted}", &source);
    let manifest =
        manifest.replace("{workspace}\n", if is_in_a_workspace(folder) { WORKSPACE } else { "" });
    fs::create_dir(folder.join("src"))?;
    fs::create_dir(folder.join("web"))?;
    for (file, text) in [
        ("Cargo.toml", &*manifest),
        ("src/main.rs", include_str!("../template/main.rs.txt")),
        ("README.md", include_str!("../template/README.md.txt")),
        (".gitignore", include_str!("../template/gitignore.txt")),
    ] {
        fs::write(folder.join(file), text.replace(NAME, name))?;
    }
    let program = Program { name: name.to_owned().leak(), version: "" };
    let web = folder.join("web");
    for (entry, text) in [(LAUNCHER, program.launcher()), (RULES, program.rewrite_rules())] {
        let mut new = OpenOptions::new();
        let file = new.write(true).create_new(true).mode(entry.mode).open(entry.within(&web));
        file?.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Keeps it out of the workspace above.
const WORKSPACE: &str = "\n[workspace]\n";

/// Whether cargo would take a package in this folder for a part of a workspace above. A manifest there that cannot be read would be
/// in its way, too.
fn is_in_a_workspace(folder: &Path) -> bool {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    folder.ancestors().skip(1).any(|above| match fs::read_to_string(above.join("Cargo.toml")) {
        Ok(manifest) => DeTable::parse(&manifest).map_or(true, |manifest| {
            let manifest = manifest.get_ref();
            let package = manifest.get("package").map(Spanned::get_ref);
            manifest.contains_key("workspace")
                || package.is_some_and(|package| package.get("workspace").is_some())
        }),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_is_found_in_any_folder_above() {
        let folder = tempfile::tempdir().unwrap();
        let above = folder.path();
        let app = above.join("a/app");
        fs::create_dir_all(&app).unwrap();
        assert!(!is_in_a_workspace(&app));
        for (manifest, is_one) in [
            ("[workspace]\nmembers = []\n", true),
            ("workspace.members = []\n", true),
            ("[package]\nname = \"a\"\nworkspace = \"../other\"\n", true),
            ("[package]\nname = \"a\"\n", false),
            ("# [workspace]\n", false),
            ("not TOML", true),
        ] {
            fs::write(above.join("Cargo.toml"), manifest).unwrap();
            assert_eq!(is_in_a_workspace(&app), is_one, "{manifest}");
        }
    }
}
