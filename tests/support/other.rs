//! A server that is no MariaDB, to be the new store of a pair.

/// What tests do with one.
pub trait Other {
    /// On 127.0.0.1.
    fn port(&self) -> u16;

    /// Runs one statement as root; its rows as text, a line each.
    fn sql(&self, text: &str) -> Vec<Vec<String>>;

    /// `kill -9`.
    fn kill(&mut self);

    /// Starts it again, after a kill, with what it has kept.
    fn restart(&mut self);
}
