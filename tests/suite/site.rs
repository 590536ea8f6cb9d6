//! The real program behind every web server: its pages, links, files, and first tool.

use end_to_end::fixtures::{App, Kind, Running};
use end_to_end::http_client::{Request, Response, Upload};

use crate::cases::{Case, Expect, run_all, same};
use crate::servers::{DEPLOYMENTS, start};

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
            Expect::Response(|running, response| {
                same("status", response.status, 200)?;
                let tool = format!("{}/tools/checksum", running.base);
                same("a link to the tool", links(response).contains(&tool), true)?;
                links_stay_in_the_site(running, response)
            }),
        ),
        Case::ask(
            "the tool's page",
            Request::get("/tools/checksum"),
            Expect::Response(|running, response| {
                same("status", response.status, 200)?;
                links_stay_in_the_site(running, response)
            }),
        ),
        Case::ask(
            "a page that does not exist",
            Request::get("/no-such-page"),
            Expect::Response(|running, response| {
                same("status", response.status, 404)?;
                same("is a page", response.text().contains("<html"), true)?;
                links_stay_in_the_site(running, response)
            }),
        ),
        Case::ask(
            "a method that is not allowed",
            Request::post("/healthz", Upload::Counted(1)),
            Expect::Status(405),
        ),
        Case::ask(
            "the style sheet",
            Request::get("/static/site.css"),
            Expect::Response(|_, response| {
                same("status", response.status, 200)?;
                let kind = response.header("content-type").unwrap_or("none");
                same("style sheet", kind.starts_with("text/css"), true)
            }),
        ),
        Case::ask(
            "the launcher's name in a path",
            Request::get("/dispatch.fcgi/tools/checksum"),
            Expect::Status(404),
        )
        .but(Kind::ApacheFcgid, Expect::Redirect("/tools/checksum"), BY_HTACCESS)
        .but(Kind::ApacheCgi, Expect::Redirect("/tools/checksum"), BY_HTACCESS),
        Case::ask(
            "the launcher's name as the path",
            Request::get("/dispatch.fcgi"),
            Expect::Response(|running, response| {
                same("status", response.status, 404)?;
                links_stay_in_the_site(running, response)
            }),
        )
        .but(Kind::ApacheFcgid, Expect::Redirect("/"), BY_HTACCESS)
        .but(Kind::ApacheCgi, Expect::Redirect("/"), BY_HTACCESS),
        Case::ask(
            "a name like a launcher's",
            Request::get("/x.cgi"),
            Expect::Response(is_clean_404),
        ),
        Case::ask(
            "the launcher's name below a folder",
            Request::get("/a/dispatch.fcgi"),
            Expect::Response(is_clean_404),
        ),
        Case::ask(
            "a path that contains a cookie's attributes",
            Request::get("/;Domain=tools.test;/x.cgi"),
            Expect::Response(is_clean_404),
        ),
        Case::ask(
            "the same, normalized by the web server",
            Request::get("/a/../;Domain=tools.test;/x.cgi"),
            Expect::Response(is_clean_404),
        ),
        Case::ask(
            "a checksum of 100 KiB",
            upload(100 << 10),
            Expect::Response(|_, response| checksum_of(response, 100 << 10)),
        ),
        Case::ask(
            "a checksum of 64 MiB",
            upload(64 << 20),
            Expect::Response(|_, response| checksum_of(response, 64 << 20)),
        ),
        Case::ask(
            "a checksum of nothing as JSON",
            upload(0).header("Accept", "application/json"),
            Expect::Response(|_, response| {
                same("status", response.status, 200)?;
                let kind = response.header("content-type").unwrap_or("none");
                same("JSON", kind.starts_with("application/json"), true)?;
                let sum = Upload::Nothing.sha256();
                same("has the checksum", response.text().contains(&sum), true)
            }),
        ),
    ]
}

/// Checks that the page is a 404 without anything from the requested path in a link or cookie.
fn is_clean_404(running: &Running, response: &Response) -> Result<(), String> {
    same("status", response.status, 404)?;
    same("cookie", response.header("set-cookie"), None)?;
    links_stay_in_the_site(running, response)?;
    let stray =
        links(response).into_iter().find(|link| link.contains(".cgi") || link.contains(';'));
    same("a link made of the path", stray, None)
}

const BY_HTACCESS: &str = ".htaccess sends visitors to the site's own address";

fn checksum_of(response: &Response, bytes: u64) -> Result<(), String> {
    same("status", response.status, 200)?;
    same("response", response.text(), format!("{}\n", Upload::Counted(bytes).sha256()))
}

/// Where the page's links lead.
fn links(response: &Response) -> Vec<String> {
    let page = response.text();
    ["href=\"", "src=\"", "action=\""]
        .into_iter()
        .flat_map(|name| page.split(name).skip(1))
        .filter_map(|rest| rest.split('"').next().map(str::to_owned))
        .collect()
}

fn links_stay_in_the_site(running: &Running, response: &Response) -> Result<(), String> {
    let links = links(response);
    same("has no links", links.is_empty(), false)?;
    let inside = format!("{}/", running.base);
    let stray = links.iter().find(|link| {
        !link.starts_with(&inside) && !link.starts_with("https://") && !link.starts_with('#')
    });
    same("a link that leaves the site", stray, None)?;
    same("dispatch.fcgi shows", response.text().contains("dispatch.fcgi"), false)
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
    for deployment in DEPLOYMENTS.iter().filter(|it| !it.name.starts_with("mod_fcgid")) {
        println!("{}", deployment.name);
        run_all(start(deployment.name, App::Toolshed), table());
    }
}
