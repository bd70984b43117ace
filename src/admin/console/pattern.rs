//! REGEXP and RLIKE: the `regex` crate's syntax, which is POSIX' and most of ICU's, without look-around and back references; so no
//! pattern takes long. Letters of both cases are the same, as in the collation that everything here has.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::{Regex, RegexBuilder};

use super::expression::Refusal;

/// What a compiled pattern may take, bytes.
const LARGEST: usize = 1 << 20;
/// Patterns that are kept: of a column that holds patterns each row has another one.
const KEPT: usize = 16;

/// The patterns of one statement: each is compiled once, not with each row.
#[derive(Default)]
pub(super) struct Patterns(RefCell<HashMap<String, Regex>>);

impl Patterns {
    /// Whether something in `text` fits.
    ///
    /// # Errors
    /// 1139 where the pattern is none.
    pub(super) fn fits(&self, text: &str, pattern: &str) -> Result<bool, Refusal> {
        let mut known = self.0.borrow_mut();
        if let Some(regex) = known.get(pattern) {
            return Ok(regex.is_match(text));
        }
        let regex = RegexBuilder::new(pattern).case_insensitive(true).size_limit(LARGEST).build().map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Refusal::new(1139, format!("Got error '{why}' from regexp"))
        })?;
        let fits = regex.is_match(text);
        if known.len() == KEPT {
            known.clear();
        }
        known.insert(pattern.to_owned(), regex);
        Ok(fits)
    }
}
