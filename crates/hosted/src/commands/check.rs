//! `check [FOLDER]`: what is installed and what would fail, without changing anything.
//!
//! One line per finding: `ok`, `note` (may be intended) or `wrong`, with a hint below what is not ok. It opens nothing
//! for writing and binds no socket except a TCP port for a moment.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use app_server::Address;
use atomic_file::{FileIdentity, folder_of, is_foreign};
use rustix::fs::{Access, access};
use rustix::process::geteuid;

use super::{Context, serve};
use crate::app::App;
use crate::config::{CommandLine, Configuration, in_words};
use crate::findings::{Findings, may_be_changed_by_others, mode, nearest_existing_folder};
use crate::installation::{LAUNCHER, RULES, SETTINGS, find_site_folder};
use crate::program::Program;
use crate::report::{self, Failure};

/// Prints what was found.
///
/// # Errors
///
/// Exit code 2 if the settings are wrong, 1 if something else would not work.
pub(crate) fn run<A: App>(
    context: &Context<A>,
    command_line: &CommandLine,
    folder: Option<&Path>,
) -> Result<(), Failure> {
    let Context { app, keys } = context;
    let program = keys.program();
    let configuration = keys.load(command_line);
    let mut findings = Findings::default();
    program_file(&mut findings, program);
    configured(&mut findings, &configuration);
    if let Some(node) = &configuration.settings.node {
        findings.ok("Node", node);
    }
    log_file(&mut findings, &configuration);
    data_folder(&mut findings, &configuration);
    let site = folder.map(Path::to_owned).or_else(find_site_folder);
    app.check(&mut findings, &configuration, site.as_deref());
    listening(&mut findings, &configuration, site.is_some());
    match &site {
        Some(folder) => site_folder(&mut findings, program, folder),
        None => findings.note(
            "Launcher",
            "no dispatch.fcgi found; it is needed only if a web server starts the program",
            format!("Name the site's folder: {} check FOLDER", program.name),
        ),
    }
    if let Some(folder) = site.filter(|folder| LAUNCHER.within(folder).is_file()) {
        app.check_site(&mut findings, &folder);
    }
    report::print(&findings.text)?;
    if !configuration.problems.is_empty() {
        return Err(configuration.failure());
    }
    match findings.wrong {
        0 => Ok(()),
        1 => Err(Failure::refused("1 problem found.")),
        count => Err(Failure::refused(format!("{count} problems found."))),
    }
}

fn program_file(findings: &mut Findings, program: Program) {
    let version = program.to_string();
    let Ok(program) = std::env::current_exe() else {
        findings.note("Program", version, "Its own path cannot be found; is /proc mounted?");
        return;
    };
    let Ok(metadata) = fs::metadata(&program) else {
        findings.note(
            "Program",
            format!("{version}, {} no longer exists", program.display()),
            "It was replaced or removed while running; the web server starts the new one.",
        );
        return;
    };
    if may_be_changed_by_others(&metadata) {
        let (path, mode) = (program.display(), mode(&metadata));
        findings.wrong(
            "Program",
            format!("{version}, {path}, is writable by others (mode {mode})"),
            format!("chmod 755 {path}"),
        );
    } else {
        findings.ok("Program", format!("{version}, {}", program.display()));
    }
}

fn configured<O>(findings: &mut Findings, configuration: &Configuration<O>) {
    let program = configuration.program;
    let set = match configuration.set.len() {
        0 => "defaults only".to_owned(),
        1 => "1 setting".to_owned(),
        count => format!("{count} settings"),
    };
    match (&configuration.file, configuration.problems.len()) {
        (Some(file), 0) => findings.ok("Configuration", format!("{}, {set}", file.display())),
        (None, 0) => findings.ok("Configuration", format!("no {}, {set}", SETTINGS.name(program))),
        (_, 1) => findings.wrong("Configuration", "one setting is wrong", "See below."),
        (_, count) => {
            findings.wrong("Configuration", format!("{count} settings are wrong"), "See below.");
        }
    }
    for warning in &configuration.warnings {
        findings.note(
            "Configuration",
            warning.trim_end_matches('.'),
            format!("`{} settings` lists all settings.", program.name),
        );
    }
}

