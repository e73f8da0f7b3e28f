//! The one thread that writes: it takes what is queued, commits it as one group, and tells.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::append::{Append, Outcome, Poisoned};
use crate::disk::Disk;
use crate::log::Log;
use crate::options::{Fill, Usage};
use crate::round::{Command, Round};

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

    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_one();
    }

    pub(crate) fn usage(&self, disk: &dyn Disk) -> Usage {
        let fill = self.state().fill.clone();
        fill.usage(disk)
    }

    pub(crate) fn command(&self, command: Command) {
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
        Round::take(&mut state.commands).map(Next::Round)
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
        let Next::Round(round) = next else {
            tidying = log.tidy();
            publish(&log, queue);
            continue;
        };
        tidying = true;
        let (outcomes, rest) = log.carry_out(round, RECALLED_AT_ONCE);
        rest.into_iter().for_each(|recall| queue.command(Command::Recall(recall)));
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
