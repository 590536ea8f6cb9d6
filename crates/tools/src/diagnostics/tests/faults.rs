//! Each statement of the store fails once while *diagnostics* keeps or lists numbers, on both engines: the client gets
//! what it asked for, or 503, and what was not acknowledged is not there.

use axum::Router;
use axum::body::Body;
use http::Request;
use postgres_fixture::Server;
use site::storage::faults::{fail_statement, take_back};
use site::{LoginSettings, SiteSettings, StoreError};
use tower_service::Service;

use super::{ADDRESS, TOOL};

/// Where the store is.
enum Place {
    File(tempfile::TempDir),
    Server(Server, tempfile::TempDir),
}

impl Place {
    /// A site as another process would have it, with connections of its own.
    fn site(&self) -> Router {
        let login = match self {
            Place::File(folder) => LoginSettings::in_folder(folder.path().join("data")),
            Place::Server(server, folder) => LoginSettings {
                database: Some(server.url().parse().unwrap()),
                ..LoginSettings::in_folder(folder.path().join("data"))
            },
        };
        let settings = SiteSettings { login: Some(login), ..SiteSettings::default() };
        site::router_with(const { &[TOOL] }, &settings.public(["diagnostics"]))
    }

    fn send(&self, method: &str, path: &str) -> (u16, String) {
        event_loop::run(async {
            let request = Request::builder().method(method).uri(format!("{ADDRESS}{path}"));
            let Ok(response) = self.site().call(request.body(Body::empty()).unwrap()).await;
            let status = response.status().as_u16();
            let body = site::Chunks::new(response.into_body()).collect(1 << 20).await.unwrap();
            (status, String::from_utf8(body).unwrap())
        })
        .unwrap()
    }

    fn empty(&self) {
        match self {
            Place::File(folder) => {
                let _ = std::fs::remove_dir_all(folder.path().join("data"));
            }
            Place::Server(server, _) => {
                server.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
            }
        }
    }

    /// Appends a number to what is at a path, and lists what is there then, with each statement failing once, on a new
    /// store and on one that is there. Returns how many statements there were.
    fn sweep(&self, path: &str, is_new: bool, error: fn() -> StoreError) -> u32 {
        let append = format!("{path}?7");
        for number in 1..200 {
            self.empty();
            let mut expected = String::new();
            if !is_new {
                assert_eq!(self.send("POST", &format!("{path}?1")).0, 200);
                expected += "1\n";
            }
            fail_statement(number, error);
            let appended = self.send("POST", &append);
            let listed = (appended.0 == 200).then(|| self.send("GET", path));
            let is_over = take_back();
            for (status, text) in std::iter::once(&appended).chain(&listed) {
                assert!(matches!(status, 200 | 503), "statement {number}: {status} {text}");
                // A conflict is over when it is tried again, as PostgreSQL's are.
                let is_conflict = matches!(error(), StoreError::Conflict);
                let is_certain = is_over || is_conflict && matches!(self, Place::Server(..));
                assert!(!is_certain || *status == 200, "statement {number}: {text}");
                let words = if is_conflict { "busy" } else { "unavailable" };
                assert!(*status == 200 || text.contains(words), "statement {number}: {text}");
            }
            if appended.0 == 200 {
                expected += "7\n";
            }
            if let Some((200, text)) = listed {
                assert_eq!(text, expected, "statement {number}");
            }
            assert_eq!(self.send("GET", path), (200, expected.clone()), "statement {number}");
            if appended.0 != 200 {
                assert_eq!(self.send("POST", &append).0, 200, "statement {number}, again");
                assert_eq!(self.send("GET", path), (200, expected + "7\n"), "statement {number}");
            }
            if is_over {
                return number - 1;
            }
        }
        panic!("it never ends");
    }
}

fn sweep_all(place: &Place) {
    for path in ["/numbers", "/lists/some"] {
        for error in [|| StoreError::Full, || StoreError::Conflict] {
            let (new, old) = (place.sweep(path, true, error), place.sweep(path, false, error));
            assert!(old > 6 && new > old, "{path}: {new} and {old} statements");
        }
    }
}

#[test]
fn failing_statements_lose_no_acknowledged_number_in_a_file() {
    sweep_all(&Place::File(tempfile::tempdir().unwrap()));
}

#[test]
fn failing_statements_lose_no_acknowledged_number_in_postgres() {
    sweep_all(&Place::Server(Server::start(), tempfile::tempdir().unwrap()));
}
