//! Logins at the operators' surfaces: comparisons that take the same time whatever differs, and a delay for whoever keeps guessing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::time::Instant;

/// Failures within a minute that cost nothing.
const FREE: u32 = 5;
/// What each further one costs more than the one before.
const STEP: Duration = Duration::from_millis(200);
/// The most that one costs.
const MOST: Duration = Duration::from_secs(3);
/// How long failures are remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Addresses that are remembered: the oldest go.
const ADDRESSES: usize = 1_024;

/// Whether two secrets are the same; it takes as long whatever differs but their lengths.
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Failed logins by address.
#[derive(Debug, Default)]
pub struct Logins(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl Logins {
    /// A login has ended: a failed one waits before its answer, longer with each.
    pub async fn ended(&self, from: IpAddr, good: bool) {
        let wait = self.count(from, good, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn count(&self, from: IpAddr, good: bool, now: Instant) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if good {
            failures.remove(&from);
            return Duration::ZERO;
        }
        failures.retain(|_, (_, at)| now.duration_since(*at) < REMEMBERED);
        if failures.len() >= ADDRESSES
            && let Some(oldest) = failures.iter().min_by_key(|(_, (_, at))| *at).map(|(ip, _)| *ip)
        {
            failures.remove(&oldest);
        }
        let (count, at) = failures.entry(from).or_insert((0, now));
        *count += 1;
        *at = now;
        (STEP * count.saturating_sub(FREE)).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_guessing_waits() {
        let (logins, now) = (Logins::default(), Instant::now());
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let waits: Vec<u128> = (0..30).map(|_| logins.count(ip, false, now).as_millis()).collect();
        assert_eq!((waits[4], waits[5], waits[6], waits[29]), (0, 200, 400, 3_000));
        assert_eq!(logins.count("10.0.0.2".parse().unwrap(), false, now), Duration::ZERO);
        let later = now + Duration::from_secs(61);
        assert_eq!(logins.count(ip, false, later), Duration::ZERO);
        logins.count(ip, true, later);
        for n in 0..3_000u32 {
            logins.count(IpAddr::from(n.to_be_bytes()), false, later);
        }
        assert!(logins.0.lock().unwrap().len() <= ADDRESSES);
        assert!(same(b"abc", b"abc") && !same(b"abc", b"abd") && !same(b"abc", b"ab"));
    }
}
