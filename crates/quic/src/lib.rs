//! Sessions between neighbors: one QUIC connection for each bearer, mutually authenticated by pinned keys.
//!
//! [`Transport::start`] listens, dials every neighbor over every bearer and keeps dialing. What happens comes out as [`SessionEvent`]s;
//! a [`Session`] takes control frames and records to carry. A session has one control stream in both directions and,
//! for each class of record, one stream of payload in each direction, so that control never waits behind payload and
//! an urgent record never behind a bulk one. Padding, by which it is found out what a link carries, goes behind them all.
//!
//! Neighbors are not trusted with this node's time: what each may send without use is bounded (`allowance`), who breaks the
//! protocol is kept out for a while (`exclusion`), and who is let in at all has to knock at a bearable pace (`doorstep`).
//!
//! This crate moves bytes. It decides nothing about routes or custody, and reads payload only through
//! [`PayloadSource`].

mod acknowledged;
mod allowance;
mod dial;
mod doorstep;
mod exclusion;
mod pieces;
mod registry;
mod session;
mod streams;
mod transport;
mod trial;
mod turns;

pub use exclusion::Offense;
pub use pieces::{ReceivedPiece, ReceivedPieces};
pub use session::{Carry, Figures, PayloadSource, ReadRecord, Session, SessionGone, SessionId, Unreadable};
pub use transport::{
    Counts, DownReason, LAST_WORDS, Neighbor, Neighborhood, RefusedSession, SessionEvent, SessionEvents, Transport,
    TransportConfig, TransportError,
};
pub use turns::PieceReceiver;
