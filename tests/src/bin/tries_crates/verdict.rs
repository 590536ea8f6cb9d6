//! What all attempts at a case amount to.

use crate::attempt::{Outcome, Reload, Way};

/// Where a case works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Works {
    /// On the bare loop and in tokio, without a thread.
    Everywhere,
    /// In tokio, without a thread.
    InTokio,
    /// On the bare loop only: it has a runtime of its own.
    OnTheBareLoop,
    /// Only where threads are allowed.
    WithThreads,
    /// Only where threads are allowed, and only on the bare loop.
    WithThreadsOnTheBareLoop,
    /// Nowhere.
    Nowhere,
}

/// A row of the table, but for the case's own words.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) works: Works,
    /// What it says where it does not work: without threads in tokio, if it fails there, otherwise on the bare loop.
    pub(crate) message: Option<String>,
    /// The threads that it starts where they are allowed.
    pub(crate) threads: Vec<String>,
    pub(crate) reload: Reload,
}

impl Verdict {
    pub(crate) fn of(outcomes: &[(Way, Outcome)], reload: Reload) -> Verdict {
        let works = |in_tokio: bool, has_threads: bool| {
            let mut some = of_way(outcomes, in_tokio, has_threads);
            some.all(|outcome| matches!(outcome, Outcome::Works { .. }))
        };
        let works = match (works(true, false), works(false, false)) {
            (true, true) => Works::Everywhere,
            (true, false) => Works::InTokio,
            (false, true) => Works::OnTheBareLoop,
            (false, false) if works(true, true) => Works::WithThreads,
            (false, false) if works(false, true) => Works::WithThreadsOnTheBareLoop,
            (false, false) => Works::Nowhere,
        };
        // What it says at home is the better message where it does not work there either.
        let has_threads = matches!(works, Works::Nowhere | Works::WithThreadsOnTheBareLoop);
        let mut in_tokio = of_way(outcomes, true, has_threads);
        let mut bare = of_way(outcomes, false, false);
        let message = in_tokio.find_map(message).or_else(|| bare.find_map(message));
        let threads = outcomes.iter().find_map(|(way, outcome)| match outcome {
            Outcome::Works { threads } if way.has_threads && !threads.is_empty() => Some(threads),
            _ => None,
        });
        Verdict { works, message, threads: threads.cloned().unwrap_or_default(), reload }
    }
}

/// The outcomes over all transports.
fn of_way(
    outcomes: &[(Way, Outcome)],
    in_tokio: bool,
    has_threads: bool,
) -> impl Iterator<Item = &Outcome> {
    let is_way = move |way: &Way| way.in_tokio == in_tokio && way.has_threads == has_threads;
    outcomes.iter().filter(move |(way, _)| is_way(way)).map(|(_, outcome)| outcome)
}

fn message(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Works { .. } => None,
        Outcome::Fails { message, .. } => Some(message.clone()),
    }
}

/// Whether a case works in tokio, where threads are allowed: then a developer does not expect that it fails elsewhere.
fn works_at_home(outcomes: &[(Way, Outcome)]) -> bool {
    of_way(outcomes, true, true).all(|outcome| matches!(outcome, Outcome::Works { .. }))
}

/// What no application should meet, whatever it depends on.
pub(crate) fn problems(name: &str, outcomes: &[(Way, Outcome)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (way, outcome) in outcomes {
        match outcome {
            Outcome::Works { threads } if !way.has_threads && !threads.is_empty() => {
                problems.push(format!("{name}, {way}: there are threads: {threads:?}"));
            }
            Outcome::Works { .. } => {}
            Outcome::Fails { fault: Some(fault), .. } => {
                problems.push(format!("{name}, {way}: {fault}"));
            }
            Outcome::Fails { message, lacks_cure: true, .. } if works_at_home(outcomes) => {
                problems.push(format!("{name}, {way}: no cure is named for: {message}"));
            }
            Outcome::Fails { .. } => {}
        }
    }
    for pair in outcomes.chunks(2) {
        if let [(way, one), (_, other)] = pair
            && matches!(one, Outcome::Works { .. }) != matches!(other, Outcome::Works { .. })
        {
            problems.push(format!("{name}, {way}: other than over HTTP"));
        }
    }
    problems
}
