//! `routing.yaml`: raw YAML → checked [`model::Config`] → diff, watch and in-place edit (layer L1).

pub mod model;

pub use model::{Config, GroupId, StoreId};
