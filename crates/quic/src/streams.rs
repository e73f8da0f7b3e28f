//! The streams of a session: reading and writing frames and pieces.

use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use estafet_model::{Bearer, ChunkHash, Class, NodeId, RecordId};
use estafet_wire::{BadFrame, CONTROL_FRAME_BYTES_MAX, Frame, PieceHead};
use quinn::{Connection, ReadExactError, RecvStream, SendStream};
use tokio::sync::mpsc;
use tracing::debug;

use crate::exclusion::Offense;
use crate::pieces::{NoPieces, read_pieces};
use crate::session::{Carry, PayloadSource, ReadRecord, SessionId, Unreadable, exclude};
use crate::transport::{SessionEvent, Shared, close_code};

/// Priorities within a connection: what is higher is sent first. Normal and bulk share what urgent leaves, at 0; padding
/// goes when nothing else does.
const CONTROL_PRIORITY: i32 = 2;
const URGENT_PRIORITY: i32 = 1;
pub(crate) const PADDING_PRIORITY: i32 = -1;

/// How much payload is read from the store ahead of the network: enough to fill a write, little enough to forget.
const READ_AHEAD_BYTES: usize = 512 << 10;
const READ_AHEAD_RECORDS: usize = 128;
const READ_AHEAD_CHUNKS: u32 = 16;

/// Why no control frame came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoFrame {
    /// The stream or its connection was lost.
    #[error("{0}")]
    Lost(ReadExactError),
    /// It is longer than any may be.
    #[error("the neighbor sent a control frame of {0} bytes")]
    TooLong(usize),
    /// It is none.
    #[error(transparent)]
    Bad(#[from] BadFrame),
}

/// Reads one control frame, and says how long it was; nothing if the stream ended before one began.
pub(crate) async fn read_frame(stream: &mut RecvStream) -> Result<Option<(Frame, usize)>, NoFrame> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(0)) => return Ok(None),
        Err(error) => return Err(NoFrame::Lost(error)),
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > CONTROL_FRAME_BYTES_MAX {
        return Err(NoFrame::TooLong(length));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(NoFrame::Lost)?;
    Ok(Some((Frame::decode(Bytes::from(body))?, length)))
}

/// Sends queued control frames until the session ends.
pub(crate) async fn write_control(
    mut stream: SendStream,
    mut frames: mpsc::Receiver<Bytes>,
    queued_bytes: Arc<AtomicUsize>,
    connection: Connection,
) {
    let _gone = stream.set_priority(CONTROL_PRIORITY);
    let mut batch = Vec::new();
    while frames.recv_many(&mut batch, 64).await > 0 {
        let bytes = batch.iter().map(Bytes::len).sum();
        if stream.write_all_chunks(&mut batch).await.is_err() {
            break;
        }
        queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        batch.clear();
    }
    connection.close(close_code::GOODBYE, b"not needed any more");
}

/// Hands control frames to the driver until the session ends.
pub(crate) async fn read_control(
    shared: Arc<Shared>,
    bearer: Bearer,
    session: SessionId,
    mut stream: RecvStream,
    connection: Connection,
) {
    let allowance = shared.allowances.of(&bearer.neighbor);
    loop {
        match read_frame(&mut stream).await {
            Ok(Some((frame, bytes))) => {
                let event = SessionEvent::Control { bearer: bearer.clone(), session, frame };
                if shared.control.send(event).await.is_err() {
                    return;
                }
                allowance.frame(bytes).await;
            }
            Ok(None) => return connection.close(close_code::PROTOCOL, b"control stream ended"),
            Err(NoFrame::Lost(error)) => {
                debug!(%bearer, %error, "a control stream was lost");
                return close_if_open(&connection, b"control stream lost");
            }
            Err(error @ (NoFrame::TooLong(_) | NoFrame::Bad(_))) => {
                exclude(&shared.exclusions, &bearer.neighbor, Offense::Plain, &error.to_string());
                return connection.close(close_code::PROTOCOL, b"bad control frame");
            }
        }
    }
}

/// Ends a connection whose stream the neighbor has given up. With the connection its streams are lost too: then what the
/// neighbor said as it closed that, such as a goodbye, is why, and closing it once more would hide it.
fn close_if_open(connection: &Connection, why: &[u8]) {
    if connection.close_reason().is_none() {
        connection.close(close_code::PROTOCOL, why);
    }
}

