//! The tables of tools.

use axum::Extension;
use storage::{Migration, StoreError};

use super::*;
use crate::HttpError;

const COUNTER: Tool = Tool {
    name: "counter",
    tables: &[
        Migration::expand(
            "CREATE TABLE counter_visits (page TEXT PRIMARY KEY, count BIGINT NOT NULL)",
        ),
        Migration::expand("ALTER TABLE counter_visits ADD COLUMN note TEXT"),
    ],
    router: || Router::new().route("/", get(count)),
    ..TOOL
};

const BROKEN: Tool = Tool { name: "broken", tables: &[Migration::expand("no SQL")], ..COUNTER };

/// As a tool's author would write it.
async fn count(Extension(store): Extension<Store>) -> Result<String, HttpError> {
    let page = "/".to_owned();
    let add = "INSERT INTO counter_visits (page, count) VALUES ($1, 1)
                   ON CONFLICT (page) DO UPDATE SET count = counter_visits.count + 1 RETURNING count";
    let count: i64 = store.write(async |store| store.query_one(add, params![page]).await).await?;
    Ok(count.to_string())
}

#[test]
fn a_tool_has_tables_of_its_own_and_a_broken_one_harms_nobody_else() {
    let site = Site::new();
    let settings = SiteSettings {
        login: Some(login_in(&site.folder.path().join("data"))),
        ..SiteSettings::default()
    };
    let router = crate::router_with(const { &[COUNTER, BROKEN] }, &settings);
    let ask = |path: &str| send(&router, request("GET", path).body(Body::empty()).unwrap());
    // Before the site's own tables are there.
    assert_eq!(ask("/tools/counter").text(), "1");
    assert_eq!(ask("/tools/broken").status, 500);
    assert_eq!(ask("/tools/counter").text(), "2");
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    assert_eq!(ask("/tools/counter").text(), "3");
    let visits = async |store: &storage::Snapshot<'_>| -> Result<i64, StoreError> {
        store.query_one("SELECT count FROM counter_visits", &[]).await
    };
    assert_eq!(block_on(site.store().read(visits)).unwrap(), 3);
}
