//! A new application builds, passes its test and its lints, and serves, where there is no network.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn new(folder: &Path, name: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-hosted"));
    // As cargo calls it.
    command.args(["hosted", "new", name]).current_dir(folder).output().expect("it starts")
}

/// Runs cargo in the application, in the target folder of this workspace. What cargo has told this test of its own package is left
/// out: build scripts look at it, so they, and all above them, would run again here and in this workspace.
fn cargo(app: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .current_dir(app)
        .env("CARGO_TARGET_DIR", target())
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_NET_OFFLINE", "true")
        .output()
        .expect("cargo starts")
}

/// A folder for an application that is built. It is the same each time, because cargo keeps what it has built for each folder, and
/// below this workspace. Dependencies are compiled as here (`profile.dev`): what this workspace's tests have compiled is there already.
fn folder_to_build_in() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-app");
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => fs::create_dir_all(folder.join(".cargo")).expect("a folder"),
    }
    let configuration = "\
        profile.dev.opt-level = 1\n\
        profile.dev.debug = 'line-tables-only'\n\
        profile.dev.package.new-app-of-a-test.opt-level = 0\n";
    fs::write(folder.join(".cargo/config.toml"), configuration).expect("it is written");
    folder
}

/// The target folder of this workspace.
fn target() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().expect("it is in the target folder").to_owned()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn a_new_application_works_at_once() {
    const NAME: &str = "new-app-of-a-test";
    let folder = folder_to_build_in();
    let written = new(&folder, NAME);
    assert!(written.status.success(), "{}", text(&written));
    assert!(text(&written).contains(&format!("cd {NAME}\n")), "{}", text(&written));
    let app = folder.join(NAME);
    for file in ["Cargo.toml", "README.md", ".gitignore", "src/main.rs", "web/.htaccess"] {
        let content = fs::read_to_string(app.join(file)).expect("it is written");
        assert!(!content.contains("{name}") && !content.contains("{hosted}"), "{file}");
    }
    let launcher = fs::metadata(app.join("web/dispatch.fcgi")).expect("it is written");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&launcher.permissions()) & 0o777, 0o755);

    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::copy(project.join("Cargo.lock"), app.join("Cargo.lock")).expect("there is one");
    // As outside of this workspace, whose own style is in a file above.
    let style = "use_small_heuristics=Default,max_width=100";
    let formatted = cargo(&app, &["fmt", "--check", "--", "--config", style]);
    assert!(formatted.status.success(), "{}", text(&formatted));
    let lints = cargo(&app, &["clippy", "--all-targets", "--", "-D", "warnings"]);
    assert!(lints.status.success(), "{}", text(&lints));
    let tested = cargo(&app, &["test"]);
    assert!(text(&tested).contains("1 passed; 0 failed"), "{}", text(&tested));
    let built = cargo(&app, &["build"]);
    assert!(built.status.success(), "{}", text(&built));

    // As on a host: the program in a folder of its own, the two files in the document root.
    let account = TempDir::new().expect("a folder");
    let (home, site) = (account.path().join(NAME), account.path().join("public_html"));
    fs::create_dir(&home).expect("a folder");
    let program = home.join(NAME);
    fs::copy(target().join("debug").join(NAME), &program).expect("it is there");
    fs::rename(app.join("web"), &site).expect("it is moved");
    let run = |command: &mut Command| {
        let output = command.current_dir(&home).env("HOME", account.path()).output();
        output.expect("it starts")
    };
    let checked = run(Command::new(&program).arg("check"));
    let said = text(&checked);
    assert!(checked.status.success() && said.contains("it starts this program"), "{said}");
    assert!(said.lines().all(|line| line.starts_with("ok ")), "{said}");
    let there = run(Command::new(&program).arg("launcher").arg(&site));
    assert!(text(&there).starts_with("Both files are in "), "{}", text(&there));

    fs::write(home.join("form"), "name=Ann").expect("it is written");
    let form = "Content-Type: application/x-www-form-urlencoded";
    for _ in 0..2 {
        let post = ["request", "POST", "/", "--body", "form", "-H", form];
        let signed = run(Command::new(&program).args(post));
        assert!(text(&signed).starts_with("303 See Other\nlocation: /\n"), "{}", text(&signed));
    }
    let page = run(Command::new(&program).args(["request", "GET", "/"]));
    assert!(text(&page).contains("Ann, 2 visits"), "{}", text(&page));
    // As Apache starts it with mod_cgi.
    let variables = [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", "/"),
        ("SCRIPT_NAME", "/dispatch.fcgi"),
        ("SERVER_NAME", "localhost"),
        ("SERVER_PORT", "80"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
    ];
    let launched = run(Command::new(site.join("dispatch.fcgi")).env_clear().envs(variables));
    let said = text(&launched);
    assert!(said.starts_with("Status: 200 OK\r\n") && said.contains("Ann, 2 visits"), "{said}");
}

