//! After its crashes a tool is answered 503 for a while, and nothing else is.

use std::os::unix::fs::DirBuilderExt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::program::Installation;

#[test]
fn only_the_tool_that_crashed_is_left_alone_wherever_the_site_is() {
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
        let answer = running.ask(&[("REQUEST_URI", address)]);
        assert!(answer.starts_with(&format!("Status: {status} ")), "{address}: {answer}");
    }
    let (code, said) = running.end();
    assert_eq!((code, said.as_str()), (0, ""));
}
