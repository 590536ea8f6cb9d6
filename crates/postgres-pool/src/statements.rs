//! The prepared statements of a connection, by their SQL.

use tokio_postgres::Statement;

/// The maximum number of statements that a connection keeps. Each takes some ten kilobytes in PostgreSQL.
pub(crate) const MAX_STATEMENTS: usize = 100;

/// Statements, least recently used first: few enough to look through.
pub(crate) struct Statements<S = Statement> {
    entries: Vec<(Box<str>, S)>,
}

impl<S: Clone> Statements<S> {
    pub(crate) const fn new() -> Self {
        Statements { entries: Vec::new() }
    }

    /// Returns the statement, which is the most recently used one then.
    pub(crate) fn find(&mut self, sql: &str) -> Option<S> {
        let index = self.entries.iter().position(|(known, _)| **known == *sql)?;
        self.entries[index..].rotate_left(1);
        self.entries.last().map(|(_, statement)| statement.clone())
    }

    /// Adds a statement. Returns the one that had to go for it.
    pub(crate) fn add(&mut self, sql: &str, statement: S) -> Option<S> {
        let is_full = self.entries.len() == MAX_STATEMENTS;
        let oldest = is_full.then(|| self.entries.remove(0).1);
        self.entries.push((sql.into(), statement));
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_statement_goes() {
        let mut statements = Statements::new();
        for number in 0..MAX_STATEMENTS {
            assert_eq!(statements.add(&number.to_string(), number), None);
        }
        assert_eq!(statements.find("0"), Some(0));
        assert_eq!(statements.find("100"), None);
        assert_eq!(statements.add("100", 100), Some(1));
        assert_eq!(statements.add("101", 101), Some(2));
        for (sql, found) in [("0", Some(0)), ("1", None), ("2", None), ("3", Some(3))] {
            assert_eq!(statements.find(sql), found, "{sql}");
        }
    }
}
