//! The one integration-test binary, by theme.

mod keys;
mod ledger;
