//! Logs; imports nothing of the crate and may be imported by all of it.

mod logs;

pub use logs::{Levels, NoFilter, Pace, Said, init, without_values, without_values_of_stores};
