//! The cargo project of a program: what it is built from, and how cargo builds it again.
//!
//! Beside a program that it has built, cargo leaves the list of its sources, those of all local crates included: `NAME.d`,
//! in the format of make. So nothing has to be guessed, and nothing else is watched.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What cargo marks its target folder with.
const TARGET_MARK: &str = "CACHEDIR.TAG";

const MANIFEST: &str = "Cargo.toml";

/// When a file was written, and how long it is; `None` if it does not exist.
type Stamp = Option<(SystemTime, u64)>;

/// A program that cargo has built, with its package.
#[derive(Debug)]
pub(crate) struct CargoProject {
    /// The package's folder.
    pub(crate) folder: PathBuf,
    /// The folder in which cargo builds.
    target: PathBuf,
    /// The list of the program's sources.
    list: PathBuf,
    /// What selects the program and how it was built.
    selection: Vec<OsString>,
    /// The sources as they were before the last build.
    known: BTreeMap<PathBuf, Stamp>,
    /// When that began.
    known_at: SystemTime,
}

impl CargoProject {
    /// Finds the project of a program. `package`: a folder of the package, or below it.
    ///
    /// # Errors
    ///
    /// One sentence: why there is none.
    pub(crate) fn find(program: &Path, package: &Path) -> Result<CargoProject, String> {
        let shown = program.display();
        let target = program.ancestors().find(|folder| folder.join(TARGET_MARK).is_file());
        let target = target.ok_or(format!("{shown} is not in a target folder of cargo's"))?;
        let mut list = OsString::from(program);
        list.push(".d");
        let list = PathBuf::from(list);
        if !list.is_file() {
            return Err(format!("{} is missing, which cargo writes", list.display()));
        }
        let folder = package.ancestors().find(|folder| folder.join(MANIFEST).is_file());
        let folder =
            folder.ok_or(format!("there is no {MANIFEST} in {} or above it", package.display()))?;
        let below = program.strip_prefix(target).unwrap_or(program);
        let mut project = CargoProject {
            folder: folder.to_owned(),
            target: target.to_owned(),
            list,
            selection: selection(below),
            known: BTreeMap::new(),
            known_at: SystemTime::now(),
        };
        project.note();
        Ok(project)
    }

    /// Returns cargo's arguments for building the program as it was built.
    pub(crate) fn build_arguments(&self) -> impl Iterator<Item = OsString> + use<> {
        ["build".into()].into_iter().chain(self.selection.clone())
    }

    /// Takes the sources as they are now as those that are built. Call it right before a build.
    pub(crate) fn note(&mut self) {
        self.known_at = SystemTime::now();
        self.known =
            self.sources().into_iter().map(|path| (stamp(&path), path)).map(swap).collect();
    }

    /// Returns a source that has changed since then.
    pub(crate) fn changed(&mut self) -> Option<PathBuf> {
        for path in self.sources() {
            let now = stamp(&path);
            match self.known.get(&path) {
                Some(known) if *known == now => {}
                // It is in the list only since the last build, which has read it unless it is newer.
                None if now.is_some_and(|(written, _)| written < self.known_at) => {
                    self.known.insert(path, now);
                }
                _ => return Some(path),
            }
        }
        None
    }

    /// What the program is built from: the list, and the manifests from the package up to the folder above the target's.
    fn sources(&self) -> Vec<PathBuf> {
        let list = fs::read_to_string(&self.list).unwrap_or_default();
        let root = self.target.parent();
        let above = self.folder.ancestors();
        let is_in_the_project = |folder: &&Path| root.is_some_and(|root| folder.starts_with(root));
        let folders =
            above.take(1).chain(self.folder.ancestors().skip(1).take_while(is_in_the_project));
        let manifests =
            folders.flat_map(|folder| [folder.join(MANIFEST), folder.join("Cargo.lock")]);
        // What a build script writes follows from other sources.
        let is_written = |path: &PathBuf| !path.starts_with(&self.target);
        sources_in(&list).into_iter().filter(is_written).chain(manifests).collect()
    }
}

