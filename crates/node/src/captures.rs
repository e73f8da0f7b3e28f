//! Captures: numbers without gaps, signed headers, and the idempotency keys of counters that ask twice.

use std::collections::{BTreeMap, VecDeque};

use estafet_custody::{HeldRecord, StorePayload};
use estafet_model::{
    Class, Durable, Epoch, Idempotency, Kind, MediaType, NodeId, PayloadHash, RecordHeader, RecordId, Seq,
    SignedHeader, SigningKey, UnixMillis, sign_batch,
};

/// Idempotency keys that are remembered: weeks of an office's records. The oldest is forgotten first.
pub(crate) const KEYS_MAX: usize = 32_768;

/// Names a capture between the counter's request and the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaptureToken(pub u64);

/// A record as a counter hands it in.
#[derive(Debug, Clone)]
pub struct Capture {
    /// How to name the answer.
    pub token: CaptureToken,
    /// How urgent.
    pub class: Class,
    /// What sort of record.
    pub kind: Kind,
    /// What the payload is.
    pub media_type: MediaType,
    /// How long it is.
    pub payload_bytes: u32,
    /// Its hash.
    pub payload_hash: PayloadHash,
    /// The wall clock.
    pub captured_at: UnixMillis,
    /// How it is known again when the counter repeats it.
    pub idempotency: Option<Idempotency>,
    /// Its bytes.
    pub payload: StorePayload,
}

/// A record that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Its id.
    pub id: RecordId,
    /// The hash of its payload.
    pub payload_hash: PayloadHash,
    /// The length of its payload.
    pub payload_bytes: u32,
}

impl From<HeldRecord> for Captured {
    fn from(record: HeldRecord) -> Self {
        Self { id: record.id, payload_hash: record.payload_hash, payload_bytes: record.payload_bytes }
    }
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CaptureRefused {
    /// The key came before with other bytes.
    #[error("the idempotency key was used before for a record with other bytes")]
    KeyReused,
    /// All numbers of the epoch are given.
    #[error("all record numbers of this node's epoch are used")]
    NumbersExhausted,
    /// The store failed.
    #[error("the disk of this office's server failed")]
    StoreFailed,
}

/// What is to be done about a batch of captures.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// New records, signed, to be stored.
    pub(crate) store: Vec<(SignedHeader, Option<Idempotency>, StorePayload)>,
    /// Those taken before and durable: to be answered at once.
    pub(crate) known: Vec<(CaptureToken, Durable<Captured>)>,
    /// Those not taken.
    pub(crate) refused: Vec<(CaptureToken, CaptureRefused)>,
    /// Payloads that were sent again in chunks and are not needed.
    pub(crate) superfluous: Vec<StorePayload>,
}

#[derive(Debug)]
pub(crate) struct Captures {
    me: NodeId,
    epoch: Epoch,
    next: Option<Seq>,
    /// The newest number that is durable.
    head: Option<Seq>,
    keys: BTreeMap<[u8; 16], Known>,
    keys_in_order: VecDeque<[u8; 16]>,
    waiting: BTreeMap<RecordId, Vec<CaptureToken>>,
    /// A new epoch is on its way to the disk: captures wait for it. Intake bounds how many.
    beginning: Option<(Epoch, Vec<Capture>)>,
}

impl Captures {
    /// `head` is the newest number that was ever given in this epoch.
    pub(crate) fn new(me: NodeId, epoch: Epoch, head: Option<Seq>) -> Self {
        Self {
            me,
            epoch,
            next: head.map_or(Some(Seq::FIRST), Seq::next),
            head,
            keys: BTreeMap::new(),
            keys_in_order: VecDeque::new(),
            waiting: BTreeMap::new(),
            beginning: None,
        }
    }

    /// The newest number that was given, durable or not.
    pub(crate) fn given(&self) -> u32 {
        self.next.map_or(Seq::MAX.get(), |next| next.get() - 1)
    }

    /// Numbers are to begin again in this epoch, as soon as it is durable. False if another is on its way.
    pub(crate) fn begin_epoch(&mut self, epoch: Epoch) -> bool {
        if self.beginning.is_some() {
            return false;
        }
        self.beginning = Some((epoch, Vec::new()));
        true
    }

    /// An epoch is durable. If it is the new one: returns the captures that waited for it.
    pub(crate) fn epoch_kept(&mut self, kept: Epoch) -> Vec<Capture> {
        let Some((epoch, waiting)) = self.beginning.take_if(|(epoch, _)| *epoch == kept) else { return Vec::new() };
        self.epoch = epoch;
        self.next = Some(Seq::FIRST);
        self.head = None;
        waiting
    }

