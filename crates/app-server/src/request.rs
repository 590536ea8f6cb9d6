//! One request, independent of its transport: the context an application gets, its body, its permit, the
//! call of the application, and its response.
//!
//! No transport is known here.

pub(crate) mod application;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod context;
pub(crate) mod fairness;
pub(crate) mod panic_guard;
pub(crate) mod patience;
pub(crate) mod permits;
pub(crate) mod process_queue;
pub(crate) mod response;
pub(crate) mod service;
mod spill;
