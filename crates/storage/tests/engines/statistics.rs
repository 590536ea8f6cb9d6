//! How large a store is and what is in it.

use storage::{Migration, Rows, Schema, SchemaStatistics, TableStatistics, params};

use crate::{on_every_engine, put};

const FACTS: Schema = Schema {
    name: "facts",
    migrations: &[
        Migration::contract("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)"),
        Migration::expand("CREATE TABLE \"more facts\" (id BIGINT PRIMARY KEY)"),
    ],
};
const OTHER: Schema = Schema {
    name: "other",
    migrations: &[Migration::expand("CREATE TABLE other (id BIGINT PRIMARY KEY)")],
};

#[test]
fn tables_are_counted_by_schema() {
    on_every_engine(async |place| {
        let facts = place.store(FACTS);
        put(&facts, "a", "1").await.unwrap();
        put(&facts, "b", "2").await.unwrap();
        let other = facts.with_schema(OTHER);
        let insert = async |store: &storage::Transaction<'_>| {
            store.execute("INSERT INTO other (id) VALUES ($1)", params![7]).await
        };
        other.write(insert).await.unwrap();

        let found = facts.statistics(&[FACTS]).await.unwrap();
        assert!(found.bytes > 0, "{found:?}");
        let table =
            |name: &str, rows| TableStatistics { name: name.to_owned(), rows: Rows::Exactly(rows) };
        let expected = SchemaStatistics {
            name: "facts".to_owned(),
            applied: 2,
            known: Some(2),
            tables: vec![table("facts", 2), table("more facts", 0)],
        };
        assert!(found.schemas.contains(&expected), "{found:?}");
        assert!(found.other_tables.contains(&table("other", 1)), "{found:?}");
        let unknown = found.schemas.iter().find(|schema| schema.name == "other").unwrap();
        assert_eq!((unknown.applied, unknown.known, unknown.tables.len()), (1, None, 0));
    });
}

#[test]
fn counting_ends_in_time() {
    on_every_engine(async |place| {
        let store = place.store(OTHER);
        let fill = "INSERT INTO other (id) WITH RECURSIVE numbers (n) AS
                        (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100001)
                        SELECT n FROM numbers";
        store.write(async |store| store.execute(fill, &[]).await).await.unwrap();
        let found = store.statistics(&[OTHER]).await.unwrap();
        let of_other = found.schemas.iter().find(|schema| schema.name == "other").unwrap();
        assert_eq!(of_other.tables[0].rows, Rows::Many);
        let delete = "DELETE FROM other WHERE id = $1";
        store.write(async |store| store.execute(delete, params![1]).await).await.unwrap();
        let found = store.statistics(&[OTHER]).await.unwrap();
        let of_other = found.schemas.iter().find(|schema| schema.name == "other").unwrap();
        assert_eq!(of_other.tables[0].rows, Rows::Exactly(Rows::MAX_COUNTED));
    });
}