    /// The store fails: captures that waited for a new epoch are refused.
    pub(crate) fn store_failed(&mut self) -> Vec<Capture> {
        self.beginning.as_mut().map(|(_, waiting)| std::mem::take(waiting)).unwrap_or_default()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn head(&self) -> Option<Seq> {
        self.head
    }

    /// A key whose record is durable.
    pub(crate) fn remember(&mut self, idempotency: Idempotency, captured: Durable<Captured>) {
        self.set_key(idempotency, Durability::Stored(captured));
    }

    fn set_key(&mut self, Idempotency { key, content }: Idempotency, durability: Durability) {
        if self.keys.insert(key, Known { content, durability }).is_none() {
            self.keys_in_order.push_back(key);
        }
        if self.keys_in_order.len() > KEYS_MAX
            && let Some(oldest) = self.keys_in_order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }

    /// Numbers and signs what is new.
    pub(crate) fn admit(&mut self, captures: Vec<Capture>, signing_key: &SigningKey) -> Admitted {
        let mut admitted = Admitted::default();
        if let Some((_, waiting)) = &mut self.beginning {
            waiting.extend(captures);
            return admitted;
        }
        let mut headers = Vec::with_capacity(captures.len());
        let mut bodies = Vec::with_capacity(captures.len());
        for capture in captures {
            match self.number(&capture) {
                Ok(Numbered::New(id)) => {
                    headers.push(RecordHeader {
                        id,
                        class: capture.class,
                        kind: capture.kind,
                        media_type: capture.media_type,
                        payload_bytes: capture.payload_bytes,
                        payload_hash: capture.payload_hash,
                        captured_at: capture.captured_at,
                    });
                    bodies.push((capture.idempotency, capture.payload));
                }
                Ok(Numbered::Waiting) => admitted.superfluous.push(capture.payload),
                Ok(Numbered::Durable(captured)) => {
                    admitted.known.push((capture.token, captured));
                    admitted.superfluous.push(capture.payload);
                }
                Err(why) => {
                    admitted.refused.push((capture.token, why));
                    admitted.superfluous.push(capture.payload);
                }
            }
        }
        let signed = sign_batch(headers, signing_key).into_iter();
        admitted.store = signed.zip(bodies).map(|(header, (key, payload))| (header, key, payload)).collect();
        admitted
    }

    fn number(&mut self, capture: &Capture) -> Result<Numbered, CaptureRefused> {
        if let Some(idempotency) = &capture.idempotency
            && let Some(known) = self.keys.get(&idempotency.key)
        {
            return match &known.durability {
                _ if known.content != idempotency.content => Err(CaptureRefused::KeyReused),
                Durability::Stored(captured) => Ok(Numbered::Durable(captured.clone())),
                Durability::Storing(id) => {
                    self.waiting.entry(id.clone()).or_default().push(capture.token);
                    Ok(Numbered::Waiting)
                }
            };
        }
        let seq = self.next.ok_or(CaptureRefused::NumbersExhausted)?;
        self.next = seq.next();
        let id = RecordId { origin: self.me.clone(), epoch: self.epoch, seq };
        self.waiting.insert(id.clone(), vec![capture.token]);
        if let Some(idempotency) = capture.idempotency {
            self.set_key(idempotency, Durability::Storing(id.clone()));
        }
        Ok(Numbered::New(id))
    }

    /// An own record is durable: who waits for it.
    pub(crate) fn stored(
        &mut self,
        captured: &Durable<Captured>,
        idempotency: Option<Idempotency>,
    ) -> Vec<CaptureToken> {
        let id = &captured.get().id;
        if id.epoch == self.epoch {
            self.head = self.head.max(Some(id.seq));
        }
        if let Some(idempotency) = idempotency {
            self.set_key(idempotency, Durability::Stored(captured.clone()));
        }
        self.waiting.remove(id).unwrap_or_default()
    }

    /// An own record could not be stored: who waits for it. Its key may be used again.
    pub(crate) fn failed(&mut self, id: &RecordId) -> Vec<CaptureToken> {
        self.keys.retain(|_, known| !matches!(&known.durability, Durability::Storing(storing) if storing == id));
        self.keys_in_order.retain(|key| self.keys.contains_key(key));
        self.waiting.remove(id).unwrap_or_default()
    }
}

/// What is known of the record that came with an idempotency key.
#[derive(Debug)]
struct Known {
    content: [u8; 16],
    durability: Durability,
}

#[derive(Debug)]
enum Durability {
    /// It is on its way to the disk.
    Storing(RecordId),
    /// It is on the disk.
    Stored(Durable<Captured>),
}

/// What a capture is.
enum Numbered {
    /// A new record, with this id.
    New(RecordId),
    /// One that is being stored; the token is remembered.
    Waiting,
    /// One that is durable already.
    Durable(Durable<Captured>),
}
