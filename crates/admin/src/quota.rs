//! How much one caller may ask, so that a program gone wild leaves the node to the others.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::caller::Proof;

/// How many seconds' worth of calls may come at once: a command asks several things of a node together.
const BURST_SECONDS: u32 = 2;

/// How much one caller may ask of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many calls they may make each second, over all of their connections; twice as many may come at once.
    pub calls_per_second: NonZeroU32,
    /// How many of their calls may run at once, streams such as `Tail` among them.
    pub calls_at_once: usize,
}

impl Default for Limits {
    /// Far more than a person or a map in a browser makes, and little enough that it costs a node nothing.
    fn default() -> Self {
        Self { calls_per_second: NonZeroU32::new(50).expect("it is not zero"), calls_at_once: 32 }
    }
}

/// What each caller has left. Only callers whom the topology names get this far, so it does not grow.
pub(crate) struct Quotas {
    limits: Limits,
    calls: DefaultKeyedRateLimiter<Proof>,
    running: Arc<Mutex<HashMap<Proof, usize>>>,
}

/// Why a call has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooMany {
    #[error("{0} calls a second are allowed; try again in {1:?}")]
    Calls(NonZeroU32, Duration),
    #[error("{0} calls at once are allowed; let one end first")]
    AtOnce(usize),
}

/// A call that runs, until it is dropped.
pub(crate) struct Running {
    running: Arc<Mutex<HashMap<Proof, usize>>>,
    caller: Proof,
}

impl Quotas {
    pub(crate) fn new(limits: Limits) -> Self {
        let burst = limits.calls_per_second.saturating_mul(NonZeroU32::new(BURST_SECONDS).expect("it is not zero"));
        let quota = Quota::per_second(limits.calls_per_second).allow_burst(burst);
        Self { limits, calls: RateLimiter::keyed(quota), running: Arc::default() }
    }

    /// Begins a call, if the caller has one left.
    pub(crate) fn begin(&self, caller: Proof) -> Result<Running, TooMany> {
        self.calls.check_key(&caller).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            TooMany::Calls(self.limits.calls_per_second, Duration::from_millis(whole_millis(wait)))
        })?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(caller).or_default();
        if *count >= self.limits.calls_at_once {
            return Err(TooMany::AtOnce(self.limits.calls_at_once));
        }
        *count += 1;
        Ok(Running { running: Arc::clone(&self.running), caller })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.caller);
            }
        }
    }
}

/// Rounded up, for people.
fn whole_millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_calls_of_their_own() {
        let quotas = Quotas::new(Limits { calls_per_second: NonZeroU32::new(5).unwrap(), calls_at_once: 100 });
        let calls = |caller| (0..20).filter(|_| quotas.begin(caller).is_ok()).count();
        assert_eq!(calls(Proof::Local(Some(0))), 10);
        assert_eq!(calls(Proof::Local(Some(1))), 10);
        assert!(matches!(quotas.begin(Proof::Local(Some(0))), Err(TooMany::Calls(..))));
    }

    #[test]
    fn a_call_counts_until_it_has_ended() {
        let quotas = Quotas::new(Limits { calls_per_second: NonZeroU32::new(100).unwrap(), calls_at_once: 2 });
        let caller = Proof::Local(None);
        let (first, _second) = (quotas.begin(caller).unwrap(), quotas.begin(caller).unwrap());
        assert_eq!(quotas.begin(caller).err(), Some(TooMany::AtOnce(2)));
        assert!(quotas.begin(Proof::Local(Some(1))).is_ok());
        drop(first);
        assert!(quotas.begin(caller).is_ok());
        drop(_second);
        assert!(quotas.running.lock().unwrap().is_empty());
    }
}
