//! Which session over a bearer counts, when two neighbors dial each other at once or one of them has restarted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use estafet_model::{Bearer, NodeId};
use quinn::Connection;
use tokio::sync::watch;

use crate::session::SessionId;
use crate::transport::close_code;

/// What decides between two sessions over the same bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The neighbor's boot number.
    pub(crate) boot: u64,
    /// Who dialed.
    pub(crate) dialer: NodeId,
}

#[derive(Debug)]
struct Active {
    session: SessionId,
    claim: Claim,
    connection: Connection,
}

/// The one session over each bearer.
#[derive(Debug)]
pub(crate) struct Registry {
    active: Mutex<BTreeMap<Bearer, Active>>,
    changes: watch::Sender<u64>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { active: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Registry {
    /// Makes this the session over `bearer`, unless the present one is to stay.
    pub(crate) fn claim(
        &self,
        me: &NodeId,
        bearer: &Bearer,
        session: SessionId,
        claim: Claim,
        connection: &Connection,
    ) -> bool {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = active.get(bearer) {
            let alive = present.connection.close_reason().is_none();
            if alive && !replaces(&claim, &present.claim, me.min(&bearer.neighbor)) {
                return false;
            }
            present.connection.close(close_code::DUPLICATE, b"replaced by a newer session");
        }
        // Over its other bearers, a neighbor that has restarted does not know its old sessions either.
        let of_earlier_life = |other: &Bearer, session: &Active| {
            other.neighbor == bearer.neighbor && other != bearer && session.claim.boot != claim.boot
        };
        for (_, earlier) in active.extract_if(.., |other, session| of_earlier_life(other, session)) {
            earlier.connection.close(close_code::DUPLICATE, b"of an earlier life");
        }
        active.insert(bearer.clone(), Active { session, claim, connection: connection.clone() });
        drop(active);
        self.changes.send_modify(|count| *count += 1);
        true
    }

    /// True if there is a live session over `bearer`.
    pub(crate) fn is_together(&self, bearer: &Bearer) -> bool {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.get(bearer).is_some_and(|present| present.connection.close_reason().is_none())
    }

    /// Ends the sessions over all bearers but those that stay.
    pub(crate) fn retain(&self, stays: impl Fn(&Bearer, &Connection) -> bool) {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, gone) in active.iter().filter(|(bearer, active)| !stays(bearer, &active.connection)) {
            gone.connection.close(close_code::REMOVED, b"not a neighbor any more");
        }
    }

    /// The session is gone.
    pub(crate) fn end(&self, bearer: &Bearer, session: SessionId) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if active.get(bearer).is_some_and(|present| present.session == session) {
            active.remove(bearer);
        }
        drop(active);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Waits until there is no session over `bearer`.
    pub(crate) async fn wait_until_apart(&self, bearer: &Bearer) {
        let mut changes = self.changes.subscribe();
        let together = || self.active.lock().unwrap_or_else(PoisonError::into_inner).contains_key(bearer);
        let _sender_lives_as_long_as_self = changes.wait_for(|_| !together()).await;
    }
}

/// True if a new session takes the place of the present one. Both ends decide alike:
/// a neighbor that has restarted cannot use the old one; of two that dialed at once the lesser node id wins; and who
/// dials again has lost the session that it dialed before.
fn replaces(new: &Claim, present: &Claim, lesser: &NodeId) -> bool {
    new.boot != present.boot || new.dialer == present.dialer || new.dialer == *lesser
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_keep_the_same_session() {
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let claim = |boot, dialer: &NodeId| Claim { boot, dialer: dialer.clone() };
        let rows = [
            ("the lesser id's dial wins over the greater's", claim(1, &a), claim(1, &b), true),
            ("and is not displaced by it", claim(1, &b), claim(1, &a), false),
            ("who dials again lost the first", claim(1, &b), claim(1, &b), true),
            ("a restarted neighbor wins", claim(2, &b), claim(1, &a), true),
        ];
        for (what, new, present, expected) in rows {
            assert_eq!(replaces(&new, &present, &a), expected, "{what}");
        }
    }
}