/// Reads every payload stream that the neighbor opens.
pub(crate) async fn accept_payload(shared: Arc<Shared>, bearer: Bearer, session: SessionId, connection: Connection) {
    let allowance = shared.allowances.of(&bearer.neighbor);
    while let Ok(stream) = connection.accept_uni().await {
        allowance.stream().await;
        let (shared, bearer, connection) = (Arc::clone(&shared), bearer.clone(), connection.clone());
        tokio::spawn(async move {
            match read_pieces(&shared, &bearer, session, stream).await {
                Ok(()) => {}
                Err(NoPieces::Lost(error)) => {
                    debug!(%bearer, %error, "a payload stream was lost");
                    close_if_open(&connection, b"payload stream lost");
                }
                Err(error @ NoPieces::Bad(_)) => {
                    exclude(&shared.exclusions, &bearer.neighbor, Offense::Plain, &error.to_string());
                    connection.close(close_code::PROTOCOL, b"bad payload");
                }
            }
        });
    }
}

/// Starts the task that streams records of one class; it opens its stream with the first.
pub(crate) fn spawn_payload_writer(
    shared: &Arc<Shared>,
    neighbor: &NodeId,
    connection: &Connection,
    class: Class,
) -> mpsc::UnboundedSender<Carry> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let writer = PayloadWriter {
        source: Arc::clone(&shared.source),
        control: shared.control.clone(),
        neighbor: neighbor.clone(),
        records: receiver,
    };
    let connection = connection.clone();
    tokio::spawn(async move {
        if let Err(error) = writer.run(&connection, class).await {
            debug!(%error, "payload stream ended");
            connection.close(close_code::GOODBYE, b"payload stream ended");
        }
    });
    sender
}

struct PayloadWriter {
    source: Arc<dyn PayloadSource>,
    control: mpsc::Sender<SessionEvent>,
    neighbor: NodeId,
    records: mpsc::UnboundedReceiver<Carry>,
}

impl PayloadWriter {
    async fn run(mut self, connection: &Connection, class: Class) -> Result<(), String> {
        let mut stream: Option<SendStream> = None;
        let mut batch = Vec::new();
        while receive_unless_closed(connection, &mut self.records, &mut batch).await {
            let stream = match &mut stream {
                Some(stream) => stream,
                none => none.insert(open_payload_stream(connection, class).await?),
            };
            let mut rest = std::mem::take(&mut batch).into_iter().peekable();
            while rest.peek().is_some() {
                let at_hand = read_recent(&*self.source, &mut rest);
                if !at_hand.is_empty() {
                    self.write(stream, at_hand).await?;
                    continue;
                }
                let source = Arc::clone(&self.source);
                let (read, left) = tokio::task::spawn_blocking(move || (read_ahead(&*source, &mut rest), rest))
                    .await
                    .map_err(|error| error.to_string())?;
                rest = left;
                self.write(stream, read).await?;
            }
        }
        Ok(())
    }

    async fn write(&self, stream: &mut SendStream, read: Vec<(Carry, Beginning)>) -> Result<(), String> {
        let mut frames = Vec::with_capacity(read.len() * 2);
        for (carry, beginning) in read {
            let mut next = carry.first_chunk;
            match beginning {
                Ok(Some(record)) => {
                    let chunk_hashes = if carry.chunks > 1 { record.chunk_hashes } else { Vec::new() };
                    let beginning = Some((record.signed_header, chunk_hashes));
                    next = push_pieces(&mut frames, &carry, 0, beginning, record.chunks);
                }
                Ok(None) => {}
                Err(Unreadable(_)) => {
                    self.unreadable(&carry.id).await?;
                    continue;
                }
            }
            if next < carry.chunks {
                write_frames(stream, &mut frames).await?;
                self.write_later_chunks(stream, &carry, next).await?;
            }
        }
        write_frames(stream, &mut frames).await
    }

