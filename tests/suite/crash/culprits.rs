//! The real program, with the crashes of its own tool *diagnostics*.

use end_to_end::fixtures::{App, Setup};
use end_to_end::http_client::{Request, Upload};

use crate::servers::start_with;

/// Culprits of the tool *diagnostics* that run inline, no more of a group than a tool may crash.
const INLINE: [&[(&str, u16)]; 3] = [
    &[("abort", 500), ("segv", 500), ("stack", 500)],
    &[("memory", 500), ("double-free", 500), ("overrun", 500)],
    &[("malloc", 500), ("loop", 504)],
];

fn inline_culprits(way: &str) {
    for group in INLINE {
        let server = start_with(way, |base| {
            Setup::new(App::Toolshed, base)
                .with_variable("TOOLSHED_PUBLIC", "all,diagnostics")
                .with_variable("TOOLSHED_MEMORY", "128 MiB")
                .with_variable("TOOLSHED_WATCHDOG", "2 s")
        });
        let ask = |path: &str| {
            let answer = Request::get(path).below(server.base).send(server.address);
            answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", server.said()))
        };
        let crash = |how: &str| {
            let path = format!("/tools/diagnostics/crash?how={how}&runs=inline");
            let answer = Request::post(path, Upload::Text(b"a=b".to_vec())).below(server.base);
            let answer = answer.send(server.address);
            answer.unwrap_or_else(|error| panic!("{how}: {error}\n{}", server.said()))
        };
        assert_eq!(ask("/healthz").text(), "ok");
        let before = server.our_processes();
        for (how, status) in group {
            let answer = crash(how);
            assert_eq!(answer.status, *status, "{how}: {}\n{}", answer.text(), server.said());
            let page = answer.text();
            assert!(page.contains("-crash") && page.contains("</html>"), "{how}: {page}");
            assert_eq!(ask("/healthz").text(), "ok", "after {how}");
            assert_eq!(server.our_processes(), before, "after {how}:\n{}", server.said());
        }
        if group.len() == 3 {
            let answer = crash("abort");
            assert_eq!(answer.status, 503, "{}\n{}", answer.text(), server.said());
            assert!(answer.text().contains("temporarily unavailable"), "{}", answer.text());
            assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
            assert_eq!(ask("/").status, 200, "the rest of the site goes on");
            assert_eq!(server.our_processes(), before);
        }
        let said = server.said();
        assert!(!said.contains("End of script output before headers"), "{said}");
        assert!(said.contains(" in diagnostics: POST /tools/diagnostics/crash"), "{said}");
        assert_eq!(server.check_tasks(), Ok(()));
    }
}

#[test]
fn inline_culprits_behind_mod_fcgid() {
    inline_culprits("mod_fcgid in /project");
}

#[test]
fn inline_culprits_behind_nginx_with_keep_alive() {
    inline_culprits("nginx, connections kept");
}

#[test]
fn inline_culprits_over_http() {
    inline_culprits("serve");
}
