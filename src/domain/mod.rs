//! Values that every floor of the house may use.
//!
//! What lives here has no I/O, knows no actor and no wire format, and decides nothing but its own arithmetic.

pub mod class;
pub mod clock;
pub mod demand;
pub mod ids;
pub mod money;
pub mod outbound;
pub mod outcome;
pub mod period;
pub mod regions;
pub mod scope;
pub mod secret;
pub mod sku;
pub mod time;
pub mod usage;
pub mod witness;
