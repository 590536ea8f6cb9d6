//! Schemas: each migration once, older programs beside newer ones.

use storage::{Migration, Schema, StoreError};

use crate::{names, on_every_engine, put, said};

const MIGRATIONS: &[Migration] = &[
    Migration::contract("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)"),
    Migration::expand("ALTER TABLE facts ADD COLUMN note TEXT NOT NULL DEFAULT ''"),
    Migration::contract(
        "ALTER TABLE facts DROP COLUMN note; CREATE TABLE more (id BIGINT PRIMARY KEY)",
    ),
];

const fn version(number: usize) -> Schema {
    Schema { name: "facts", migrations: MIGRATIONS.split_at(number).0 }
}

#[test]
fn an_older_program_goes_on_after_an_expansion_and_refuses_a_contraction() {
    on_every_engine(async |place| {
        let (older, newer) = (place.store(version(1)), place.store(version(2)));
        put(&older, "a", "1").await.unwrap();
        put(&newer, "b", "2").await.unwrap();
        // One that was already running, and one that starts now.
        put(&older, "c", "3").await.unwrap();
        assert_eq!(names(&place.store(version(1))).await.unwrap(), ["a", "b", "c"]);
        assert_eq!(names(&place.store(version(3))).await.unwrap().len(), 3);
        // Those that were running meanwhile refuse it as well, whatever they do next.
        let error = put(&older, "d", "4").await.unwrap_err();
        assert!(matches!(&error, StoreError::Newer { found: 3, .. }), "{error}");
        for (number, store) in [
            (1, older.clone()),
            (2, newer),
            (1, place.store(version(1))),
            (2, place.store(version(2))),
        ] {
            let error = names(&store).await.unwrap_err();
            assert!(matches!(&error, StoreError::Newer { found: 3, .. }), "{error}");
            let expected =
                format!("its tables of facts are version 3, this program knows {number}");
            assert!(error.to_string().contains(&expected), "{error}");
        }
    });
}

/// One that changes only rows creates and drops no table.
#[test]
fn a_contraction_of_rows_is_noticed_as_well() {
    const ROWS: &[Migration] = &[MIGRATIONS[0], Migration::contract("UPDATE facts SET value = ''")];
    on_every_engine(async |place| {
        let older = place.store(version(1));
        put(&older, "a", "1").await.unwrap();
        let newer = place.store(Schema { name: "facts", migrations: ROWS });
        assert_eq!(names(&newer).await.unwrap(), ["a"]);
        let error = put(&older, "b", "2").await.unwrap_err();
        assert!(matches!(&error, StoreError::Newer { found: 2, .. }), "{error}");
        put(&newer, "b", "2").await.unwrap();
    });
}

#[test]
fn a_migration_that_was_changed_after_it_was_applied_is_noticed() {
    const CHANGED: Schema = Schema {
        name: "facts",
        migrations: &[Migration::contract("CREATE TABLE facts (name TEXT, value TEXT NOT NULL)")],
    };
    on_every_engine(async |place| {
        names(&place.store(version(1))).await.unwrap();
        let error = names(&place.store(CHANGED)).await.unwrap_err();
        assert!(matches!(&error, StoreError::Altered { number: 1, .. }), "{error}");
        assert!(error.to_string().contains("migration 1 of facts"), "{error}");
    });
}

#[test]
fn a_migration_that_fails_leaves_nothing_behind_and_other_schemas_alone() {
    const BROKEN: Schema = Schema {
        name: "tool",
        migrations: &[Migration::expand("CREATE TABLE tool (id BIGINT PRIMARY KEY)"); 2],
    };
    on_every_engine(async |place| {
        let facts = place.store(version(1));
        let broken = facts.with_schema(BROKEN);
        for _ in 0..2 {
            let said = said(broken.read(async |_| Ok(())).await);
            assert!(said.contains("already exists"), "{said}");
            put(&facts, "a", "1").await.unwrap();
        }
        let has_table = facts.read(async |store| store.has_table("tool").await);
        assert!(!has_table.await.unwrap());
    });
}
