//! After repeated crashes, a tool gets 503 for a while, and nothing else does; other accounts cannot cause that.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::program::Installation;

#[test]
fn only_the_tool_that_crashed_is_quarantined_wherever_the_site_is_mounted() {
    let installation = Installation::new();
    let data = installation.path().join("data");
    std::fs::DirBuilder::new().mode(0o700).create(data).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    installation.write("data/crashes", &format!("{now} checksum\n").repeat(3));
    let settings = [("TOOLSHED_PUBLIC", "all"), ("TOOLSHED_BASE", "/project")];
    let running = installation.spawn_by_web_server(&settings);
    for (address, status) in [
        ("/project/tools/checksum", 503),
        ("/project/tools/checksum?a=b", 503),
        ("/tools/checksum", 503),
        ("/project/x/tools/checksum", 404),
        ("/x/tools/checksum", 404),
        ("/projects/tools/checksum", 404),
        ("/project/tools/passwords/tools/checksum", 404),
        ("/project/login?next=/tools/checksum", 200),
        ("/project/", 200),
    ] {
        let response = running.ask(&[("REQUEST_URI", address)]);
        assert!(response.starts_with(&format!("Status: {status} ")), "{address}: {response}");
    }
    let (code, said) = running.end();
    assert_eq!((code, said.as_str()), (0, ""));
}

/// The login closes the folder, too, but on a public site it may never run.
#[test]
fn other_accounts_cannot_write_where_crashes_are_recorded() {
    let installation = Installation::new();
    let data = installation.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for (before, after) in [(0o777, 0o755), (0o770, 0o750), (0o1777, 0o1777)] {
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(before)).unwrap();
        let running = installation.spawn_by_web_server(&[("TOOLSHED_PUBLIC", "all")]);
        assert!(running.ask(&[("REQUEST_URI", "/healthz")]).starts_with("Status: 200 "));
        let found = std::fs::metadata(&data).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, after, "{before:o}");
        running.end();
        std::fs::remove_file(installation.path().join("web-server.sock")).unwrap();
    }
    let log = installation.read("logs/toolshed.log");
    assert_eq!(
        log.matches("State folder was writable by other accounts; permissions tightened").count(),
        2,
        "{log}"
    );
    let open: Vec<_> = log
        .lines()
        .filter(|line| line.contains("State folder is writable by other accounts"))
        .collect();
    assert!(matches!(open[..], [line] if line.contains("mode=1777")), "{log}");
}
