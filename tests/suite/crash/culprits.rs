//! The real program, with the crashes of its own tool *diagnostics*.

use end_to_end::fixtures::{App, Setup};
use end_to_end::http_client::{Request, Upload};

use crate::servers::start_with;

/// Inline crashes of the tool *diagnostics*, in groups that stay below the limit of the quarantine.
const INLINE: [&[(&str, u16)]; 3] = [
    &[("abort", 500), ("segv", 500), ("stack", 500)],
    &[("memory", 500), ("double-free", 500), ("overrun", 500)],
    &[("malloc", 500), ("loop", 504)],
];

fn inline_culprits(deployment: &str) {
    for group in INLINE {
        let server = start_with(deployment, |base| {
            Setup::new(App::Toolshed, base)
                .with_variable("TOOLSHED_PUBLIC", "all,diagnostics")
                .with_variable("TOOLSHED_MEMORY", "128 MiB")
                .with_variable("TOOLSHED_WATCHDOG", "2 s")
        });
        let ask = |path: &str| {
            let response = Request::get(path).below(server.base).send(server.address);
            response.unwrap_or_else(|error| panic!("{path}: {error}\n{}", server.output()))
        };
        let crash = |how: &str| {
            let path = format!("/tools/diagnostics/crash?how={how}&runs=inline");
            let response = Request::post(path, Upload::Text(b"a=b".to_vec())).below(server.base);
            let response = response.send(server.address);
            response.unwrap_or_else(|error| panic!("{how}: {error}\n{}", server.output()))
        };
        assert_eq!(ask("/healthz").text(), "ok");
        let before = server.our_processes();
        for (how, status) in group {
            let response = crash(how);
            assert_eq!(response.status, *status, "{how}: {}\n{}", response.text(), server.output());
            let page = response.text();
            assert!(page.contains("-crash") && page.contains("</html>"), "{how}: {page}");
            assert_eq!(ask("/healthz").text(), "ok", "after {how}");
            assert_eq!(server.our_processes(), before, "after {how}:\n{}", server.output());
        }
        if group.len() == 3 {
            let response = crash("abort");
            assert_eq!(response.status, 503, "{}\n{}", response.text(), server.output());
            assert!(response.text().contains("temporarily unavailable"), "{}", response.text());
            assert!(response.header("retry-after").is_some(), "{:?}", response.headers);
            assert_eq!(ask("/").status, 200, "the rest of the site works");
            assert_eq!(server.our_processes(), before);
        }
        let output = server.output();
        assert!(!output.contains("End of script output before headers"), "{output}");
        assert!(output.contains(" in diagnostics: POST /tools/diagnostics/crash"), "{output}");
        assert_eq!(server.check_tasks(), Ok(()));
    }
}

#[test]
fn inline_culprits_behind_mod_fcgid() {
    inline_culprits("mod_fcgid in /project");
}

#[test]
fn inline_culprits_behind_nginx_with_keep_alive() {
    inline_culprits("nginx, keep-alive");
}

#[test]
fn inline_culprits_over_http() {
    inline_culprits("serve");
}
