//! What a process that serves is doing: one enum, and one table of its moves.

/// The phase that a process is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The listen socket is being opened; nothing is accepted.
    #[default]
    Starting,
    /// Accepts and answers.
    Serving,
    /// Accepting pauses: idle connections are collected for the new version, requests in flight get a moment to
    /// finish.
    HandingOver,
    /// Takes what is in the backlog, finishes what is in flight, exits.
    Draining,
    /// The process has become the new version; this is the child it left behind, which finishes what was in
    /// flight and exits.
    DrainingChild,
}

/// What moves a process from one phase to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The listen socket is open.
    Listening,
    /// There is a newer version that may run in the place of this one.
    UpgradeReady,
    /// The upgrade did not come about: this version continues.
    PutOff,
    /// This is the child that a process left behind when it became the new version.
    Forked,
    /// A signal, an idle time or the end of the listen socket ends the process.
    Shutdown,
}

impl Phase {
    /// The table of moves: `None` for an event that cannot come in a phase.
    pub(crate) fn after(self, event: Trigger) -> Option<Phase> {
        match (self, event) {
            (Phase::Starting, Trigger::Listening) => Some(Phase::Serving),
            (Phase::Serving, Trigger::UpgradeReady) => Some(Phase::HandingOver),
            (Phase::Serving | Phase::HandingOver, Trigger::Shutdown) => Some(Phase::Draining),
            (Phase::HandingOver, Trigger::PutOff) => Some(Phase::Serving),
            (Phase::HandingOver, Trigger::Forked) => Some(Phase::DrainingChild),
            _ => None,
        }
    }

    /// What is wanted of a connection that is between two requests.
    pub(crate) fn wanted(self) -> Option<Wanted> {
        match self {
            Phase::Starting | Phase::Serving => None,
            Phase::HandingOver => Some(Wanted::HandOver),
            Phase::Draining | Phase::DrainingChild => Some(Wanted::Close),
        }
    }

    /// Whether the process ends in this phase, whatever happens.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Phase::Draining | Phase::DrainingChild)
    }
}

/// What is wanted of a connection that is between two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// That it closes.
    Close,
    /// That it closes even if part of a request has arrived; no response is lost.
    CloseNow,
    /// That it is handed over to the new version.
    HandOver,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 5] = [
        Phase::Starting,
        Phase::Serving,
        Phase::HandingOver,
        Phase::Draining,
        Phase::DrainingChild,
    ];

    /// The table, drawn again: a row a phase, a column an event.
    #[test]
    fn phases_move_as_drawn() {
        use Phase::*;
        let events = [
            Trigger::Listening,
            Trigger::UpgradeReady,
            Trigger::PutOff,
            Trigger::Forked,
            Trigger::Shutdown,
        ];
        let table = [
            // Listening   UpgradeReady       PutOff         Forked               Shutdown
            [Some(Serving), None, None, None, None],
            [None, Some(HandingOver), None, None, Some(Draining)],
            [None, None, Some(Serving), Some(DrainingChild), Some(Draining)],
            [None, None, None, None, None],
            [None, None, None, None, None],
        ];
        for (phase, row) in PHASES.into_iter().zip(table) {
            for (event, next) in events.into_iter().zip(row) {
                assert_eq!(phase.after(event), next, "{phase:?} after {event:?}");
            }
        }
    }

    #[test]
    fn connections_are_closed_in_the_phases_that_end_and_handed_over_in_one() {
        let wanted = PHASES.map(Phase::wanted);
        let (close, hand_over) = (Some(Wanted::Close), Some(Wanted::HandOver));
        assert_eq!(wanted, [None, None, hand_over, close, close]);
        assert_eq!(PHASES.map(Phase::is_final), [false, false, false, true, true]);
    }
}
