//! The audit log of this node: written by a thread of its own, each line synced before whoever waits for it hears so.
//!
//! A change that cannot be written down is not made. What came signed from a neighbor is taken all the same, for it may
//! shut out a thief, and so is what a node is told of its power, for that is said in an emergency; both are ERRORs in the
//! system's log then, and the audit log says that something is missing as soon as it can be written again.

mod command;
mod files;
mod folder;
mod refusals;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use estafet_admin::{Caller, Proof};
use estafet_audit_log::{Event, Head, Who};
use estafet_model::{NodeId, SigningKey};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

pub(crate) use self::command::{Operation, operate};
use self::files::{Bounds, LogFiles};
use self::refusals::Refusals;
use crate::store::wall_clock;

/// Orders that may wait for the disk. What is refused beyond that is counted, and not written; changes are refused.
const ORDERS_MAX: usize = 256;

/// How long the thread sleeps when nothing is to be written.
const IDLE: Duration = Duration::from_secs(3600);

/// Something was not written down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotLogged {
    #[error("the disk does not take it: {0}")]
    Disk(#[from] io::Error),
    #[error("an earlier write failed, and it is not tried again before the relay is started again")]
    Failed,
    #[error("too much waits to be written")]
    Busy,
    #[error("the relay is shutting down")]
    Closed,
}

enum Order {
    /// To be answered when it is durable.
    Write(Event, Option<oneshot::Sender<Result<(), NotLogged>>>),
    /// One of perhaps many.
    Refused(Event),
    /// The last order.
    Close(Event, oneshot::Sender<()>),
}

/// How the rest of the process writes to the log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AuditLog {
    orders: SyncSender<Order>,
    head: Arc<Mutex<Option<Head>>>,
    data: PathBuf,
}

impl AuditLog {
    /// Opens the log in the data folder, and repairs what a cut has left. If it cannot be written, the relay works without
    /// it, and refuses what has to be written down.
    pub(crate) fn open(data: &Path, me: &NodeId, key: &SigningKey, start: u64) -> Self {
        let head = Arc::<Mutex<Option<Head>>>::default();
        let (orders, received) = sync_channel(ORDERS_MAX);
        let log = Self { orders, head: Arc::clone(&head), data: data.to_owned() };
        let files = LogFiles::open(data, me, key, start, Bounds::default()).map_err(|error| {
            error!(%error, "the audit log cannot be written: nothing can be changed at this node until it can");
        });
        let writer = Writer { files: files.ok(), head, unlogged: 0 };
        writer.publish();
        std::thread::spawn(move || writer.run(&received));
        log
    }

    /// Writes a line, and waits until it is durable.
    pub(crate) async fn write(&self, event: Event) -> Result<(), NotLogged> {
        let (sender, answer) = oneshot::channel();
        self.order(Order::Write(event, Some(sender)))?;
        answer.await.map_err(|_| NotLogged::Closed)?
    }

    /// Writes a line that nobody waits for.
    pub(crate) fn note(&self, event: Event) {
        if let Err(error) = self.order(Order::Write(event, None)) {
            error!(%error, "a line of the audit log was not written");
        }
    }

    /// Somebody was refused. Many who are refused for the same share a line.
    pub(crate) fn refused(&self, event: Event) {
        if let Err(error) = self.order(Order::Refused(event)) {
            error!(%error, "a line of the audit log was not written");
        }
    }

    /// Writes all that waits and a last line.
    pub(crate) async fn close(&self, event: Event) {
        let (sender, closed) = oneshot::channel();
        if self.order(Order::Close(event, sender)).is_ok() {
            // It has ended either way.
            let _ = closed.await;
        }
    }

    /// The newest line.
    pub(crate) fn head(&self) -> Option<Head> {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends all lines from number `from` on, as they are now. Blocks for the disk, and for who reads.
    pub(crate) fn read(&self, from: u64, lines: &mpsc::Sender<Result<Bytes, io::Error>>) {
        let Some(head) = self.head() else { return };
        if let Err(error) = folder::read(&self.data, from, head, &mut |bytes| lines.blocking_send(Ok(bytes)).is_ok()) {
            // Nobody is left to tell if they have gone.
            let _ = lines.blocking_send(Err(error));
        }
    }

    fn order(&self, order: Order) -> Result<(), NotLogged> {
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => NotLogged::Busy,
            TrySendError::Disconnected(_) => NotLogged::Closed,
        })
    }
}

/// Who made a call, as the log names them.
pub(crate) fn who(caller: &Caller) -> Who {
    match caller.proof {
        Proof::Operator(key) => Who::Operator { name: caller.name.clone(), key: key.to_string() },
        Proof::Node(_) => Who::Node(caller.name.clone()),
        Proof::Local(user) => Who::LocalUser(user),
    }
}

