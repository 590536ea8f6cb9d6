//! Statements: what goes in, what comes out, and what is refused.

use std::collections::BTreeMap;

use super::*;
use crate::testing::{block_on, store_at};
use crate::{Json, Migration, Schema, Store};

const SCHEMA: Schema = Schema {
    name: "kinds",
    migrations: &[Migration::expand(
        "CREATE TABLE kinds (
             id TEXT PRIMARY KEY,
             number BIGINT,
             truth BOOLEAN,
             real DOUBLE PRECISION,
             bytes BYTEA,
             json TEXT
         )",
    )],
};

fn in_store<T>(test: impl AsyncFn(&Store) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let store = store_at(folder.path().join("store.db")).with_schema(SCHEMA);
    block_on(test(&store))
}

fn said<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn every_kind_of_value_comes_back_as_it_was() {
    type Kinds = (
        Option<i64>,
        Option<bool>,
        Option<f64>,
        Option<Vec<u8>>,
        Option<Json<BTreeMap<String, u8>>>,
    );
    let map = BTreeMap::from([("a\"b".to_owned(), 1)]);
    let rows: [Kinds; 4] = [
        (None, None, None, None, None),
        (Some(i64::MIN), Some(true), Some(-0.5), Some(vec![0, 255]), Some(Json(map))),
        (Some(i64::MAX), Some(false), Some(1e300), Some(vec![]), None),
        // Text that looks like a number stays text, bytes stay bytes.
        (Some(0), None, Some(2.0), Some(b"12".to_vec()), None),
    ];
    in_store(async |store| {
        for (id, row) in rows.iter().enumerate() {
            let insert = "INSERT INTO kinds (bytes, id, number, truth, real, json)
                              VALUES ($5, $1, $2, $3, $4, $6)";
            let id = id.to_string();
            let add = store.write(async |store| {
                store.execute(insert, params![id, row.0, row.1, row.2, row.3, row.4]).await
            });
            assert_eq!(add.await.unwrap(), 1);
            let find = "SELECT number, truth, real, bytes, json FROM kinds WHERE id = $1";
            let found: Kinds =
                store.read(async |store| store.query_one(find, params![id]).await).await.unwrap();
            assert_eq!(found, *row);
        }
    });
}

#[test]
fn mistakes_are_named_with_their_statement() {
    in_store(async |store| {
        let query = async |sql: &str, values: &[Value<'_>]| {
            said(store.read(async |store| store.query::<i64>(sql, values).await).await)
        };
        let mistakes: [(&str, &[Value<'_>], &str); 6] = [
            ("SELECT ?1", params![1], "?1 is none of 1 parameters: SELECT ?1"),
            ("SELECT :a", params![1], ":a is none of 1"),
            ("SELECT $2", params![1], "$2 is none of 1"),
            ("SELECT $0", params![1], "$0 is none of 1"),
            ("SELECT $1", params![1, 2], "2 parameters are given and 1 used: SELECT $1"),
            ("DELETE FROM kinds RETURNING 1", &[], "cannot change anything: DELETE FROM kinds"),
        ];
        for (sql, values, expected) in mistakes {
            let said = query(sql, values).await;
            assert!(said.starts_with("a mistake in the program: "), "{said}");
            assert!(said.contains(expected), "{said}");
        }
        let said = query("SELECT 'a'", &[]).await;
        assert!(said.contains("column 1 is text, not an integer"), "{said}");
        let said = query("no SQL", &[]).await;
        assert!(said.contains("syntax error") && said.contains("no SQL"), "{said}");
    });
}

#[test]
fn one_row_is_neither_none_nor_two() {
    in_store(async |store| {
        let none = "SELECT id FROM kinds";
        let two = "SELECT 1 UNION SELECT 2";
        let one = async |sql: &str| {
            said(store.read(async |store| store.query_one::<i64>(sql, &[]).await).await)
        };
        assert!(one(none).await.contains("no row was found"));
        assert!(one(two).await.contains("2 rows instead of one"));
        let found: Option<String> =
            store.read(async |store| store.query_opt(none, &[]).await).await.unwrap();
        assert_eq!(found, None);
    });
}

#[test]
fn memory_for_a_result_is_bounded() {
    in_store(async |store| {
        let endless =
            "WITH RECURSIVE all_numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM all_numbers)
                           SELECT n FROM all_numbers";
        let result = store.read(async |store| store.query::<i64>(endless, &[]).await).await;
        assert!(said(result).contains("add a LIMIT"));
    });
}

#[test]
fn a_refused_row_is_told_from_other_failures() {
    in_store(async |store| {
        let twice = store.write(async |store| {
            for _ in 0..2 {
                store.execute("INSERT INTO kinds (id) VALUES ('a')", &[]).await?;
            }
            Ok(())
        });
        assert!(twice.await.unwrap_err().is_constraint());
        let nonsense = store.write(async |store| store.execute("no SQL", &[]).await);
        assert!(!nonsense.await.unwrap_err().is_constraint());
    });
}
