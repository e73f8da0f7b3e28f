//! A session in which one end does as it likes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use estafet_model::RecordId;
use estafet_wire::{Answer, CONTROL_FRAME_BYTES_MAX, Frame, Hello, PieceHead, PieceLengths, Verdict};
use quinn::{Connection, RecvStream, SendStream};
use rand::RngExt;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{interval, timeout};

use crate::{Intruder, PATIENCE, Trouble};

/// What an intruder does with records that come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// It asks for them, reads them, says that they are durable with it, and has forgotten them.
    AndForgetting,
    /// It says nothing about them.
    Nothing,
}

/// A session that has been greeted.
pub struct Intrusion {
    /// To do with as one likes.
    pub connection: Connection,
    control: Arc<Mutex<SendStream>>,
    replies: RecvStream,
}

impl Intruder {
    /// Begins a session as its relay would.
    pub async fn join(&self, to: &str) -> Result<Intrusion, Trouble> {
        let connection = self.connect(to).await?;
        let (mut control, mut replies) = connection.open_bi().await.map_err(lost)?;
        let (node, topology_version) = (self.node().clone(), self.topology().version);
        let hello = Hello { node, boot: rand::rng().random(), topology_version, medium: None };
        // Whom it keeps out a relay may have told so before anything is said.
        let is_said = control.write_chunk(Frame::Hello(hello).encode()).await.is_ok();
        let greeted = timeout(PATIENCE, read_frame(&mut replies)).await.map_err(lost)?;
        if !is_said || !matches!(greeted, Some(Frame::Hello(_))) {
            return Err(Trouble::Lost(connection.closed().await.to_string()));
        }
        Ok(Intrusion { connection, control: Arc::new(Mutex::new(control)), replies })
    }
}

impl Intrusion {
    /// Says a frame.
    pub async fn say(&self, frame: &Frame) -> Result<(), Trouble> {
        self.say_bytes(frame.encode()).await
    }

    /// Says anything, frame or not.
    pub async fn say_bytes(&self, bytes: Bytes) -> Result<(), Trouble> {
        self.control.lock().await.write_chunk(bytes).await.map_err(lost)
    }

    /// A new stream of payload.
    pub async fn open(&self) -> Result<SendStream, Trouble> {
        self.connection.open_uni().await.map_err(lost)
    }

    /// With which words the relay ends the session.
    pub async fn ended(&self) -> Result<String, Trouble> {
        let ended = timeout(PATIENCE, self.connection.closed()).await;
        ended.map(|error| error.to_string()).map_err(|_| Trouble::Lost("the session goes on".to_owned()))
    }

    /// From now on it is heard regularly, answers what a neighbor has to answer, and does with records what it is told. What
    /// the relay says comes out as well.
    pub fn be_polite(self, taking: Taking) -> (Polite, mpsc::UnboundedReceiver<Frame>) {
        let Self { connection, control, replies } = self;
        let (heard, heard_out) = mpsc::unbounded_channel();
        tokio::spawn(heartbeats(Arc::clone(&control)));
        tokio::spawn(listen(Arc::clone(&control), replies, taking, heard));
        tokio::spawn(take(connection.clone(), Arc::clone(&control), taking));
        (Polite { connection, control }, heard_out)
    }
}

/// A session that is kept alive meanwhile.
pub struct Polite {
    /// To do with as one likes.
    pub connection: Connection,
    control: Arc<Mutex<SendStream>>,
}

impl Polite {
    /// Says a frame.
    pub async fn say(&self, frame: &Frame) -> Result<(), Trouble> {
        self.control.lock().await.write_chunk(frame.encode()).await.map_err(lost)
    }

    /// A new stream of payload.
    pub async fn open(&self) -> Result<SendStream, Trouble> {
        self.connection.open_uni().await.map_err(lost)
    }

    /// With which words the relay ends the session.
    pub async fn ended(&self) -> Result<String, Trouble> {
        let ended = timeout(PATIENCE, self.connection.closed()).await;
        ended.map(|error| error.to_string()).map_err(|_| Trouble::Lost("the session goes on".to_owned()))
    }
}

/// How often an honest relay is heard that others are busy with.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);

async fn heartbeats(control: Arc<Mutex<SendStream>>) {
    let mut ticks = interval(HEARTBEAT_INTERVAL);
    loop {
        ticks.tick().await;
        let heartbeat = Frame::Heartbeat { busy: false, lsdb: None, clock: None }.encode();
        if control.lock().await.write_chunk(heartbeat).await.is_err() {
            return;
        }
    }
}

async fn listen(
    control: Arc<Mutex<SendStream>>,
    mut replies: RecvStream,
    taking: Taking,
    heard: mpsc::UnboundedSender<Frame>,
) {
    while let Some(frame) = read_frame(&mut replies).await {
        let answer = match &frame {
            // What a neighbor knows receipted has to be told before records come.
            Frame::ReceiptSummary(_) => Some(Frame::Receipts(Vec::new())),
            Frame::Offers(offers) if taking == Taking::AndForgetting => {
                let want = |id: &RecordId| Answer { id: id.clone(), verdict: Verdict::Want { first_chunk: 0 } };
                Some(Frame::Answers(offers.iter().map(|offer| want(&offer.id)).collect()))
            }
            _ => None,
        };
        if let Some(answer) = answer
            && control.lock().await.write_chunk(answer.encode()).await.is_err()
        {
            return;
        }
        // The script may not listen.
        let _unheard = heard.send(frame);
    }
}

async fn take(connection: Connection, control: Arc<Mutex<SendStream>>, taking: Taking) {
    while let Ok(mut stream) = connection.accept_uni().await {
        let control = Arc::clone(&control);
        tokio::spawn(async move {
            while let Some(head) = read_piece(&mut stream).await {
                let is_last = head.index + 1 == head.chunks;
                let accepted = Frame::Acceptances(vec![head.id]).encode();
                if taking == Taking::AndForgetting
                    && is_last
                    && control.lock().await.write_chunk(accepted).await.is_err()
                {
                    return;
                }
            }
        });
    }
}

async fn read_frame(stream: &mut RecvStream) -> Option<Frame> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.ok()?;
    let length = u32::from_le_bytes(length) as usize;
    let mut body = vec![0; length.min(CONTROL_FRAME_BYTES_MAX)];
    stream.read_exact(&mut body).await.ok()?;
    Frame::decode(body.into()).ok()
}

/// The head of the next piece that is no padding.
async fn read_piece(stream: &mut RecvStream) -> Option<PieceHead> {
    loop {
        let mut lengths = [0; PieceLengths::BYTES];
        stream.read_exact(&mut lengths).await.ok()?;
        let lengths = PieceLengths::decode(lengths).ok()?;
        let mut rest = vec![0; lengths.head + lengths.piece];
        stream.read_exact(&mut rest).await.ok()?;
        if !lengths.is_padding() {
            return PieceHead::decode(Bytes::from(rest).slice(..lengths.head)).ok();
        }
    }
}

pub(crate) fn lost(error: impl std::fmt::Display) -> Trouble {
    Trouble::Lost(error.to_string())
}
