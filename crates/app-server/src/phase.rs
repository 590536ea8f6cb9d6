//! The phases of a serving process: one enum, and one table of its transitions.

/// The phase a process is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Takes over what the previous image of the process has left; accepts nothing yet.
    #[default]
    Starting,
    /// Accepts connections and answers requests.
    Serving,
    /// Accepting is paused: idle connections are collected for the new version, and requests in flight
    /// get a grace period to complete.
    HandingOver,
    /// Serves as before, and tells load balancers that it will drain in a moment
    /// ([`is_draining`](crate::is_draining)).
    Withdrawing,
    /// Accepts what is in the backlog, completes the requests in flight, exits.
    Draining,
    /// The process has become the new version; this is the child it left behind, which completes the
    /// requests that were in flight and exits.
    DrainingChild,
}

/// What moves a process from one phase to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The listen socket is open, and what the previous image has left is taken over.
    Listening,
    /// A newer version is ready to run in place of this one.
    UpgradeReady,
    /// The upgrade was postponed or failed; this version continues.
    PutOff,
    /// This is the child that a process left behind when it became the new version.
    Forked,
    /// A signal ends the process, but load balancers are to notice first.
    Withdraw,
    /// A signal, the idle timeout or the shutdown of the listen socket ends the process.
    Shutdown,
}

impl Phase {
    /// The transition table: `None` for a trigger that cannot occur in a phase.
    pub(crate) fn after(self, event: Trigger) -> Option<Phase> {
        match (self, event) {
            (Phase::Starting, Trigger::Listening) => Some(Phase::Serving),
            (Phase::Serving, Trigger::UpgradeReady) => Some(Phase::HandingOver),
            (Phase::Serving | Phase::HandingOver, Trigger::Withdraw) => Some(Phase::Withdrawing),
            (Phase::Serving | Phase::HandingOver | Phase::Withdrawing, Trigger::Shutdown) => {
                Some(Phase::Draining)
            }
            (Phase::HandingOver, Trigger::PutOff) => Some(Phase::Serving),
            (Phase::HandingOver, Trigger::Forked) => Some(Phase::DrainingChild),
            _ => None,
        }
    }

    /// Returns what is wanted of a connection that is between two requests.
    pub(crate) fn wanted(self) -> Option<Wanted> {
        match self {
            Phase::Starting | Phase::Serving | Phase::Withdrawing => None,
            Phase::HandingOver => Some(Wanted::HandOver),
            Phase::Draining | Phase::DrainingChild => Some(Wanted::Close),
        }
    }

    /// Whether the process does not serve again after this phase.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Phase::Withdrawing | Phase::Draining | Phase::DrainingChild)
    }
}

/// What is wanted of a connection that is between two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Close.
    Close,
    /// Close even if part of a request has arrived; no response is lost.
    CloseNow,
    /// Be handed over to the new version.
    HandOver,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 6] = [
        Phase::Starting,
        Phase::Serving,
        Phase::HandingOver,
        Phase::Withdrawing,
        Phase::Draining,
        Phase::DrainingChild,
    ];

    /// The table, drawn again: one row per phase, one column per trigger.
    #[test]
    fn phases_move_as_drawn() {
        use Phase::*;
        let events = [
            Trigger::Listening,
            Trigger::UpgradeReady,
            Trigger::PutOff,
            Trigger::Forked,
            Trigger::Withdraw,
            Trigger::Shutdown,
        ];
        let leaves = [Some(Withdrawing), Some(Draining)];
        let table = [
            // Listening   UpgradeReady       PutOff         Forked               Withdraw   Shutdown
            [Some(Serving), None, None, None, None, None],
            [None, Some(HandingOver), None, None, leaves[0], leaves[1]],
            [None, None, Some(Serving), Some(DrainingChild), leaves[0], leaves[1]],
            [None, None, None, None, None, Some(Draining)],
            [None, None, None, None, None, None],
            [None, None, None, None, None, None],
        ];
        for (phase, row) in PHASES.into_iter().zip(table) {
            for (event, next) in events.into_iter().zip(row) {
                assert_eq!(phase.after(event), next, "{phase:?} after {event:?}");
            }
        }
    }

    #[test]
    fn connections_close_while_draining_and_are_handed_over_in_one_phase() {
        let wanted = PHASES.map(Phase::wanted);
        let (close, hand_over) = (Some(Wanted::Close), Some(Wanted::HandOver));
        assert_eq!(wanted, [None, None, hand_over, None, close, close]);
        assert_eq!(PHASES.map(Phase::is_final), [false, false, false, true, true, true]);
    }
}
