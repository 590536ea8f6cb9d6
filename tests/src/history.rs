//! What clients have seen of lists that several append to and read, and whether one list each explains it: as if every
//! operation had happened at one moment between its call and its return (linearizability).
//!
//! Numbers are unique, and lists only grow, so the list at the end has the order of all appends, and a read is placed in
//! it by its length. What is left to compare is that order with the clock: Jepsen's checker of append-only lists, for
//! operations of one key each. Knows nothing of HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// An operation of a client. Times are since the start.
#[derive(Clone, Debug)]
pub struct Operation {
    /// On which list.
    pub list: String,
    /// What was to be done.
    pub action: Action,
    /// When it was called.
    pub called: Duration,
    /// When it returned.
    pub returned: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What was to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Append this number, which no other operation appends.
    Append(u64),
    /// Read the list.
    Read,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The number was appended.
    Appended,
    /// The list was this.
    Was(Vec<u64>),
    /// Nothing was done: the request was never sent.
    Failed(String),
    /// The number may be appended by now, or later, or never.
    Unknown(String),
}

/// A contradiction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// An append that was acknowledged is not in the list.
    Lost(u64),
    /// A number is there more than once.
    Twice(u64),
    /// A number is there that nobody has appended, or whose append has failed.
    Invented(u64),
    /// A read is not the beginning of the list at the end.
    Forked {
        /// What was read.
        read: Vec<u64>,
    },
    /// The second operation was called after the first had returned, but came before it.
    OutOfOrder {
        /// The operation that has returned.
        first: Action,
        /// The one that did not see it.
        second: Action,
        /// How much later it was called.
        later: Duration,
    },
}

impl fmt::Display for Anomaly {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Anomaly::Lost(number) => write!(formatter, "{number} was acknowledged and is lost"),
            Anomaly::Twice(number) => write!(formatter, "{number} is there twice"),
            Anomaly::Invented(number) => write!(formatter, "{number} is there for no reason"),
            Anomaly::Forked { read } => {
                write!(formatter, "a read is not a beginning of the list: {read:?}")
            }
            Anomaly::OutOfOrder { first, second, later } => {
                let what = match (first, second) {
                    (Action::Append(_), Action::Read) => "a read has missed an acknowledged append",
                    (Action::Read, Action::Append(_)) => "a read has seen an append of the future",
                    (Action::Read, Action::Read) => "a read has seen less than an earlier one",
                    (Action::Append(_), Action::Append(_)) => {
                        "an append came before an earlier one"
                    }
                };
                write!(formatter, "{what}: {first:?}, and {second:?} {later:?} later")
            }
        }
    }
}

/// Returns what cannot be, with the list in which it is. `last` is what the lists are at the end, after all operations.
pub fn check(
    operations: &[Operation],
    last: &BTreeMap<String, Vec<u64>>,
) -> Vec<(String, Anomaly)> {
    let mut lists: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        lists.entry(&operation.list).or_default().push(operation);
    }
    for list in last.keys() {
        lists.entry(list).or_default();
    }
    let found = lists.into_iter().flat_map(|(list, operations)| {
        let numbers = last.get(list).map_or(&[][..], Vec::as_slice);
        let anomalies = check_list(&operations, numbers);
        anomalies.into_iter().map(|anomaly| (list.to_owned(), anomaly))
    });
    found.collect()
}

