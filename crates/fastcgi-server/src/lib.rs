//! FastCGI 1.0, both sides, as sans-IO state machines: bytes in, events out; answers in, bytes out.
