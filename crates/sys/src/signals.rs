//! Signals: what the process does with them, which are blocked, and the handler that only counts.

mod action;
mod mask;
mod slot;

pub use action::{
    Action, PreviousAction, action, catch, default_action, default_all_actions, ignore,
    restore_action,
};
pub(crate) use action::{set_action_blocking_all, set_info_action_blocking_all};
pub(crate) use mask::FAULTS;
pub use mask::{AllBlocked, Held, hold_for_exec, hold_for_exec_only, release_held};
pub use slot::{SignalSlot, forget_all_slots};
