//! The real program behind every web server: its pages, its links, its files, its first tool.

use end_to_end::fixtures::{App, Kind, Running};
use end_to_end::http_client::{Request, Response, Upload};

use crate::cases::{Case, Expect, run_all, same};
use crate::servers::{WAYS, start};

fn table() -> Vec<Case> {
    let upload = |bytes| {
        Request::post("/tools/checksum?alg=sha256", Upload::Counted(bytes))
            .header("Content-Type", "application/octet-stream")
    };
    vec![
        Case::ask("healthz", Request::get("/healthz"), Expect::Text("ok")),
        Case::ask(
            "the front page lists the tools and its links begin with BASE",
            Request::get("/"),
            Expect::Answer(|running, answer| {
                same("status", answer.status, 200)?;
                let tool = format!("{}/tools/checksum", running.base);
                same("a link to the tool", links(answer).contains(&tool), true)?;
                links_stay_in_the_site(running, answer)
            }),
        ),
        Case::ask(
            "the tool's page",
            Request::get("/tools/checksum"),
            Expect::Answer(|running, answer| {
                same("status", answer.status, 200)?;
                links_stay_in_the_site(running, answer)
            }),
        ),
        Case::ask(
            "a page that is not there",
            Request::get("/no-such-page"),
            Expect::Answer(|running, answer| {
                same("status", answer.status, 404)?;
                same("it is a page", answer.text().contains("<html"), true)?;
                links_stay_in_the_site(running, answer)
            }),
        ),
        Case::ask(
            "a method that is not there",
            Request::post("/healthz", Upload::Counted(1)),
            Expect::Status(405),
        ),
        Case::ask(
            "the style sheet",
            Request::get("/static/site.css"),
            Expect::Answer(|_, answer| {
                same("status", answer.status, 200)?;
                let kind = answer.header("content-type").unwrap_or("none");
                same("style sheet", kind.starts_with("text/css"), true)
            }),
        ),
        Case::ask(
            "the launcher's name shows nowhere",
            Request::get("/dispatch.fcgi/tools/checksum"),
            Expect::Status(404),
        )
        .but(Kind::ApacheFcgid, Expect::Redirect("/tools/checksum"), BY_HTACCESS)
        .but(Kind::ApacheCgi, Expect::Redirect("/tools/checksum"), BY_HTACCESS),
        Case::ask(
            "nor does it when it is asked for alone",
            Request::get("/dispatch.fcgi"),
            Expect::Answer(|running, answer| {
                same("status", answer.status, 404)?;
                links_stay_in_the_site(running, answer)
            }),
        )
        .but(Kind::ApacheFcgid, Expect::Redirect("/"), BY_HTACCESS)
        .but(Kind::ApacheCgi, Expect::Redirect("/"), BY_HTACCESS),
        Case::ask(
            "a name like a launcher's is no page",
            Request::get("/x.cgi"),
            Expect::Answer(is_no_page),
        ),
        Case::ask(
            "nor below a folder",
            Request::get("/a/dispatch.fcgi"),
            Expect::Answer(is_no_page),
        ),
        Case::ask(
            "a path that would be a cookie's attributes",
            Request::get("/;Domain=tools.test;/x.cgi"),
            Expect::Answer(is_no_page),
        ),
        Case::ask(
            "the same, cleaned up by the web server",
            Request::get("/a/../;Domain=tools.test;/x.cgi"),
            Expect::Answer(is_no_page),
        ),
        Case::ask(
            "a checksum of 100 KiB",
            upload(100 << 10),
            Expect::Answer(|_, answer| checksum_of(answer, 100 << 10)),
        ),
        Case::ask(
            "a checksum of 64 MiB",
            upload(64 << 20),
            Expect::Answer(|_, answer| checksum_of(answer, 64 << 20)),
        ),
        Case::ask(
            "a checksum of nothing as JSON",
            upload(0).header("Accept", "application/json"),
            Expect::Answer(|_, answer| {
                same("status", answer.status, 200)?;
                let kind = answer.header("content-type").unwrap_or("none");
                same("JSON", kind.starts_with("application/json"), true)?;
                let sum = Upload::Nothing.sha256();
                same("the sum is in it", answer.text().contains(&sum), true)
            }),
        ),
    ]
}

/// Nothing from the visitor's path is in a link or a cookie.
fn is_no_page(running: &Running, answer: &Response) -> Result<(), String> {
    same("status", answer.status, 404)?;
    same("cookie", answer.header("set-cookie"), None)?;
    links_stay_in_the_site(running, answer)?;
    let stray = links(answer).into_iter().find(|link| link.contains(".cgi") || link.contains(';'));
    same("a link made of the path", stray, None)
}

const BY_HTACCESS: &str = ".htaccess sends visitors to the site's own address";

fn checksum_of(answer: &Response, bytes: u64) -> Result<(), String> {
    same("status", answer.status, 200)?;
    same("answer", answer.text(), format!("{}\n", Upload::Counted(bytes).sha256()))
}

/// Where the page's links lead.
fn links(answer: &Response) -> Vec<String> {
    let page = answer.text();
    ["href=\"", "src=\"", "action=\""]
        .into_iter()
        .flat_map(|name| page.split(name).skip(1))
        .filter_map(|rest| rest.split('"').next().map(str::to_owned))
        .collect()
}

fn links_stay_in_the_site(running: &Running, answer: &Response) -> Result<(), String> {
    let links = links(answer);
    same("there are links", links.is_empty(), false)?;
    let inside = format!("{}/", running.base);
    let stray = links.iter().find(|link| {
        !link.starts_with(&inside) && !link.starts_with("https://") && !link.starts_with('#')
    });
    same("a link that leaves the site", stray, None)?;
    same("dispatch.fcgi shows", answer.text().contains("dispatch.fcgi"), false)
}

#[test]
fn the_site_works_behind_mod_fcgid_at_the_root() {
    run_all(start("mod_fcgid at /", App::Toolshed), table());
}

#[test]
fn the_site_works_behind_mod_fcgid_in_a_folder() {
    run_all(start("mod_fcgid in /project", App::Toolshed), table());
}

#[test]
fn the_site_works_behind_every_other_web_server() {
    for way in WAYS.iter().filter(|way| !way.name.starts_with("mod_fcgid")) {
        println!("{}", way.name);
        run_all(start(way.name, App::Toolshed), table());
    }
}
