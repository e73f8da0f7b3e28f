//! Who knows the callers, and hears of those who are refused.

use std::net::SocketAddr;

use estafet_model::PublicKey;

use crate::caller::Caller;

/// What a server has to be told of its callers, and whom it tells of those it refuses.
///
/// A function from keys to callers is one that hears nothing.
pub trait Doorkeeper: Send + Sync + 'static {
    /// Who a key belongs to by the topology in force ([`Caller::by_key`]). It is asked at each handshake, where a stranger
    /// is refused, and again for each request, so that a revoked key gets nothing more over a connection that it still has.
    fn caller(&self, key: &PublicKey) -> Option<Caller>;

    /// Somebody was refused. Must not wait.
    fn refused(&self, refusal: Refusal) {
        drop(refusal);
    }
}

impl<F> Doorkeeper for F
where
    F: Fn(&PublicKey) -> Option<Caller> + Send + Sync + 'static,
{
    fn caller(&self, key: &PublicKey) -> Option<Caller> {
        self(key)
    }
}

/// Somebody got nothing.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Who.
    pub who: Refused,
    /// Why, for programs.
    pub why: WhyRefused,
    /// What they wanted; nothing if they did not get as far as to say it. Their own words.
    pub method: Option<String>,
    /// Why, for people.
    pub text: String,
}

/// Whom a server refuses.
#[derive(Debug, Clone)]
pub enum Refused {
    /// Somebody whom the topology does not name, or no longer.
    Stranger {
        /// From where.
        address: SocketAddr,
        /// The key that they hold.
        key: PublicKey,
    },
    /// Somebody who may do less than this, or not as much of it.
    Caller(Caller),
}

/// Why a server refuses somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyRefused {
    /// The topology in force does not name their key.
    UnknownKey,
    /// Their role may not do that, or nobody's may.
    Role,
    /// They ask more often than they may, or too much at once.
    TooMany,
}
