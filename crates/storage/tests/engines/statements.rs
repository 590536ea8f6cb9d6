//! Statements: what goes in, what comes out, and what is refused.

use std::collections::BTreeMap;

use storage::{Json, Migration, Schema, Store, Value, params};

use crate::{Place, on_every_engine, said};

const KINDS: Schema = Schema {
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
        // Bytes that look like a number stay bytes, and a real without a fraction stays one.
        (Some(0), None, Some(2.0), Some(b"12".to_vec()), None),
    ];
    on_every_engine(async |place| {
        let store = place.store(KINDS);
        for (id, row) in rows.iter().enumerate() {
            let insert = "INSERT INTO kinds (bytes, id, number, truth, real, json)
                              VALUES ($5, $1, $2, $3, $4, $6)";
            let id = id.to_string();
            let add = store.write(async |store| {
                store.execute(insert, params![id, row.0, row.1, row.2, row.3, row.4]).await
            });
            assert_eq!(add.await.unwrap(), 1);
            let find = "SELECT number, truth, real, bytes, json FROM kinds WHERE id = $1";
            let found = store.read(async |store| store.query_one::<Kinds>(find, params![id]).await);
            assert_eq!(found.await.unwrap(), *row);
        }
        let sum =
            "SELECT CAST(sum(CASE WHEN truth THEN 1 ELSE 0 END) AS BIGINT), count(*) FROM kinds";
        let found = store.read(async |store| store.query_one::<(i64, u32)>(sum, &[]).await);
        assert_eq!(found.await.unwrap(), (1, 4));
    });
}

async fn query(store: &Store, sql: &str, values: &[Value<'_>]) -> String {
    said(store.read(async |store| store.query::<i64>(sql, values).await).await)
}

#[test]
fn mistakes_are_named_with_their_statement() {
    on_every_engine(async |place| {
        let store = place.store(KINDS);
        for (sql, values, expected) in [
            (
                "SELECT CAST($1 AS BIGINT)",
                params![1, 2] as &[_],
                "2 parameters are given and 1 used",
            ),
            ("SELECT CAST($1 AS BIGINT) + $2", params![1], "$1 AS BIGINT"),
            ("SELECT 'a'", &[], "column 1 is text, not an integer"),
            ("SELECT number FORM kinds", &[], "syntax error"),
            ("SELECT nothing FROM kinds", &[], "nothing"),
        ] {
            let said = query(&store, sql, values).await;
            assert!(said.contains(expected), "{sql}: {said}");
        }
        let delete = "DELETE FROM kinds RETURNING 1";
        let said = query(&store, delete, &[]).await;
        assert!(said.contains("cannot change") || said.contains("read-only"), "{said}");
        if let Place::File(_) = place {
            for (sql, name) in
                [("SELECT ?1", "?1"), ("SELECT :a", ":a"), ("SELECT $2", "$2"), ("SELECT $0", "$0")]
            {
                let said = query(&store, sql, params![1]).await;
                let expected =
                    format!("a mistake in the program: {name} is none of 1 parameters: {sql}");
                assert_eq!(said, expected);
            }
        }
        // None of them has spoiled the connection.
        store.read(async |store| store.query_one::<i64>("SELECT 1", &[]).await).await.unwrap_or(1);
    });
}

#[test]
fn a_parameter_of_the_wrong_kind_changes_nothing() {
    on_every_engine(async |place| {
        let store = place.store(KINDS);
        let add = async |values: &[Value<'_>]| {
            let insert = "INSERT INTO kinds (id, number) VALUES ($1, $2)";
            store.write(async |store| store.execute(insert, values).await).await
        };
        assert_eq!(add(params!["a", 1]).await.unwrap(), 1);
        if let Place::Server(_) = place {
            let said = said(add(params!["b", "text"]).await);
            assert!(said.contains("it is text, and int8 is needed"), "{said}");
        }
        let ids =
            store.read(async |store| store.query::<String>("SELECT id FROM kinds", &[]).await);
        assert_eq!(ids.await.unwrap(), ["a".to_owned()]);
    });
}

#[test]
fn one_row_is_neither_none_nor_two() {
    on_every_engine(async |place| {
        let store = place.store(KINDS);
        let none = "SELECT number FROM kinds";
        let two = "SELECT CAST(1 AS BIGINT) UNION SELECT CAST(2 AS BIGINT)";
        let one = async |sql: &str| {
            said(store.read(async |store| store.query_one::<i64>(sql, &[]).await).await)
        };
        assert!(one(none).await.contains("no row was found"));
        assert!(one(two).await.contains("2 rows instead of one"));
        let found = store.read(async |store| store.query_opt::<Option<i64>>(none, &[]).await);
        assert_eq!(found.await.unwrap(), None);
    });
}

#[test]
fn memory_for_a_result_is_bounded() {
    on_every_engine(async |place| {
        let store = place.store(KINDS);
        let endless = "WITH RECURSIVE numbers (n) AS
                           (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n < 3000000)
                       SELECT n FROM numbers";
        assert!(query(&store, endless, &[]).await.contains("add a LIMIT"));
    });
}

#[test]
fn a_refused_row_is_told_from_other_failures() {
    on_every_engine(async |place| {
        let store = place.store(KINDS);
        let twice = store.write(async |store| {
            for _ in 0..2 {
                store.execute("INSERT INTO kinds (id) VALUES ('a')", &[]).await?;
            }
            Ok(())
        });
        let twice = twice.await.unwrap_err();
        assert!(twice.is_constraint() && twice.is_mistake());
        let nonsense = store.write(async |store| store.execute("no SQL", &[]).await);
        let nonsense = nonsense.await.unwrap_err();
        assert!(!nonsense.is_constraint() && nonsense.is_mistake());
        let another_type =
            store.read(async |store| store.query_one::<i64>("SELECT 'a'", &[]).await);
        assert!(another_type.await.unwrap_err().is_mistake());
    });
}
