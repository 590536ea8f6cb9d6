//! An event loop and futures executor for one thread, without starting another.
