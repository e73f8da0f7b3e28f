//! What is done to a log at once: a group of appends, and what else was queued beside them.

use std::collections::{BTreeSet, VecDeque};

use estafet_model::{Epoch, NodeId, RecordId, SeqRanges, UnixMillis};

use crate::append::{Append, Done, Outcome, TransferId};
use crate::log::Log;

/// A round takes no more than this: it bounds how long the first in it waits for the last, and half a segment keeps
/// the sealing of segments rare beside it.
const ROUND_BYTES_MAX: usize = 8 << 20;

/// One thing to do to a log. The methods of [`Spool`](crate::Spool) with these names say what each is.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are appends")]
pub enum Command {
    /// To be stored.
    Append(Append),
    /// Its chunks will not become a record.
    Abort(TransferId),
    /// Not needed any more.
    Release(Vec<RecordId>),
    /// Own captures stored before this are not held any longer.
    ExpireHeld(UnixMillis),
    /// Needed again.
    Recall(Recall),
}

impl Command {
    /// About how many bytes it brings to the log.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Command::Append(append) => append.bytes(),
            Command::Abort(_) | Command::Release(_) | Command::ExpireHeld(_) | Command::Recall(_) => 0,
        }
    }
}

/// Released records that are needed again.
#[derive(Debug)]
pub struct Recall {
    /// Whose they are.
    pub origin: NodeId,
    /// In which life of its spool it captured them.
    pub epoch: Epoch,
    /// Their numbers.
    pub seqs: SeqRanges,
}

/// Commands that are carried out together: the appends first, with one sync, so that an abort finds the chunks that
/// were queued before it.
#[derive(Debug, Default)]
pub struct Round {
    batch: Vec<Append>,
    aborted: Vec<TransferId>,
    released: BTreeSet<RecordId>,
    recalled: Vec<Recall>,
    expired: Option<UnixMillis>,
    bytes: usize,
}

impl Round {
    /// Takes from the front of a queue what may be carried out together. Nothing if nothing waits.
    ///
    /// A record that is released and then stored again begins another round: here it would go with its former copy.
    pub fn take(queue: &mut VecDeque<Command>) -> Option<Self> {
        let mut round = Self::default();
        let taken = queue.len();
        while round.bytes < ROUND_BYTES_MAX
            && let Some(command) = queue.pop_front_if(|next| !round.releases(next))
        {
            round.bytes += command.bytes();
            match command {
                Command::Append(append) => round.batch.push(append),
                Command::Abort(transfer) => round.aborted.push(transfer),
                Command::Release(ids) => round.released.extend(ids),
                Command::ExpireHeld(before) => round.expired = Some(before),
                Command::Recall(recall) => round.recalled.push(recall),
            }
        }
        (queue.len() < taken).then_some(round)
    }

    /// The sum of [`Command::bytes`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn releases(&self, next: &Command) -> bool {
        matches!(next, Command::Append(Append::Record(record))
            if !self.released.is_empty() && self.released.contains(&record.header.header().id))
    }
}

impl Log {
    /// Carries out a round, and says how each append fared. Of what is recalled, no more than so many records at once:
    /// the rest is returned, to be queued again.
    pub fn carry_out(&mut self, round: Round, recalled_at_once: usize) -> (Vec<Outcome>, Vec<Recall>) {
        let Round { batch, aborted, released, recalled, expired, bytes: _ } = round;
        let mut outcomes = self.commit(batch);
        aborted.into_iter().for_each(|transfer| self.abort(transfer));
        if !released.is_empty() {
            self.release(&released);
        }
        let mut rest = Vec::new();
        for Recall { origin, epoch, seqs } in recalled {
            let (records, seqs) = self.recall(&origin, epoch, &seqs, recalled_at_once);
            outcomes.extend(records.into_iter().map(|record| Ok(Done::Recalled(record))));
            if !seqs.is_empty() {
                rest.push(Recall { origin, epoch, seqs });
            }
        }
        if let Some(before) = expired {
            self.expire_held(before);
        }
        (outcomes, rest)
    }
}