fn check_list(operations: &[&Operation], last: &[u64]) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    let mut positions = BTreeMap::new();
    for (position, &number) in last.iter().enumerate() {
        if positions.insert(number, position).is_some() {
            anomalies.push(Anomaly::Twice(number));
        }
    }
    let is_possible = |operation: &&Operation| !matches!(operation.outcome, Outcome::Failed(_));
    let appended = operations.iter().filter(|it| is_possible(it)).map(|it| it.action);
    let appended: BTreeSet<_> = appended
        .filter_map(|action| match action {
            Action::Append(number) => Some(number),
            Action::Read => None,
        })
        .collect();
    anomalies.extend(
        positions
            .keys()
            .filter(|number| !appended.contains(number))
            .copied()
            .map(Anomaly::Invented),
    );
    let mut placed = Vec::new();
    for operation in operations {
        match (&operation.outcome, operation.action) {
            (Outcome::Was(read), _) if !last.starts_with(read) => {
                anomalies.push(Anomaly::Forked { read: read.clone() });
            }
            // Between the appends that it has seen and those that it has not.
            (Outcome::Was(read), _) => placed.push((2 * read.len(), *operation)),
            (Outcome::Appended | Outcome::Unknown(_), Action::Append(number)) => {
                match positions.get(&number) {
                    Some(position) => placed.push((2 * position + 1, *operation)),
                    None if operation.outcome == Outcome::Appended => {
                        anomalies.push(Anomaly::Lost(number));
                    }
                    None => {}
                }
            }
            _ => {}
        }
    }
    for (place, first) in &placed {
        // Nobody knows when the others happen, or happened.
        if matches!(first.outcome, Outcome::Unknown(_)) {
            continue;
        }
        for (other, second) in &placed {
            if first.returned < second.called && other < place {
                let later = second.called - first.returned;
                let (first, second) = (first.action, second.action);
                anomalies.push(Anomaly::OutOfOrder { first, second, later });
            }
        }
    }
    anomalies
}

