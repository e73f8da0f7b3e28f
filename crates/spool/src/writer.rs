//! The one thread that writes: it takes what is queued, commits it as one group, and tells.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use estafet_model::{Epoch, NodeId, RecordId, SeqRanges, UnixMillis};

use crate::append::{Append, Done, Outcome, Poisoned, TransferId};
use crate::disk::Disk;
use crate::log::Log;
use crate::options::{Fill, Usage};

/// A commit takes no more than this: it bounds how long the first in it waits for the last, and half a segment
/// keeps the sealing of segments rare beside it.
const COMMIT_BYTES_MAX: usize = 8 << 20;

/// Records that are taken back in one round: it bounds how long an append waits for it.
const RECALLED_AT_ONCE: usize = 512;

/// What the handles and the writer share.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    commands: VecDeque<Command>,
    closed: bool,
    poisoned: Option<Poisoned>,
    fill: Fill,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are appends")]
enum Command {
    Append(Append),
    Abort(TransferId),
    Release(Vec<RecordId>),
    ExpireHeld(UnixMillis),
    Recall(Recall),
}

/// Released records that are needed again.
#[derive(Debug)]
pub(crate) struct Recall {
    pub(crate) origin: NodeId,
    pub(crate) epoch: Epoch,
    pub(crate) seqs: SeqRanges,
}

/// What the writer does in one round: the batch first, so that an abort finds the chunks that were queued before it.
#[derive(Debug, Default)]
struct Round {
    batch: Vec<Append>,
    aborted: Vec<TransferId>,
    released: Vec<RecordId>,
    recalled: Vec<Recall>,
    expired: Option<UnixMillis>,
}

/// What the writer does next.
#[derive(Debug)]
enum Next {
    Round(Round),
    /// Nothing is queued.
    Tidy,
}

impl Queue {
    pub(crate) fn new(log: &Log) -> Self {
        let state = State { fill: log.fill(), poisoned: log.poisoned().cloned(), ..State::default() };
        Self { state: Mutex::new(state), filled: Condvar::new() }
    }

    pub(crate) fn append(&self, batch: Vec<Append>) -> Result<(), Poisoned> {
        let mut state = self.state();
        if let Some(poisoned) = &state.poisoned {
            return Err(poisoned.clone());
        }
        state.commands.extend(batch.into_iter().map(Command::Append));
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    pub(crate) fn abort(&self, transfer: TransferId) {
        self.command(Command::Abort(transfer));
    }

    pub(crate) fn release(&self, ids: Vec<RecordId>) {
        self.command(Command::Release(ids));
    }

    pub(crate) fn expire_held(&self, before: UnixMillis) {
        self.command(Command::ExpireHeld(before));
    }

    pub(crate) fn recall(&self, recall: Recall) {
        self.command(Command::Recall(recall));
    }

    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_one();
    }

    pub(crate) fn usage(&self, disk: &dyn Disk) -> Usage {
        let fill = self.state().fill.clone();
        fill.usage(disk)
    }

    fn command(&self, command: Command) {
        let mut state = self.state();
        // A poisoned spool gives nothing back.
        if state.poisoned.is_none() {
            state.commands.push_back(command);
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Waits for something to do, or does not if there is something to tidy. Nothing if there never will be.
    fn next_round(&self, tidying: bool) -> Option<Next> {
        if tidying {
            let state = self.state();
            if state.commands.is_empty() && !state.closed {
                return Some(Next::Tidy);
            }
        }
        let idle = |state: &mut State| state.commands.is_empty() && !state.closed;
        let mut state = self.filled.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner);
        if state.commands.is_empty() {
            return None;
        }
        let mut round = Round::default();
        let mut bytes = 0;
        while bytes < COMMIT_BYTES_MAX {
            match state.commands.pop_front() {
                None => break,
                Some(Command::Append(append)) => {
                    bytes += append.bytes();
                    round.batch.push(append);
                }
                Some(Command::Abort(transfer)) => round.aborted.push(transfer),
                Some(Command::Release(ids)) => round.released.extend(ids),
                Some(Command::ExpireHeld(before)) => round.expired = Some(before),
                Some(Command::Recall(recall)) => round.recalled.push(recall),
            }
        }
        Some(Next::Round(round))
    }

    /// From now on nothing is taken. Returns what was queued and will not be stored.
    fn poison(&self, poisoned: &Poisoned) -> Vec<Outcome> {
        let mut state = self.state();
        state.poisoned = Some(poisoned.clone());
        state.fill.poisoned = Some(poisoned.clone());
        let commands = std::mem::take(&mut state.commands);
        drop(state);
        let failed = |command| match command {
            Command::Append(append) => Some(Err(append.failed(poisoned))),
            Command::Abort(_) | Command::Release(_) | Command::ExpireHeld(_) | Command::Recall(_) => None,
        };
        commands.into_iter().filter_map(failed).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes until the queue is closed and empty, or the log is poisoned.
pub(crate) fn run(mut log: Log, queue: &Queue, on_done: &mut (dyn FnMut(Vec<Outcome>) + Send)) {
    let guard = PoisonOnPanic { queue };
    let mut tidying = true;
    while log.poisoned().is_none()
        && let Some(next) = queue.next_round(tidying)
    {
        let Next::Round(Round { batch, aborted, released, recalled, expired }) = next else {
            tidying = log.tidy();
            publish(&log, queue);
            continue;
        };
        tidying = true;
        let mut outcomes = log.commit(batch);
        aborted.into_iter().for_each(|transfer| log.abort(transfer));
        if !released.is_empty() {
            log.release(&released);
        }
        for Recall { origin, epoch, seqs } in recalled {
            let (records, seqs) = log.recall(&origin, epoch, &seqs, RECALLED_AT_ONCE);
            outcomes.extend(records.into_iter().map(|record| Ok(Done::Recalled(record))));
            if !seqs.is_empty() {
                queue.recall(Recall { origin, epoch, seqs });
            }
        }
        if let Some(before) = expired {
            log.expire_held(before);
        }
        publish(&log, queue);
        tell(outcomes, on_done);
    }
    if let Some(poisoned) = log.poisoned() {
        tell(queue.poison(poisoned), on_done);
    }
    std::mem::forget(guard);
    log.close();
}

/// The figures are public before the outcomes are told, so that whoever is told something sees it in them.
fn publish(log: &Log, queue: &Queue) {
    let fill = log.fill();
    queue.state().fill = fill;
}

fn tell(outcomes: Vec<Outcome>, on_done: &mut (dyn FnMut(Vec<Outcome>) + Send)) {
    if !outcomes.is_empty() {
        on_done(outcomes);
    }
}

/// If the writer panics, nobody must wait for it.
struct PoisonOnPanic<'a> {
    queue: &'a Queue,
}

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        tracing::error!("the spool's writer stopped by a fault in the program");
        self.queue.poison(&Poisoned("go on: its writer stopped by a fault in the program".into()));
    }
}
