//! Moving the data, and proof of it (layer L3; DESIGN.md section 5): shadow reads.

pub mod shadow;
