//! The effect of a web server's own limit, to tell it from limits of our program.

use end_to_end::fixtures::{App, Setup, apache_fcgid};
use end_to_end::http_client::{Request, Upload};

use crate::cases::{Case, Expect, run_all};

#[test]
fn mod_fcgid_refuses_bodies_over_128_kib_by_itself() {
    let setup = Setup::new(App::TestApp, "").with_server_lines("FcgidMaxRequestLen 131072");
    let running = apache_fcgid::start(&setup).expect("Apache starts");
    let post = |bytes| Request::post("/echo/body", Upload::Counted(bytes));
    run_all(
        running,
        vec![
            Case::ask("128 KiB", post(131_072), Expect::Echo),
            Case::ask("1 byte more", post(131_073), Expect::Status(500)),
            Case::ask("1 MiB", post(1 << 20), Expect::Status(500)),
            Case::ask("the site works", Request::get("/healthz"), Expect::Text("ok")),
        ],
    );
}