fn log_file<O>(findings: &mut Findings, configuration: &Configuration<O>) {
    let usual = || configuration.program.default_log();
    let Some(file) = configuration.settings.log.clone().or_else(usual) else {
        findings.note("Log", "standard error: there is no place for a file", "Set log.");
        return;
    };
    let shown = file.display();
    match fs::metadata(&file) {
        Ok(metadata) if !metadata.is_file() && !metadata.file_type().is_char_device() => {
            findings.wrong("Log", format!("{shown} is not a file"), "Set log to another file.");
        }
        Ok(_) if access(&file, Access::WRITE_OK).is_err() => findings.wrong(
            "Log",
            format!("{shown} cannot be written by this account"),
            format!("chmod 600 {shown}, or set log to another file."),
        ),
        Ok(_) => findings.ok("Log", format!("{shown}")),
        Err(_) => {
            let folder = nearest_existing_folder(&file);
            if folder.is_dir() && access(&folder, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
                findings.ok("Log", format!("{shown}, not yet created"));
            } else {
                findings.wrong(
                    "Log",
                    format!("{shown} cannot be created: {} is not writable", folder.display()),
                    "Set log to a file in a folder of yours.",
                );
            }
        }
    }
}

/// The folder of what the program remembers: its store, verdicts on versions, crashes.
fn data_folder<O>(findings: &mut Findings, configuration: &Configuration<O>) {
    const SUBJECT: &str = "Data";
    let Some(folder) = configuration.settings.data_folder() else {
        findings.note(SUBJECT, "the folder cannot be found; is /proc mounted?", "Set data.");
        return;
    };
    let shown = folder.display();
    let is_writable = |folder: &Path| access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    match fs::metadata(&folder) {
        Ok(metadata) if !metadata.is_dir() => findings.wrong(
            SUBJECT,
            format!("{shown} is not a folder, so nothing can be kept there"),
            "Set data to a folder.",
        ),
        Ok(_) if !is_writable(&folder) => findings.wrong(
            SUBJECT,
            format!("{shown} cannot be written by this account, so nothing can be kept there"),
            format!("chmod 700 {shown}, or set data to another folder."),
        ),
        // Root checks on behalf of the account that the site runs as.
        Ok(metadata) if is_foreign(&metadata) && geteuid().is_root() => findings.note(
            SUBJECT,
            format!("{shown} belongs to another account (uid {})", metadata.uid()),
            "Fine if the site runs as that account; if it runs as root, nothing can be kept there.",
        ),
        Ok(metadata) if is_foreign(&metadata) => findings.wrong(
            SUBJECT,
            format!(
                "{shown} belongs to another account (uid {}), so nothing can be kept there",
                metadata.uid()
            ),
            "Run the site as that account, or set data to a folder of yours.",
        ),
        Ok(metadata) if may_be_changed_by_others(&metadata) => findings.wrong(
            SUBJECT,
            format!("{shown} is writable by others (mode {})", mode(&metadata)),
            format!("chmod 700 {shown}"),
        ),
        Ok(metadata) if metadata.mode() & 0o077 != 0 => findings.note(
            SUBJECT,
            format!("{shown} can be listed by others (mode {})", mode(&metadata)),
            format!("chmod 700 {shown}"),
        ),
        Ok(_) => findings.ok(SUBJECT, format!("{shown}")),
        Err(_) if is_writable(&nearest_existing_folder(&folder)) => {
            findings.ok(SUBJECT, format!("{shown}, not yet created"));
        }
        Err(_) => findings.wrong(
            SUBJECT,
            format!("{shown} cannot be created, so nothing can be kept there"),
            "Set data to a folder of yours.",
        ),
    }
}

/// `is_launched`: a web server starts the program through `dispatch.fcgi` and passes the socket.
fn listening<O>(findings: &mut Findings, configuration: &Configuration<O>, is_launched: bool) {
    let asked_for = configuration.settings.listen.clone();
    if asked_for.is_none() && is_launched {
        findings.ok("Listening", "on the socket of the web server that starts dispatch.fcgi");
        return;
    }
    let is_asked_for = asked_for.is_some();
    let address = asked_for.unwrap_or(Address::Tcp(serve::ADDRESS));
    let shown = address.to_string();
    let shown = shown.trim_start_matches("tcp:");
    let taken = |findings: &mut Findings| {
        findings.note(
            "Listening",
            format!("{shown} is in use by another process"),
            "Fine if that is this site; otherwise stop it or set listen.",
        );
    };
    let refused = match &address {
        Address::Tcp(address) => match TcpListener::bind(address) {
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return taken(findings),
            Err(error) => Some(in_words(&error)),
        },
        Address::Unix(path) => {
            let folder = folder_of(path);
            if UnixStream::connect(path).is_ok() {
                return taken(findings);
            } else if !folder.is_dir() {
                Some(format!("the folder {} does not exist", folder.display()))
            } else if access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
                Some(format!("the folder {} is not writable", folder.display()))
            } else if fs::metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket()) {
                Some("something other than a socket is there".to_owned())
            } else {
                None
            }
        }
    };
    match refused {
        None => findings.ok("Listening", format!("{shown} is free")),
        Some(why) if is_asked_for => findings.wrong(
            "Listening",
            format!("cannot listen on {shown}: {why}"),
            "Choose a port of 1024 or more, or a socket in a folder of yours.",
        ),
        Some(why) => findings.note(
            "Listening",
            format!("cannot listen on {shown}: {why}"),
            format!(
                "It matters only to `{} serve`; set listen if you use that.",
                configuration.program.name
            ),
        ),
    }
}

