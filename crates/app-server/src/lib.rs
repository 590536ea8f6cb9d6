//! Serves any tower Service over FastCGI and HTTP from one process with one thread.
