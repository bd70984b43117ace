//! `routing.yaml`: raw YAML → checked [`model::Config`] → diff, watch and in-place edit (layer L1).
//!
//! [`mod@load`] reads the text ([`load::parse`]): `raw` makes a tree that knows its byte ranges, `reader` and `check` turn it into
//! the types of [`model`] and collect every [`Problem`] on the way.

mod address;
mod check;
pub mod diff;
pub mod edit;
mod interpolate;
pub mod load;
pub mod model;
pub mod problem;
mod raw;
mod reader;
mod secrecy;
pub mod show;
mod source;
mod units;
pub mod watch;

pub use load::{load, parse};
pub use model::{Config, GroupId, StoreId};
pub use problem::{Problem, ProblemKind};