fn site_folder(findings: &mut Findings, program: Program, folder: &Path) {
    let launcher = LAUNCHER.within(folder);
    match fs::read(&launcher) {
        Err(error) => {
            findings.wrong(
                "Launcher",
                format!("{} cannot be read: {}", launcher.display(), in_words(&error)),
                format!(
                    "Upload dispatch.fcgi into the site's folder, or name that folder: {} check FOLDER",
                    program.name
                ),
            );
            return;
        }
        Ok(text) => launcher_file(findings, program, &launcher, &text),
    }
    launched_program(findings, program, folder);
    if let Ok(metadata) = fs::metadata(folder)
        && may_be_changed_by_others(&metadata)
    {
        let (shown, mode) = (folder.display(), mode(&metadata));
        findings.wrong(
            "Folder",
            format!("{shown} is writable by others (mode {mode}), which suexec refuses"),
            format!("chmod 755 {shown}"),
        );
    }
    rewrite_rules(findings, program, &RULES.within(folder));
}

fn launcher_file(findings: &mut Findings, program: Program, launcher: &Path, text: &[u8]) {
    let shown = launcher.display();
    let Ok(metadata) = fs::metadata(launcher) else { return };
    if text.windows(2).any(|pair| pair == b"\r\n") {
        findings.wrong(
            "Launcher",
            format!("{shown} has Windows line endings and cannot start"),
            "Upload it again in binary mode.",
        );
    } else if metadata.mode() & 0o111 == 0 {
        findings.wrong(
            "Launcher",
            format!("{shown} is not executable (mode {})", mode(&metadata)),
            format!("chmod 755 {shown}"),
        );
    } else if may_be_changed_by_others(&metadata) {
        findings.wrong(
            "Launcher",
            format!(
                "{shown} is writable by others (mode {}), which suexec refuses",
                mode(&metadata)
            ),
            format!("chmod 755 {shown}"),
        );
    } else if metadata.uid() != geteuid().as_raw() {
        findings.note(
            "Launcher",
            format!("{shown} belongs to another account, which suexec refuses"),
            "Upload it with the account that the site runs as.",
        );
    } else if text != program.launcher().as_bytes() {
        findings.note(
            "Launcher",
            format!("{shown} is not from this version"),
            "Upload the dispatch.fcgi that came with the program, unless you changed it yourself.",
        );
    } else {
        findings.ok("Launcher", format!("{shown}, from this version"));
    }
}

/// Which program the launcher would start; it looks in this order (`dispatch.fcgi`).
fn launched_program(findings: &mut Findings, program: Program, folder: &Path) {
    let folder = folder.canonicalize().unwrap_or(folder.to_owned());
    let variable = |name: String| {
        std::env::var_os(name).filter(|folder| !folder.is_empty()).map(PathBuf::from)
    };
    let places = program.launched_programs(
        &folder,
        variable(program.home_variable()),
        variable("HOME".to_owned()),
    );
    let this = std::env::current_exe().ok().as_deref().and_then(FileIdentity::of);
    match places.iter().find(|place| place.is_file()) {
        Some(place) if FileIdentity::of(place) == this => {
            findings.ok("Launcher", format!("it starts this program, {}", place.display()));
        }
        Some(place) => findings.note(
            "Launcher",
            format!("it starts another program, {}", place.display()),
            format!("Ask that one: {} check", place.display()),
        ),
        None => {
            let places: Vec<_> = places.iter().map(|place| place.to_string_lossy()).collect();
            findings.wrong(
                "Launcher",
                format!("it finds no program at {}", places.join(", ")),
                format!("Put {} at one of these places, with mode 755.", program.name),
            );
        }
    }
}

fn rewrite_rules(findings: &mut Findings, program: Program, file: &Path) {
    let shown = file.display();
    let Ok(metadata) = fs::metadata(file) else {
        findings.note(
            "Rewrite rules",
            format!("{shown} is missing, so Apache passes no requests to dispatch.fcgi"),
            "Upload the file htaccess as .htaccess; other web servers need none.",
        );
        return;
    };
    if metadata.mode() & 0o044 == 0 {
        findings.wrong(
            "Rewrite rules",
            format!("{shown} cannot be read by the web server (mode {})", mode(&metadata)),
            format!("chmod 644 {shown}"),
        );
    } else if fs::read(file).is_ok_and(|text| text == program.rewrite_rules().as_bytes()) {
        findings.ok("Rewrite rules", format!("{shown}, from this version"));
    } else {
        findings.ok("Rewrite rules", format!("{shown}, changed or from another version"));
    }
}
