//! The queue of payload pieces before the driver. Neighbors have turns in it: each has one place, a run of pieces that
//! its session has read, and the next few are taken from whoever has had the least. So a node that has more to do than it
//! can gives as much of itself to a neighbor with ten records as to one with a thousand, and who sends alone has all of
//! it. (Start-time fair queueing, Goyal, Vin and Cheng 1996: what a neighbor did not use it cannot ask for later.)

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec;

use estafet_model::Bearer;
use tokio::sync::{Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::pieces::{RUN_BYTES, ReceivedPiece, ReceivedPieces};
use crate::session::SessionId;

/// Runs that may wait: at most 8 MiB. Beyond that QUIC slows the senders.
const RUNS_MAX: usize = (8 << 20) / RUN_BYTES;

/// What a turn takes: sixteen small records, or eight whole chunks.
const TURN_BYTES: u64 = 192 << 10;

/// A piece costs about as much as so many bytes of it, and these.
const PIECE_BYTES: u64 = 8 << 10;

/// A neighbor's place in the queue. Who holds it may have one run waiting. Within is what the neighbor has had, in bytes,
/// on a scale that all share.
pub(crate) type Place = OwnedMutexGuard<u64>;

/// A queue whose two ends are given back: one for all sessions, one for the driver.
pub(crate) fn queue() -> (PieceSender, PieceReceiver) {
    let queue =
        Arc::new(Queue { waiting: Mutex::default(), arrived: Notify::new(), room: Arc::new(Semaphore::new(RUNS_MAX)) });
    (PieceSender(Arc::clone(&queue)), PieceReceiver(queue))
}

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    room: Arc<Semaphore>,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// By what the neighbor has had, then by age.
    runs: BTreeMap<(u64, u64), Run>,
    /// What the neighbor had whose turn was last. Who comes after a pause begins here.
    had: u64,
    turns: u64,
}

impl Waiting {
    fn put(&mut self, run: Run) {
        self.turns += 1;
        self.runs.insert((*run.place, self.turns), run);
    }
}

#[derive(Debug)]
struct Run {
    bearer: Bearer,
    session: SessionId,
    pieces: vec::IntoIter<ReceivedPiece>,
    place: Place,
    _room: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(crate) struct PieceSender(Arc<Queue>);

/// Nobody takes pieces any more.
#[derive(Debug)]
pub(crate) struct Closed;

impl PieceSender {
    /// Puts a run into the queue, as soon as there is room for it.
    pub(crate) async fn send(&self, run: ReceivedPieces, mut place: Place) -> Result<(), Closed> {
        let Ok(room) = Arc::clone(&self.0.room).acquire_owned().await else { return Err(Closed) };
        let ReceivedPieces { bearer, session, pieces } = run;
        let mut waiting = self.0.waiting();
        *place = waiting.had.max(*place);
        waiting.put(Run { bearer, session, pieces: pieces.into_iter(), place, _room: room });
        self.0.arrived.notify_one();
        Ok(())
    }
}

/// Where the driver takes pieces.
#[derive(Debug)]
pub struct PieceReceiver(Arc<Queue>);

impl PieceReceiver {
    /// The pieces of the next turn, as soon as there are any. Nothing is lost if this is dropped while it waits.
    pub async fn recv(&mut self) -> ReceivedPieces {
        loop {
            if let Some(pieces) = self.try_recv() {
                return pieces;
            }
            self.0.arrived.notified().await;
        }
    }

