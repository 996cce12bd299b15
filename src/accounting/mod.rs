//! Books that lose nothing: see `recorder` for the request path, `ledger` and `writer` for the actors.

pub mod recorder;