    async fn write_later_chunks(&self, stream: &mut SendStream, carry: &Carry, first: u32) -> Result<(), String> {
        let mut next = first;
        while next < carry.chunks {
            let (source, id) = (Arc::clone(&self.source), carry.id.clone());
            let run = next..carry.chunks.min(next + READ_AHEAD_CHUNKS);
            let read = tokio::task::spawn_blocking(move || source.read_chunks(&id, run));
            let chunks = match read.await.map_err(|error| error.to_string())? {
                Ok(chunks) if !chunks.is_empty() => chunks,
                Ok(_) | Err(Unreadable(_)) => return self.unreadable(&carry.id).await,
            };
            let mut frames = Vec::with_capacity(chunks.len() * 2);
            next = push_pieces(&mut frames, carry, next, None, chunks);
            write_frames(stream, &mut frames).await?;
        }
        Ok(())
    }

    async fn unreadable(&self, id: &RecordId) -> Result<(), String> {
        let event = SessionEvent::Unreadable { neighbor: self.neighbor.clone(), id: id.clone() };
        self.control.send(event).await.map_err(|error| error.to_string())
    }
}

async fn receive_unless_closed(
    connection: &Connection,
    records: &mut mpsc::UnboundedReceiver<Carry>,
    batch: &mut Vec<Carry>,
) -> bool {
    tokio::select! {
        count = records.recv_many(batch, READ_AHEAD_RECORDS) => count > 0,
        _ = connection.closed() => false,
    }
}

async fn open_payload_stream(connection: &Connection, class: Class) -> Result<SendStream, String> {
    let stream = connection.open_uni().await.map_err(|error| error.to_string())?;
    if class == Class::Urgent {
        stream.set_priority(URGENT_PRIORITY).map_err(|error| error.to_string())?;
    }
    Ok(stream)
}

async fn write_frames(stream: &mut SendStream, frames: &mut Vec<Bytes>) -> Result<(), String> {
    stream.write_all_chunks(frames).await.map_err(|error| error.to_string())?;
    frames.clear();
    Ok(())
}

/// Adds pieces from chunk `first` on, the first with what a record begins with. Says which chunk comes next.
fn push_pieces(
    frames: &mut Vec<Bytes>,
    carry: &Carry,
    first: u32,
    mut beginning: Option<(Bytes, Vec<ChunkHash>)>,
    chunks: Vec<Bytes>,
) -> u32 {
    let mut index = first;
    for chunk in chunks {
        let (signed_header, chunk_hashes) = beginning.take().unzip();
        let chunk_hashes = chunk_hashes.unwrap_or_default();
        let head = PieceHead { signed_header, id: carry.id.clone(), index, chunks: carry.chunks, chunk_hashes };
        frames.push(head.encode(chunk.len()));
        frames.push(chunk);
        index += 1;
    }
    index
}

/// The header and the first chunks of a record, or nothing if the neighbor has some.
type Beginning = Result<Option<ReadRecord>, Unreadable>;

/// Takes the next records as long as they are still in memory, until there is enough for a good write.
fn read_recent(
    source: &dyn PayloadSource,
    carries: &mut Peekable<impl Iterator<Item = Carry>>,
) -> Vec<(Carry, Beginning)> {
    let mut read = Vec::new();
    let mut bytes = 0;
    while bytes < READ_AHEAD_BYTES
        && let Some(next) = carries.peek().filter(|carry| carry.first_chunk == 0)
        && let Some(record) = source.recent(&next.id)
    {
        bytes += record.chunks.iter().map(Bytes::len).sum::<usize>();
        read.extend(carries.next().map(|carry| (carry, Ok(Some(record)))));
    }
    read
}

/// Reads beginnings of records until there is enough for a good write.
fn read_ahead(source: &dyn PayloadSource, carries: &mut impl Iterator<Item = Carry>) -> Vec<(Carry, Beginning)> {
    let mut read = Vec::new();
    let mut bytes = 0;
    while bytes < READ_AHEAD_BYTES
        && let Some(carry) = carries.next()
    {
        let begins = carry.first_chunk == 0;
        let beginning = begins.then(|| source.read(&carry.id, carry.chunks.min(READ_AHEAD_CHUNKS))).transpose();
        if let Ok(Some(record)) = &beginning {
            bytes += record.chunks.iter().map(Bytes::len).sum::<usize>();
        }
        read.push((carry, beginning));
    }
    read
}
