//! Who may begin a handshake. One costs this node about a millisecond of signatures, and whoever asks for it nothing,
//! so each address has few at a time and in a while: the others still get in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::allowance::{Credit, Terms};

/// Handshakes of one address. Behind one there may be a whole city (a router that translates), whose relays all come at
/// once when the power returns; who hammers has two percent of a core.
const PER_ADDRESS: Terms = Terms { per_second: 16, at_once: 128 };

/// Handshakes of one address that are not done: half of all there may be.
pub(crate) const OPEN_PER_ADDRESS: u32 = 16;

/// Addresses that are remembered. Beyond, all others share what one may have.
const ADDRESSES_MAX: usize = 1_024;

/// What is known of the addresses that handshakes come from.
#[derive(Debug, Default)]
pub(crate) struct Doorstep(Mutex<BTreeMap<IpAddr, Caller>>);

#[derive(Debug)]
struct Caller {
    credit: Credit,
    open: u32,
}

/// A handshake under way.
#[derive(Debug)]
pub(crate) struct Visit {
    doorstep: Arc<Doorstep>,
    address: IpAddr,
}

impl Doorstep {
    /// A handshake may begin, or not.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Visit> {
        let mut callers = self.lock();
        let mut address = site(address);
        if callers.len() >= ADDRESSES_MAX && !callers.contains_key(&address) {
            callers.retain(|_, caller| caller.open > 0 || !caller.credit.is_whole(now));
            if callers.len() >= ADDRESSES_MAX {
                address = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        let caller =
            callers.entry(address).or_insert_with(|| Caller { credit: Credit::new(PER_ADDRESS, now), open: 0 });
        // What is refused is not counted, or who hammers would never get in again.
        if caller.open >= OPEN_PER_ADDRESS || !caller.credit.spend(0, now).is_zero() {
            return None;
        }
        caller.credit.spend(1, now);
        caller.open += 1;
        Some(Visit { doorstep: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Caller>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(caller) = self.doorstep.lock().get_mut(&self.address) {
            caller.open -= 1;
        }
    }
}

/// Who has one address of IPv6 has all of its network.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u16) -> IpAddr {
        let [high, low] = last.to_be_bytes();
        IpAddr::from([10, 0, high, low])
    }

    #[test]
    fn who_hammers_gets_in_at_the_pace_and_keeps_nobody_else_out() {
        let (doorstep, began) = (Arc::new(Doorstep::default()), Instant::now());
        let entered = |from: u64, to: u64, caller| {
            let at = |ms| began + Duration::from_millis(ms);
            (from..to).filter(|ms| doorstep.enter(address(caller), at(*ms)).is_some()).count() as u64
        };
        let (first, later) = (entered(0, 1_000, 1), entered(1_000, 11_000, 1));
        assert!(first <= PER_ADDRESS.at_once + PER_ADDRESS.per_second + 1, "{first}");
        assert!(later.abs_diff(10 * PER_ADDRESS.per_second) <= 2, "{later}");
        assert_eq!(entered(11_000, 11_010, 2), 10);
    }

    #[test]
    fn who_finishes_no_handshake_has_half_of_them_at_most() {
        let (doorstep, now) = (Arc::new(Doorstep::default()), Instant::now());
        let mut open: Vec<Visit> = (0..100).filter_map(|_| doorstep.enter(address(1), now)).collect();
        assert_eq!(open.len(), OPEN_PER_ADDRESS as usize);
        assert!(doorstep.enter(address(2), now).is_some());
        open.pop();
        assert!(doorstep.enter(address(1), now).is_some());
    }

    #[test]
    fn what_is_remembered_of_addresses_is_bounded() {
        let (doorstep, now) = (Arc::new(Doorstep::default()), Instant::now());
        let calls = (0..20_000).filter(|caller| doorstep.enter(address(*caller), now).is_some()).count();
        assert_eq!(calls as u64, ADDRESSES_MAX as u64 + PER_ADDRESS.at_once + 1);
        assert!(doorstep.lock().len() <= ADDRESSES_MAX + 1);
        let later = now + Duration::from_secs(60);
        assert!(doorstep.enter(address(20_000), later).is_some());
        assert_eq!(doorstep.lock().len(), 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let at = |text: &str| site(text.parse().unwrap());
        assert_eq!(at("2001:db8:1:2::7"), at("2001:db8:1:2:ffff::1"));
        assert_ne!(at("2001:db8:1:2::7"), at("2001:db8:1:3::7"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    }
}
