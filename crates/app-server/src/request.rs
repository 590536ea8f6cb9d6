//! One request, whatever transport brought it: what an application may ask about it, its body, its place
//! among the others, the call of the application, and its response.
//!
//! No transport is known here.

pub(crate) mod application;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod context;
pub(crate) mod dispatch;
pub(crate) mod fairness;
pub(crate) mod panic_guard;
pub(crate) mod part;
pub(crate) mod patience;
pub(crate) mod permits;
pub(crate) mod respond;
pub(crate) mod response;
pub(crate) mod service;
mod spill;