/// The thread's own.
struct Writer {
    /// Nothing if the log could not be opened.
    files: Option<LogFiles>,
    head: Arc<Mutex<Option<Head>>>,
    /// How many lines could not be written since the last that could.
    unlogged: u64,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        let began = Instant::now();
        let mut refusals = Refusals::default();
        loop {
            let patience = refusals.next_due().map_or(IDLE, |due| due.saturating_sub(began.elapsed()));
            match orders.recv_timeout(patience) {
                Ok(Order::Write(event, answer)) => {
                    let written = self.write(event);
                    if let Some(answer) = answer {
                        // Whoever has asked may have hung up.
                        let _ = answer.send(written);
                    } else if let Err(error) = written {
                        error!(%error, "a line of the audit log was not written");
                    }
                }
                Ok(Order::Refused(event)) => {
                    let alone = refusals.heed(began.elapsed(), event);
                    self.write_all(alone);
                }
                Ok(Order::Close(event, closed)) => {
                    self.write_all(refusals.all());
                    self.write_all([event]);
                    let _ = closed.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let due = refusals.due(began.elapsed());
            self.write_all(due);
        }
    }

    fn write_all(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            if let Err(error) = self.write(event) {
                error!(%error, "a line of the audit log was not written");
            }
        }
    }

    fn write(&mut self, event: Event) -> Result<(), NotLogged> {
        let written = self.try_write(event);
        self.unlogged = if written.is_ok() { 0 } else { self.unlogged.saturating_add(1) };
        self.publish();
        written
    }

    fn try_write(&mut self, event: Event) -> Result<(), NotLogged> {
        let files = self.files.as_mut().ok_or(NotLogged::Failed)?;
        if self.unlogged > 0 {
            let missing = Event { times: Some(self.unlogged), ..Event::noted(Who::ThisNode, "lines-not-written") };
            files.append(missing, wall_clock())?;
            self.unlogged = 0;
        }
        files.append(event, wall_clock())
    }

    fn publish(&self) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = self.files.as_ref().and_then(LogFiles::head);
    }
}

#[cfg(test)]
mod tests {
    use estafet_audit_log::{Chain, Outcome};

    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_seed([3; 32])
    }

    fn open(data: &Path, start: u64) -> AuditLog {
        AuditLog::open(data, &"sail".parse().unwrap(), &key(), start)
    }

    fn entries(log: &AuditLog) -> Vec<estafet_audit_log::Entry> {
        let (sender, mut lines) = mpsc::channel(1_000);
        log.read(0, &sender);
        drop(sender);
        let mut chain = Chain::new("sail".parse().unwrap(), vec![key().public()]);
        let mut entries = Vec::new();
        while let Some(piece) = lines.blocking_recv() {
            for line in piece.unwrap().split_inclusive(|byte| *byte == b'\n') {
                entries.push(chain.take(line.strip_suffix(b"\n").unwrap()).unwrap());
            }
        }
        entries
    }

    #[test]
    fn a_change_is_durable_before_it_is_answered_and_refusals_share_lines() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let log = open(folder.path(), 1);
        runtime.block_on(async {
            log.write(Event::allowed(Who::LocalUser(Some(0)), "drain")).await.unwrap();
            assert_eq!(log.head().unwrap().sequence, 1);
            let stranger = Who::Stranger { address: "10.0.0.9".to_owned(), key: None };
            (0..50).for_each(|_| log.refused(Event::refused(stranger.clone(), "session", "unknown key")));
            log.close(Event::noted(Who::ThisNode, "stop")).await;
            assert!(matches!(log.write(Event::noted(Who::ThisNode, "late")).await, Err(NotLogged::Closed)));
        });
        let told: Vec<_> = entries(&log).into_iter().map(|entry| (entry.event.what, entry.event.times)).collect();
        let told: Vec<_> = told.iter().map(|(what, times)| (what.as_str(), *times)).collect();
        assert_eq!(told, [("drain", None), ("session", None), ("session", Some(49)), ("stop", None)]);
        let again = open(folder.path(), 2);
        assert_eq!(again.head(), log.head());
    }

    #[test]
    fn without_a_log_nothing_is_allowed_and_the_relay_lives() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("audit-log"), "no folder").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let log = open(folder.path(), 1);
        let refused = runtime.block_on(log.write(Event::allowed(Who::ThisNode, "drain")));
        assert!(matches!(refused, Err(NotLogged::Failed)), "{refused:?}");
        assert_eq!(log.head(), None);
    }

    #[test]
    fn what_fails_is_said_in_the_line_of_what_was_allowed() {
        let failed = Event::allowed(Who::LocalUser(None), "drain").about("words", "roof").failed("no disk");
        assert_eq!((failed.outcome, failed.why.as_deref()), (Outcome::Failed, Some("no disk")));
        assert_eq!(failed.about["words"], "roof");
    }
}
