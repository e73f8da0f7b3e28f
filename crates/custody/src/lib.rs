//! Custody: who has the duty to keep a record, and how that duty moves hop by hop until a receipt ends it.
//!
//! [`Custody`] is one node's part of it, a state machine without IO. It is told what came in (`offers`, `piece`,
//! `stored`, `receipts` …) together with the time, and asked what to do ([`Custody::poll_output`]) and when it wants
//! to be woken ([`Custody::poll_timeout`]). After any call, poll outputs until there are none, then the timeout.
//!
//! Three machines share the work and do not reach into each other:
//! - `outbound`: the records this node holds (`held`), the queue of those that wait, and what each neighbor has been
//!   handed (`lane`) or asked about (`questions`).
//! - `inbound`: what neighbors offer and send (`bodies`), until it is durable here.
//! - `receipts`: which records are known to be committed at a hub, and who has been told.
//!
//! It does not know routing: next hops are handed to it. It does not know the spool: it says what to store, and
//! hears of it again as [`Durable`](estafet_model::Durable). An acceptance or a receipt is built from that proof and
//! from nothing else (P1).
//!
//! Read first: [`Custody`] and [`RecordState`].

mod asking;
mod bodies;
mod custodians;
mod custody;
mod damaged;
mod fair;
mod held;
mod inbound;
mod lane;
mod losses;
mod outbound;
mod output;
mod questions;
mod ready;
mod receipts;
mod record;
mod signatures;
#[cfg(test)]
mod tests;
mod ways;
mod window;

pub use custodians::Suspect;
pub use custody::{Custody, CustodyConfig, Recovered};
pub use inbound::{Piece, RecoveredTransfer};
pub use losses::Losses;
pub use outbound::{HeldRecords, RECEIPT_PATIENCE};
pub use output::{CustodyEvent, CustodyOutput, StorePayload, StoreRecord, TransferId};
pub use record::{HeldRecord, RecordState, RecordView, WaitReason};