/// Writes an operation as a line.
impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (called, returned) = (self.called.as_micros(), self.returned.as_micros());
        let Operation { list, action, outcome, .. } = self;
        write!(formatter, "{called} {returned} {list} {action:?} {outcome:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "list";

    /// An operation from one millisecond to another.
    fn operation(called: u64, returned: u64, action: Action, outcome: Outcome) -> Operation {
        let (called, returned) = (Duration::from_millis(called), Duration::from_millis(returned));
        Operation { list: LIST.to_owned(), action, called, returned, outcome }
    }

    fn append(called: u64, returned: u64, number: u64) -> Operation {
        operation(called, returned, Action::Append(number), Outcome::Appended)
    }

    fn unknown(called: u64, returned: u64, number: u64) -> Operation {
        operation(called, returned, Action::Append(number), Outcome::Unknown("cut".into()))
    }

    fn failed(called: u64, number: u64) -> Operation {
        operation(called, called, Action::Append(number), Outcome::Failed("refused".into()))
    }

    fn read(called: u64, returned: u64, was: &[u64]) -> Operation {
        operation(called, returned, Action::Read, Outcome::Was(was.to_vec()))
    }

    fn found(operations: &[Operation], last: &[u64]) -> Vec<String> {
        let last = [(LIST.to_owned(), last.to_vec())].into();
        let found = check(operations, &last).into_iter();
        found.map(|(_, anomaly)| anomaly.to_string()).collect()
    }

    #[test]
    fn histories_that_one_list_explains() {
        for (name, operations, last) in [
            ("nothing", vec![], &[][..]),
            (
                "one after the other",
                vec![append(0, 1, 5), read(2, 3, &[5]), append(4, 5, 6)],
                &[5, 6],
            ),
            ("overlapping appends in any order", vec![append(0, 9, 5), append(1, 8, 6)], &[6, 5]),
            ("a read beside an append sees it", vec![append(0, 9, 5), read(1, 2, &[5])], &[5]),
            ("or not", vec![append(0, 9, 5), read(7, 8, &[])], &[5]),
            ("an unknown append that was made", vec![unknown(0, 1, 5), append(2, 3, 6)], &[5, 6]),
            ("that was made later", vec![unknown(0, 1, 5), append(2, 3, 6)], &[6, 5]),
            (
                "after reads without it",
                vec![unknown(0, 1, 5), read(2, 3, &[]), read(4, 5, &[5])],
                &[5],
            ),
            ("that was not made", vec![unknown(0, 1, 5), read(2, 3, &[])], &[]),
            ("a failed append", vec![failed(0, 5), append(1, 2, 6)], &[6]),
            (
                "a failed read",
                vec![operation(0, 1, Action::Read, Outcome::Unknown("503".into()))],
                &[],
            ),
        ] {
            assert!(found(&operations, last).is_empty(), "{name}: {:?}", found(&operations, last));
        }
    }

    #[test]
    fn histories_that_no_list_explains() {
        for (expected, operations, last) in [
            ("5 was acknowledged and is lost", vec![append(0, 1, 5), append(2, 3, 6)], &[6][..]),
            ("5 is there twice", vec![append(0, 1, 5)], &[5, 5]),
            ("5 is there twice", vec![unknown(0, 1, 5), append(2, 3, 6)], &[5, 6, 5]),
            ("7 is there for no reason", vec![append(0, 1, 5)], &[5, 7]),
            ("7 is there for no reason", vec![failed(0, 7)], &[7]),
            (
                "not a beginning of the list: [6]",
                vec![append(0, 9, 5), append(0, 9, 6), read(1, 2, &[6])],
                &[5, 6],
            ),
            ("not a beginning of the list: [5]", vec![unknown(0, 1, 5), read(2, 3, &[5])], &[]),
            ("has missed an acknowledged append", vec![append(0, 1, 5), read(2, 3, &[])], &[5]),
            ("has seen an append of the future", vec![read(0, 1, &[5]), append(2, 3, 5)], &[5]),
            ("has seen an append of the future", vec![read(0, 1, &[5]), unknown(2, 3, 5)], &[5]),
            (
                "less than an earlier one",
                vec![append(0, 9, 5), read(1, 2, &[5]), read(3, 4, &[])],
                &[5],
            ),
            ("came before an earlier one", vec![append(0, 1, 5), append(2, 3, 6)], &[6, 5]),
            ("came before an earlier one", vec![append(0, 1, 5), unknown(2, 3, 6)], &[6, 5]),
        ] {
            let found = found(&operations, last);
            assert!(found.iter().any(|it| it.contains(expected)), "{expected}: {found:?}");
        }
    }

    #[test]
    fn lists_have_nothing_to_do_with_each_other() {
        let other = |operation| Operation { list: "other".to_owned(), ..operation };
        let operations = [append(0, 1, 5), other(read(2, 3, &[])), other(append(4, 5, 6))];
        let last = [(LIST.to_owned(), vec![5]), ("other".to_owned(), vec![6])].into();
        assert_eq!(check(&operations, &last), []);
        let last = [(LIST.to_owned(), vec![5, 6]), ("third".to_owned(), vec![7])].into();
        let expected = [
            (LIST.to_owned(), Anomaly::Invented(6)),
            ("other".to_owned(), Anomaly::Lost(6)),
            ("third".to_owned(), Anomaly::Invented(7)),
        ];
        assert_eq!(check(&operations, &last), expected);
    }

    /// A list that really exists, used by clients whose operations overlap; then the same with one thing wrong.
    #[test]
    fn in_a_long_history_one_wrong_operation_is_found() {
        let mut state = 1_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let mut list = Vec::new();
        let mut operations = Vec::new();
        for moment in 0..500 {
            // It happens at this moment, and takes a while before and after.
            let (called, returned) =
                (10 * moment - random(10 * moment + 1).min(60), 10 * moment + random(60));
            if random(2) == 0 {
                list.push(moment);
                let known = random(10) > 0;
                operations.push(if known { append } else { unknown }(called, returned, moment));
            } else {
                operations.push(read(called, returned, &list));
            }
        }
        assert!(found(&operations, &list).is_empty());
        for at in 0..list.len() - 1 {
            let mut last = list.clone();
            last.swap(at, at + 1);
            // If they overlapped and nobody has read in between, either order is possible.
            let (one, other) = (list[at], list[at + 1]);
            let is_seen = operations
                .iter()
                .any(|it| matches!(&it.outcome, Outcome::Was(read) if read.len() == at + 1));
            if is_seen {
                assert!(!found(&operations, &last).is_empty(), "{one} and {other}");
            }
            let mut last = list.clone();
            last.remove(at);
            assert!(!found(&operations, &last).is_empty(), "without {one}");
        }
        for at in 0..operations.len() {
            let mut wrong = operations.clone();
            let Outcome::Was(read) = &mut wrong[at].outcome else { continue };
            // Long before the last append that had returned when it was called.
            let old = read.len().saturating_sub(20);
            if old > 0 {
                read.truncate(old);
                assert!(!found(&wrong, &list).is_empty(), "read {at}");
            }
        }
    }
}