#[test]
fn a_workspace_above_does_not_take_it_in() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("Cargo.toml"), "[workspace]\nmembers = []\n").expect("written");
    assert!(new(folder.path(), "my-app").status.success());
    let manifest = fs::read_to_string(folder.path().join("my-app/Cargo.toml")).expect("written");
    assert!(manifest.ends_with("\n[workspace]\n"), "{manifest}");
    let metadata =
        cargo(&folder.path().join("my-app"), &["metadata", "--no-deps", "--format-version", "1"]);
    assert!(metadata.status.success(), "{}", text(&metadata));
}

/// The lock file could not tell two packages of the same name and version, both found by path.
#[test]
fn no_crate_that_it_is_built_from_is_a_name() {
    let folder = TempDir::new().expect("a folder");
    assert!(new(folder.path(), "my-app").status.success());
    let ours = packages(Path::new(env!("CARGO_MANIFEST_DIR")));
    let mut crates = BTreeSet::new();
    let mut to_see = uses(&packages(&folder.path().join("my-app"))[0], |_| true);
    while let Some(name) = to_see.pop() {
        let package = ours.iter().find(|package| package["name"] == *name);
        let ships = |used: &Value| used["kind"].is_null() && used["path"].is_string();
        to_see.extend(package.into_iter().flat_map(|package| uses(package, ships)));
        crates.insert(name);
    }
    assert!(crates.contains("axum") && crates.contains("sys"), "{crates:?}");
    for name in crates {
        let refused = new(folder.path(), &name);
        assert_eq!(refused.status.code(), Some(2), "{name}: {}", text(&refused));
    }
}

/// The names of those dependencies of a package that are meant.
fn uses(package: &Value, is_meant: impl Fn(&Value) -> bool) -> Vec<String> {
    let all = package["dependencies"].as_array().expect("a list").iter();
    let name = |used: &Value| used["name"].as_str().expect("a name").to_owned();
    all.filter(|used| is_meant(used)).map(name).collect()
}

/// The packages of the workspace that a folder is in.
fn packages(folder: &Path) -> Vec<Value> {
    let described = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(folder)
        .output()
        .expect("cargo starts");
    let mut described: Value = serde_json::from_slice(&described.stdout).expect("JSON");
    match described["packages"].take() {
        Value::Array(packages) => packages,
        other => panic!("no list of packages: {other}"),
    }
}

#[test]
fn mistakes_get_a_sentence() {
    let folder = TempDir::new().expect("a folder");
    let refused = new(folder.path(), "match");
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(
        text(&refused),
        "cargo hosted: match is a word of Rust; choose another name, such as my-match.\n\
         Hint: Nothing was written.\n"
    );
    fs::create_dir(folder.path().join("my-app")).expect("a folder");
    let taken = new(folder.path(), "my-app");
    assert_eq!(taken.status.code(), Some(2));
    assert!(text(&taken).starts_with("cargo hosted: my-app is there already."), "{}", text(&taken));
    let alone = Command::new(env!("CARGO_BIN_EXE_cargo-hosted")).output().expect("it starts");
    assert_eq!(alone.status.code(), Some(2));
    assert!(text(&alone).contains("Usage: cargo hosted"), "{}", text(&alone));
}
