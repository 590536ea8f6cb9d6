//! The log file: where it is, and what happens when it cannot be written.

use std::os::unix::fs::PermissionsExt;

use crate::program::Installation;

#[test]
fn a_spawned_process_logs_beside_the_program_for_the_owner_only() {
    let installation = Installation::new();
    let running = installation.spawn_by_web_server(&[]);
    assert!(running.ask(&[("REQUEST_URI", "/healthz")]).starts_with("Status: 200"));
    let mode = |name: &str| {
        let metadata = std::fs::metadata(installation.path().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!((mode("logs"), mode("logs/toolshed.log")), (0o700, 0o600));
    assert!(installation.read("logs/toolshed.log").contains("Serving FastCGI on descriptor 0."));
    assert_eq!(running.end(), (0, String::new()));
    assert!(installation.read("logs/toolshed.log").ends_with("Exiting.\n"));
}

#[test]
fn a_program_in_bin_logs_beside_that_folder() {
    let installation = Installation::new();
    let bin = installation.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::rename(installation.program(), bin.join("toolshed")).unwrap();
    installation.write("toolshed.toml", "listen = 7");
    let output = std::process::Command::new(bin.join("toolshed")).env_clear().arg("check").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = installation.without_folder(&String::from_utf8(output.stdout).unwrap());
    assert!(text.contains("Log            HOME/logs/toolshed.log, not yet created."), "{text}");
}

#[test]
fn the_environment_and_the_file_name_another() {
    let installation = Installation::new();
    installation.write("toolshed.toml", "log = \"of-the-file.log\"");
    for (environment, expected) in [
        (&[][..], "of-the-file.log"),
        (&[("TOOLSHED_LOG", "of-the-variable.log")], "of-the-variable.log"),
    ] {
        let running = installation.spawn_by_web_server(environment);
        running.ask(&[]);
        running.end();
        assert!(installation.read(expected).contains("Serving FastCGI"), "{expected}");
        std::fs::remove_file(installation.path().join("web-server.sock")).unwrap();
    }
    assert!(!installation.path().join("logs").exists());
}

#[test]
fn an_unwritable_log_is_reported_on_standard_error_and_the_site_is_served() {
    let installation = Installation::new();
    installation.write("logs", "a file where a folder should be");
    let running = installation.spawn_by_web_server(&[]);
    assert!(running.ask(&[("REQUEST_URI", "/healthz")]).starts_with("Status: 200"));
    let (code, said) = running.end();
    assert_eq!(code, 0);
    let said = installation.without_folder(&said);
    let (_, first) = said.lines().next().unwrap().split_once(" ERROR ").unwrap();
    assert_eq!(
        first,
        "The log file HOME/logs/toolshed.log cannot be written: File exists (os error 17)."
    );
    assert!(said.contains("Serving FastCGI on descriptor 0."), "{said}");
}

#[test]
fn the_greeting_of_serve_stays_at_the_terminal() {
    let installation = Installation::new();
    let arguments = ["serve", "--listen", "unix:own.sock", "--log", "my.log"];
    let mut command = installation.command(&arguments, &[]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line, "Toolshed serves the site at HTTP on unix:own.sock\n");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(installation.read("my.log").contains("Serving HTTP on unix:own.sock."));
}

/// Nothing reads the program's standard output any more: what is printed is lost, but the request is answered.
#[test]
fn a_tool_that_prints_to_a_closed_pipe_responds() {
    let installation = Installation::new();
    installation.write("toolshed.toml", "public = [\"diagnostics\"]\n");
    let mut running = installation.start_external(&[]);
    drop(running.child.stdout.take());
    for _ in 0..2 {
        let response = running.ask(&[
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", "/tools/diagnostics/stdout"),
            ("CONTENT_LENGTH", "0"),
        ]);
        assert!(response.starts_with("Status: 200"), "{response}");
    }
}
