//! Schemas: each migration once, older programs beside newer ones.

use storage::{Migration, Schema, Snapshot, Store, StoreError};

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
        // Whatever this handle is for.
        let any = place.store(Schema { name: "tool", migrations: &[] });
        any.check_versions(&[version(3)]).await.unwrap();
        put(&older, "a", "1").await.unwrap();
        put(&newer, "b", "2").await.unwrap();
        for number in 1..=3 {
            any.check_versions(&[version(number)]).await.unwrap();
        }
        // One that was already running, and one that starts now.
        put(&older, "c", "3").await.unwrap();
        assert_eq!(names(&place.store(version(1))).await.unwrap(), ["a", "b", "c"]);
        assert_eq!(names(&place.store(version(3))).await.unwrap().len(), 3);
        any.check_versions(&[version(3)]).await.unwrap();
        for number in [1, 2] {
            let error = any.check_versions(&[version(3), version(number)]).await.unwrap_err();
            assert!(matches!(&error, StoreError::Newer { found: 3, .. }), "{error}");
            assert!(error.is_of_other_programs());
        }
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

/// PostgreSQL looks at a process's first statement before it says what the tables are.
#[test]
fn a_statement_that_fits_the_tables_of_another_version_is_no_mistake() {
    const KEPT: &[Migration] = &[
        Migration::contract("CREATE TABLE kept (id BIGINT PRIMARY KEY, old TEXT)"),
        Migration::expand("ALTER TABLE kept ADD COLUMN new TEXT"),
        Migration::contract("ALTER TABLE kept DROP COLUMN old"),
    ];
    const VERSIONS: [Schema; 3] = [
        Schema { name: "kept", migrations: KEPT.split_at(1).0 },
        Schema { name: "kept", migrations: KEPT.split_at(2).0 },
        Schema { name: "kept", migrations: KEPT },
    ];
    on_every_engine(async |place| {
        let read = async |store: &Store, column: &str| {
            let select = format!("SELECT {column} FROM kept");
            let select = async |store: &Snapshot<'_>| store.query::<String>(&select, &[]).await;
            store.read(select).await.map(drop)
        };
        let write = async |store: &Store, column: &str| {
            let insert =
                format!("INSERT INTO kept (id, {column}) VALUES (1, '') ON CONFLICT DO NOTHING");
            store.write(async |store| store.execute(&insert, &[]).await).await.map(drop)
        };
        let [running, ..] = VERSIONS.map(|version| place.store(version));
        read(&running, "old").await.unwrap();
        // Each store is a process that starts.
        read(&place.store(VERSIONS[1]), "new").await.unwrap();
        write(&place.store(VERSIONS[1]), "new").await.unwrap();
        write(&running, "old").await.unwrap();
        read(&place.store(VERSIONS[2]), "new").await.unwrap();
        for refused in [
            read(&place.store(VERSIONS[0]), "old").await,
            write(&place.store(VERSIONS[0]), "old").await,
            read(&place.store(VERSIONS[1]), "old").await,
            write(&running, "old").await,
            read(&running, "old").await,
        ] {
            let error = refused.unwrap_err();
            assert!(matches!(&error, StoreError::Newer { found: 3, .. }), "{error}");
        }
        let store = place.store(VERSIONS[2]);
        for mistake in [read(&store, "nothing").await, write(&store, "nothing").await] {
            let error = mistake.unwrap_err();
            assert!(error.is_mistake() && error.to_string().contains("nothing"), "{error}");
        }
    });
}
