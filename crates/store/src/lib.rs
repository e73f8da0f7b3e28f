//! What a node keeps, as entries of the spool and back.
//!
//! The node says what to store in its own words, the spool takes [`Append`](estafet_spool::Append)s and answers with
//! [`Outcome`](estafet_spool::Outcome)s. What stands between them is here and nowhere else, so that the daemon and the
//! simulator keep the same bytes under the same keys. It does no IO: the wall clock and randomness come in as values.
//!
//! Read first: [`Identity`] (what a start reads and writes before anything else), [`record_append`] and [`Settled`].

mod entries;
mod identity;
mod settled;

pub use entries::{
    begin_append, chunk_append, held_record, losses, losses_append, lost_record, receipt_append, receipts,
    record_append, recovered_transfer, stored_record, transfer_id,
};
pub use identity::{Identity, chain_append, chain_id, conflicts_append, epoch_appends, owner, owner_append};
pub use settled::{Settled, SettledChunk};