    /// The pieces of the next turn; nothing if none wait.
    pub fn try_recv(&mut self) -> Option<ReceivedPieces> {
        let mut waiting = self.0.waiting();
        let ((had, _), mut run) = waiting.runs.pop_first()?;
        waiting.had = had;
        let (mut pieces, mut taken) = (Vec::new(), 0);
        while taken < TURN_BYTES
            && let Some(piece) = run.pieces.next()
        {
            taken += PIECE_BYTES + piece.data.len() as u64;
            pieces.push(piece);
        }
        *run.place += taken;
        let (bearer, session) = (run.bearer.clone(), run.session);
        if run.pieces.len() > 0 {
            waiting.put(run);
        }
        Some(ReceivedPieces { bearer, session, pieces })
    }
}

impl Drop for PieceReceiver {
    fn drop(&mut self) {
        self.0.room.close();
        self.0.waiting().runs.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use estafet_model::{ChunkHash, Medium};
    use estafet_wire::PieceHead;
    use tokio::sync::Mutex as Turn;

    use super::*;

    fn pieces(neighbor: &str, count: usize, bytes: usize) -> ReceivedPieces {
        let data = Bytes::from(vec![7; bytes]);
        let id = "sail.1.1".parse().unwrap();
        let head = PieceHead { signed_header: None, id, index: 0, chunks: 1, chunk_hashes: Vec::new() };
        let piece = || ReceivedPiece { head: head.clone(), hash: ChunkHash::of(&data, 0, 1), data: data.clone() };
        let bearer = Bearer::new(neighbor.parse().unwrap(), Medium::Fiber);
        ReceivedPieces { bearer, session: SessionId::next(), pieces: (0..count).map(|_| piece()).collect() }
    }

    /// Each neighbor sends runs of so many pieces without end; what each had of so many turns.
    async fn shares(senders: &[(&'static str, usize, usize)], turns: usize) -> BTreeMap<String, usize> {
        let (sender, mut receiver) = queue();
        let sender = Arc::new(sender);
        for (neighbor, count, bytes) in senders.iter().copied() {
            let (sender, places) = (Arc::clone(&sender), Arc::new(Turn::default()));
            tokio::spawn(async move {
                loop {
                    let place = Arc::clone(&places).lock_owned().await;
                    if sender.send(pieces(neighbor, count, bytes), place).await.is_err() {
                        return;
                    }
                }
            });
        }
        tokio::task::yield_now().await;
        let mut had = BTreeMap::new();
        for _ in 0..turns {
            let turn = receiver.recv().await;
            *had.entry(turn.bearer.neighbor.to_string()).or_default() += turn.pieces.len();
            // The driver ends, and whoever waits for a place comes.
            for _ in 0..senders.len() {
                tokio::task::yield_now().await;
            }
        }
        had
    }

    #[tokio::test]
    async fn a_neighbor_with_much_has_no_more_than_one_with_little() {
        let had = shares(&[("flood", 60, 4_096), ("a", 20, 4_096), ("b", 1, 4_096)], 1_000).await;
        assert!(had["flood"] > 800 && had.values().all(|each| each.abs_diff(had["flood"]) <= 32), "{had:?}");
        let had = shares(&[("large", 16, 16_384), ("small", 60, 4_096)], 200).await;
        assert!(had["small"].abs_diff(2 * had["large"]) <= 32, "a whole chunk counts for two small records: {had:?}");
    }

    #[tokio::test]
    async fn who_sends_alone_waits_for_nobody() {
        assert_eq!(shares(&[("a", 60, 4_096)], 400).await["a"], 6_000);
    }

    #[tokio::test]
    async fn who_was_away_has_saved_nothing() {
        let (sender, mut receiver) = queue();
        let places: [Arc<Turn<u64>>; 2] = Default::default();
        let send = async |who: usize, count| {
            let place = Arc::clone(&places[who]).lock_owned().await;
            sender.send(pieces(["busy", "away"][who], count, 4_096), place).await.unwrap();
        };
        for _ in 0..100 {
            send(0, 16).await;
            receiver.recv().await;
        }
        send(0, 60).await;
        send(1, 60).await;
        let mut had = [0, 0];
        for _ in 0..4 {
            let turn = receiver.recv().await;
            had[usize::from(turn.bearer.neighbor.as_str() == "away")] += turn.pieces.len();
        }
        assert_eq!(had, [32, 32]);
    }

    #[tokio::test]
    async fn a_neighbor_has_one_run_waiting_and_order_is_kept() {
        let (sender, mut receiver) = queue();
        let places = Arc::new(Turn::default());
        sender.send(pieces("a", 20, 4_096), Arc::clone(&places).lock_owned().await).await.unwrap();
        assert!(places.try_lock().is_err());
        assert_eq!(receiver.try_recv().unwrap().pieces.len(), 16);
        assert!(places.try_lock().is_err(), "some of it is left");
        assert_eq!(receiver.recv().await.pieces.len(), 4);
        assert!(places.try_lock().is_ok() && receiver.try_recv().is_none());
    }

    #[tokio::test]
    async fn who_waits_for_room_hears_that_nobody_takes_any_more() {
        let (sender, receiver) = queue();
        let place = || Arc::new(Turn::default()).try_lock_owned().unwrap();
        for _ in 0..RUNS_MAX {
            sender.send(pieces("a", 1, 10), place()).await.unwrap();
        }
        let mut waiting = Box::pin(sender.send(pieces("b", 1, 10), place()));
        assert!(waits(&mut waiting).await);
        drop(receiver);
        assert!(waiting.await.is_err());
    }

    async fn waits(future: &mut (impl Future + Unpin)) -> bool {
        tokio::select! {
            biased;
            _ = future => false,
            () = tokio::task::yield_now() => true,
        }
    }
}
