//! The files of a new application.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hosted::Program;
use hosted::installation::{LAUNCHER, RULES};

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
        manifest.replace("{workspace}\n", if is_in_package(folder) { WORKSPACE } else { "" });
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
    // That of the temporary folder is private.
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))
}

/// Keeps it out of the workspace of a package above.
const WORKSPACE: &str = "\n[workspace]\n";

/// Whether cargo would look for it in the workspace of a package above.
fn is_in_package(folder: &Path) -> bool {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    folder.ancestors().skip(1).any(|above| above.join("Cargo.toml").is_file())
}