fn swap<A, B>((one, other): (A, B)) -> (B, A) {
    (other, one)
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Returns the arguments that select a program by where it is in the target folder: `PROFILE/NAME`, or
/// `TRIPLE/PROFILE/NAME`, with `examples` in between for an example.
fn selection(below: &Path) -> Vec<OsString> {
    let mut parts: Vec<OsString> = below.iter().map(ToOwned::to_owned).collect();
    let name = parts.pop().unwrap_or_default();
    let is_example = parts.last().is_some_and(|folder| folder == "examples");
    if is_example {
        parts.pop();
    }
    let mut arguments = vec![if is_example { "--example" } else { "--bin" }.into(), name];
    match parts.pop() {
        Some(profile) if profile == "debug" => {}
        Some(profile) => arguments.extend(["--profile".into(), profile]),
        None => {}
    }
    if let Some(triple) = parts.pop() {
        arguments.extend(["--target".into(), triple]);
    }
    arguments
}

/// Returns the files on which a rule in make's format depends. A backslash is before a space in a name.
fn sources_in(list: &str) -> Vec<PathBuf> {
    let rule = list.lines().next().unwrap_or_default();
    let (_, sources) = rule.split_once(": ").unwrap_or_default();
    let mut files = vec![String::new()];
    let mut letters = sources.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.peek() == Some(&' ') => {
                letters.next();
                files.last_mut().unwrap_or(&mut String::new()).push(' ');
            }
            ' ' => files.push(String::new()),
            letter => files.last_mut().unwrap_or(&mut String::new()).push(letter),
        }
    }
    files.into_iter().filter(|file| !file.is_empty()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    #[test]
    fn a_program_is_selected_by_where_it_is() {
        for (below, arguments) in [
            ("debug/my-app", "--bin my-app"),
            ("release/my-app", "--bin my-app --profile release"),
            ("small/my-app", "--bin my-app --profile small"),
            (
                "x86_64-unknown-linux-musl/release/my-app",
                "--bin my-app --profile release --target x86_64-unknown-linux-musl",
            ),
            ("debug/examples/my-app", "--example my-app"),
        ] {
            assert_eq!(selection(Path::new(below)).join(" ".as_ref()), arguments, "{below}");
        }
    }

    #[test]
    fn names_in_the_list_may_have_spaces() {
        let files = sources_in("/t/debug/a: /p/src/main.rs /p/my\\ page.html\n\nmore: x\n");
        assert_eq!(files, [Path::new("/p/src/main.rs"), Path::new("/p/my page.html")]);
    }

    /// With the real cargo.
    #[test]
    fn what_has_changed_is_found_and_built() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let write = |name: &str, text: &str| {
            fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
            fs::write(folder.join(name), text).unwrap();
        };
        let cargo = |arguments: &mut dyn Iterator<Item = OsString>| -> Output {
            let mut command = Command::new(std::env::var_os("CARGO").unwrap());
            command.args(arguments).arg("--offline").current_dir(folder);
            command.env_remove("CARGO_TARGET_DIR").output().unwrap()
        };
        write("Cargo.toml", "[package]\nname = \"my-app\"\nedition = \"2024\"\n[workspace]\n");
        write("src/main.rs", "mod other; fn main() { print!(\"{}\", include_str!(\"a page\")) }");
        write("src/other.rs", "");
        write("src/a page", "one");
        assert!(cargo(&mut ["build".into()].into_iter()).status.success());

        let program = folder.join("target/debug/my-app");
        let mut project = CargoProject::find(&program, &folder.join("src")).unwrap();
        assert_eq!(project.folder, folder);
        assert_eq!(project.changed(), None);
        // Cargo compares times, too.
        std::thread::sleep(std::time::Duration::from_millis(20));
        write("src/a page", "two and more");
        assert_eq!(project.changed(), Some(folder.join("src/a page")));
        project.note();
        assert!(cargo(&mut project.build_arguments()).status.success());
        assert_eq!(Command::new(&program).output().unwrap().stdout, b"two and more");
        assert_eq!(project.changed(), None);

        write("src/main.rs", "fn main() { wrong }");
        project.note();
        assert!(!cargo(&mut project.build_arguments()).status.success());
        assert_eq!(project.changed(), None, "it is not built again and again");
        // A new file, by the one that names it.
        write("src/main.rs", "mod new; fn main() {}");
        write("src/new.rs", "");
        assert_eq!(project.changed(), Some(folder.join("src/main.rs")));
        project.note();
        assert!(cargo(&mut project.build_arguments()).status.success());
        assert_eq!(project.changed(), None);
        write("src/new.rs", "// changed\n");
        assert_eq!(project.changed(), Some(folder.join("src/new.rs")));
        write("src/new.rs", "");

        for (program, package, why) in [
            (folder.join("my-app"), folder, "is not in a target folder"),
            (folder.join("target/debug/other"), folder, "other.d is missing"),
            (program, Path::new("/"), "there is no Cargo.toml in / or above it"),
        ] {
            let error = CargoProject::find(&program, package).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
