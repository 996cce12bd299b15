//! What operators edit: `settings/*.toml`, the environment and flags, merged and validated into [`Settings`].

pub mod model;

pub use model::Settings;
