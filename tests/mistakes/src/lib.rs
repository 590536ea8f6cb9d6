//! Applications with a mistake each, none of which compiles: only with the feature `mistakes`.
//!
//! What the compiler has to say is at the top of each file: `error`, the first line; `label`, beside the code that is
//! wrong; `note`, one of those below. `main.rs` beside this folder is the test.

#![cfg(feature = "mistakes")]

mod async_without_result;
mod async_without_state;
mod main_with_arguments;
mod main_with_failing_service;
mod main_with_handler;
mod main_with_make_service;
mod main_with_router;
mod main_without_state;
mod parts;
mod result_without_state;
mod result_without_text;
mod serve_without_state;
mod server_with_failing_service;
mod server_with_handler;
mod server_with_make_service;
mod server_without_state;
mod store_without_argument;
mod store_without_state;
