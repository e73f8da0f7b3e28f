//! Frames of the control stream.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use estafet_model::{
    Class, Epoch, HeaderDigest, LsaVersion, LsdbDigest, Medium, NodeId, PAYLOAD_BYTES_MAX, ReceiptKey, ReceiptRank,
    RecordId, Seq, UnixMillis, chunk_count,
};
use prost::Message;

use crate::inventory::{Holding, RecordSet, SETS_PER_FRAME};
use crate::proto;
use crate::proto::control_frame::Frame as Raw;

/// A longer control frame is refused before it is read. Senders split what could grow beyond.
pub const CONTROL_FRAME_BYTES_MAX: usize = 1 << 20;

/// A longer topology is no frame: it does not flood, and is brought to each node as a file.
pub const TOPOLOGY_BYTES_MAX: usize = CONTROL_FRAME_BYTES_MAX - 64;

/// The neighbor sent something that is no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Not Protocol Buffers.
    #[error("the neighbor sent an undecodable frame: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// A field that must be there is not, or is out of its bounds.
    #[error("the neighbor sent a frame with a bad {0}")]
    Field(&'static str),
}

/// One message on the control stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The first from each side.
    Hello(Hello),
    /// I am alive.
    Heartbeat {
        /// And I wait for you: let me hear from you at the quick pace.
        busy: bool,
        /// And this is what my LSAs come to; not said each time.
        lsdb: Option<LsdbDigest>,
        /// And my clock says this; not said each time, and nothing hangs on it.
        clock: Option<UnixMillis>,
    },
    /// Which LSAs the sender has.
    LsdbSummary(Vec<LsaVersion>),
    /// LSAs, canonical and signed.
    Lsas(Vec<Bytes>),
    /// What the sender knows receipted; to be answered with `Receipts`.
    ReceiptSummary(Vec<ReceiptVersion>),
    /// Receipts, canonical and signed.
    Receipts(Vec<Bytes>),
    /// Records the sender would hand over.
    Offers(Vec<Offer>),
    /// Answers to offers, or to records that came without one.
    Answers(Vec<Answer>),
    /// Records that are durable with the sender.
    Acceptances(Vec<RecordId>),
    /// Records that the sender has lost: who has one is to offer it.
    Seek(Vec<RecordId>),
    /// Records that the receiver wants, and that the sender will not send although it offered them.
    Withdrawn(Vec<RecordId>),
    /// Records that the sender would offer, if the receiver does not say by `Holdings` that it holds them.
    Inventory(Vec<RecordSet>),
    /// What of an inventory is durable with the sender.
    Holdings(Vec<Holding>),
    /// The sender has left this bearer to the receiver: what either said over it lately may be lost.
    Doubt(Medium),
    /// The topology in force at the sender, signed. At most [`TOPOLOGY_BYTES_MAX`].
    Topology(Bytes),
}

/// Who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The sender's node id; must be the one its key belongs to.
    pub node: NodeId,
    /// Drawn at random at each start.
    pub boot: u64,
    /// The version of the topology in force at the sender.
    pub topology_version: u64,
    /// Which link between the two this session is; nothing if there is only one.
    pub medium: Option<Medium>,
}

/// How much of one (hub, origin, epoch) is known receipted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptVersion {
    /// Whom the receipt speaks of.
    pub key: ReceiptKey,
    /// The receipt's [rank](estafet_model::SignedReceipt::rank).
    pub rank: ReceiptRank,
}

/// A record that the sender would hand over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Which record.
    pub id: RecordId,
    /// How urgent.
    pub class: Class,
    /// How long its payload is.
    pub payload_bytes: u32,
    /// The hash of its header.
    pub digest: HeaderDigest,
    /// The hub that is to have it although another one has; nothing if it goes to whichever is nearest.
    pub for_hub: Option<NodeId>,
}

/// The answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which record.
    pub id: RecordId,
    /// What the receiver wants done.
    pub verdict: Verdict,
}

/// What the receiver of an offer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Send it, from this chunk on: those before are here.
    Want {
        /// The first chunk to send.
        first_chunk: u32,
    },
    /// It is durable here, or receipted.
    Have,
    /// It is coming by another way: offer it again later.
    Wait(Duration),
    /// There is no room for more of its origin: offer nothing of it for so long.
    Full(Duration),
    /// Do not offer it again soon; somebody must look.
    Never(NeverReason),
}

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeverReason {
    /// The origin is not in the receiver's topology.
    UnknownOrigin,
    /// The header is not signed by its origin.
    ForgedHeader,
    /// The payload is not the one the header speaks of.
    WrongPayload,
    /// Another record has this id.
    Conflict,
}

impl NeverReason {
    /// The reason in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NeverReason::UnknownOrigin => "its topology does not know the origin, or no longer",
            NeverReason::ForgedHeader => "the header is not signed by the key that its origin has now",
            NeverReason::WrongPayload => "the payload does not match the header",
            NeverReason::Conflict => "another record has the same id there",
        }
    }
}

/// List items per frame. A neighbor is heard when a whole frame of it has come: so many take a quarter of a second on a
/// line of 64 kbit/s, and whoever waits for the next is not taken for dead.
const ITEMS_PER_FRAME: usize = 32;

/// Bytes of LSAs or receipts per frame. Each is bounded well below what is then left to the maximum.
const SIGNED_BYTES_PER_FRAME: usize = 256 << 10;

impl Frame {
    /// The same in as many frames as it takes for each to stay below [`CONTROL_FRAME_BYTES_MAX`].
    #[must_use]
    pub fn split(self) -> Vec<Frame> {
        match self {
            Frame::Lsas(lsas) => split_by_bytes(lsas).into_iter().map(Frame::Lsas).collect(),
            Frame::Receipts(receipts) => split_by_bytes(receipts).into_iter().map(Frame::Receipts).collect(),
            Frame::Offers(offers) => offers.chunks(ITEMS_PER_FRAME).map(|part| Frame::Offers(part.to_vec())).collect(),
            Frame::Answers(answers) => {
                answers.chunks(ITEMS_PER_FRAME).map(|part| Frame::Answers(part.to_vec())).collect()
            }
            Frame::Acceptances(ids) => {
                ids.chunks(ITEMS_PER_FRAME).map(|part| Frame::Acceptances(part.to_vec())).collect()
            }
            Frame::Seek(ids) => ids.chunks(ITEMS_PER_FRAME).map(|part| Frame::Seek(part.to_vec())).collect(),
            Frame::Withdrawn(ids) => ids.chunks(ITEMS_PER_FRAME).map(|part| Frame::Withdrawn(part.to_vec())).collect(),
            Frame::Inventory(sets) => sets.chunks(SETS_PER_FRAME).map(|part| Frame::Inventory(part.to_vec())).collect(),
            Frame::Holdings(all) => all.chunks(SETS_PER_FRAME).map(|part| Frame::Holdings(part.to_vec())).collect(),
            whole => vec![whole],
        }
    }

    /// The frame as bytes, with its length in front.
    ///
    /// # Panics
    /// If the frame is longer than [`CONTROL_FRAME_BYTES_MAX`]; senders split lists well below it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let frame = proto::ControlFrame { frame: Some(self.to_raw()) };
        let length = frame.encoded_len();
        assert!(length <= CONTROL_FRAME_BYTES_MAX, "a control frame of {length} bytes would be refused");
        let mut buffer = BytesMut::with_capacity(length + 4);
        buffer.extend_from_slice(&u32::try_from(length).expect("checked above").to_le_bytes());
        frame.encode(&mut buffer).expect("the buffer grows");
        buffer.freeze()
    }

    /// Reads a frame without its length.
    pub fn decode(bytes: Bytes) -> Result<Self, BadFrame> {
        let raw = proto::ControlFrame::decode(bytes)?.frame.ok_or(BadFrame::Field("frame kind"))?;
        Ok(match raw {
            Raw::Hello(hello) => Frame::Hello(Hello {
                node: node_id(&hello.node)?,
                boot: hello.boot,
                topology_version: hello.topology_version,
                medium: if hello.medium.is_empty() { None } else { Some(medium(&hello.medium)?) },
            }),
            Raw::Heartbeat(heartbeat) => {
                let clock = heartbeat.clock_unix_ms.map(UnixMillis);
                Frame::Heartbeat { busy: heartbeat.busy, lsdb: heartbeat.lsdb_digest.map(LsdbDigest), clock }
            }
            Raw::LsdbSummary(summary) => {
                Frame::LsdbSummary(summary.versions.iter().map(lsa_version).collect::<Result<_, _>>()?)
            }
            Raw::Lsas(lsas) => Frame::Lsas(lsas.lsas),
            Raw::ReceiptSummary(summary) => {
                Frame::ReceiptSummary(summary.versions.iter().map(receipt_version).collect::<Result<_, _>>()?)
            }
            Raw::Receipts(receipts) => Frame::Receipts(receipts.receipts),
            Raw::Offers(offers) => Frame::Offers(offers.offers.iter().map(offer).collect::<Result<_, _>>()?),
            Raw::Answers(answers) => Frame::Answers(answers.answers.iter().map(answer).collect::<Result<_, _>>()?),
            Raw::Acceptances(acceptances) => {
                Frame::Acceptances(acceptances.ids.iter().map(record_id).collect::<Result<_, _>>()?)
            }
            Raw::Seek(seek) => Frame::Seek(seek.ids.iter().map(record_id).collect::<Result<_, _>>()?),
            Raw::Withdrawn(withdrawn) => {
                Frame::Withdrawn(withdrawn.ids.iter().map(record_id).collect::<Result<_, _>>()?)
            }
            Raw::Inventory(inventory) => Frame::Inventory(few(&inventory.sets, RecordSet::read)?),
            Raw::Holdings(holdings) => Frame::Holdings(few(&holdings.holdings, Holding::read)?),
            Raw::Doubt(doubt) => Frame::Doubt(medium(&doubt.medium)?),
            Raw::Topology(topology) => Frame::Topology(topology.signed),
        })
    }

    fn to_raw(&self) -> Raw {
        match self {
            Frame::Hello(hello) => Raw::Hello(proto::Hello {
                node: hello.node.to_string(),
                boot: hello.boot,
                topology_version: hello.topology_version,
                medium: hello.medium.map(|medium| medium.to_string()).unwrap_or_default(),
            }),
            Frame::Heartbeat { busy, lsdb, clock } => {
                let (lsdb_digest, clock_unix_ms) = (lsdb.map(|digest| digest.0), clock.map(|clock| clock.0));
                Raw::Heartbeat(proto::Heartbeat { busy: *busy, lsdb_digest, clock_unix_ms })
            }
            Frame::LsdbSummary(versions) => Raw::LsdbSummary(proto::LsdbSummary {
                versions: versions
                    .iter()
                    .map(|version| proto::LsaVersion {
                        origin: version.origin.to_string(),
                        sequence: version.sequence,
                        checksum: version.checksum,
                    })
                    .collect(),
            }),
            Frame::Lsas(lsas) => Raw::Lsas(proto::Lsas { lsas: lsas.clone() }),
            Frame::ReceiptSummary(versions) => Raw::ReceiptSummary(proto::ReceiptSummary {
                versions: versions
                    .iter()
                    .map(|version| proto::ReceiptVersion {
                        hub: version.key.hub.to_string(),
                        origin: version.key.origin.to_string(),
                        epoch: version.key.epoch.get().into(),
                        losses: version.rank.losses,
                        last: version.rank.last,
                        count: version.rank.count,
                        digest: version.rank.digest,
                    })
                    .collect(),
            }),
            Frame::Receipts(receipts) => Raw::Receipts(proto::Receipts { receipts: receipts.clone() }),
            Frame::Offers(offers) => Raw::Offers(proto::Offers {
                offers: offers
                    .iter()
                    .map(|offer| proto::Offer {
                        id: Some(raw_record_id(&offer.id)),
                        class: offer.class as u32,
                        payload_bytes: offer.payload_bytes,
                        header_digest: Bytes::copy_from_slice(&offer.digest.0),
                        for_hub: offer.for_hub.as_ref().map(ToString::to_string).unwrap_or_default(),
                    })
                    .collect(),
            }),
            Frame::Answers(answers) => {
                Raw::Answers(proto::Answers { answers: answers.iter().map(raw_answer).collect() })
            }
            Frame::Acceptances(ids) => {
                Raw::Acceptances(proto::Acceptances { ids: ids.iter().map(raw_record_id).collect() })
            }
            Frame::Seek(ids) => Raw::Seek(proto::Seek { ids: ids.iter().map(raw_record_id).collect() }),
            Frame::Withdrawn(ids) => Raw::Withdrawn(proto::Withdrawn { ids: ids.iter().map(raw_record_id).collect() }),
            Frame::Inventory(sets) => {
                Raw::Inventory(proto::Inventory { sets: sets.iter().map(RecordSet::to_raw).collect() })
            }
            Frame::Holdings(all) => {
                Raw::Holdings(proto::Holdings { holdings: all.iter().map(Holding::to_raw).collect() })
            }
            Frame::Doubt(medium) => Raw::Doubt(proto::Doubt { medium: medium.to_string() }),
            Frame::Topology(signed) => Raw::Topology(proto::Topology { signed: signed.clone() }),
        }
    }
}

/// Groups signed things; no things are one empty group, because an empty answer is an answer.
fn split_by_bytes(all: Vec<Bytes>) -> Vec<Vec<Bytes>> {
    let mut groups = vec![Vec::new()];
    let mut bytes = 0;
    for one in all {
        if bytes > 0 && bytes + one.len() > SIGNED_BYTES_PER_FRAME {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes += one.len();
        groups.last_mut().expect("there is a first group").push(one);
    }
    groups
}

/// All of a list that is short by the protocol.
fn few<R, T>(raw: &[R], read: impl Fn(&R) -> Result<T, BadFrame>) -> Result<Vec<T>, BadFrame> {
    if raw.len() > SETS_PER_FRAME {
        return Err(BadFrame::Field("number of sets"));
    }
    raw.iter().map(read).collect()
}

pub(crate) fn node_id(text: &str) -> Result<NodeId, BadFrame> {
    text.parse().map_err(|_| BadFrame::Field("node id"))
}

fn medium(text: &str) -> Result<Medium, BadFrame> {
    text.parse().map_err(|_| BadFrame::Field("medium"))
}

pub(crate) fn epoch(raw: u32) -> Result<Epoch, BadFrame> {
    u16::try_from(raw).ok().and_then(Epoch::new).ok_or(BadFrame::Field("epoch"))
}

fn lsa_version(raw: &proto::LsaVersion) -> Result<LsaVersion, BadFrame> {
    Ok(LsaVersion { origin: node_id(&raw.origin)?, sequence: raw.sequence, checksum: raw.checksum })
}

fn receipt_version(raw: &proto::ReceiptVersion) -> Result<ReceiptVersion, BadFrame> {
    let key = ReceiptKey { hub: node_id(&raw.hub)?, origin: node_id(&raw.origin)?, epoch: epoch(raw.epoch)? };
    let rank = ReceiptRank { losses: raw.losses, last: raw.last, count: raw.count, digest: raw.digest };
    Ok(ReceiptVersion { key, rank })
}

pub(crate) fn record_id(raw: &proto::RecordId) -> Result<RecordId, BadFrame> {
    Ok(RecordId {
        origin: node_id(&raw.origin)?,
        epoch: epoch(raw.epoch)?,
        seq: Seq::new(raw.seq).ok_or(BadFrame::Field("sequence number"))?,
    })
}

pub(crate) fn raw_record_id(id: &RecordId) -> proto::RecordId {
    proto::RecordId { origin: id.origin.to_string(), epoch: id.epoch.get().into(), seq: id.seq.get() }
}

fn offer(raw: &proto::Offer) -> Result<Offer, BadFrame> {
    let class = usize::try_from(raw.class).ok().and_then(|class| Class::ALL.get(class));
    let digest = <[u8; 32]>::try_from(raw.header_digest.as_ref()).map_err(|_| BadFrame::Field("header digest"))?;
    if raw.payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(BadFrame::Field("payload length"));
    }
    Ok(Offer {
        id: record_id(raw.id.as_ref().ok_or(BadFrame::Field("record id"))?)?,
        class: *class.ok_or(BadFrame::Field("class"))?,
        payload_bytes: raw.payload_bytes,
        digest: HeaderDigest(digest),
        for_hub: (!raw.for_hub.is_empty()).then(|| node_id(&raw.for_hub)).transpose()?,
    })
}

fn answer(raw: &proto::Answer) -> Result<Answer, BadFrame> {
    use proto::answer::Verdict as RawVerdict;
    use proto::never::Reason;
    let verdict = match raw.verdict.as_ref().ok_or(BadFrame::Field("verdict"))? {
        RawVerdict::Want(want) if want.first_chunk < chunk_count(PAYLOAD_BYTES_MAX) => {
            Verdict::Want { first_chunk: want.first_chunk }
        }
        RawVerdict::Want(_) => return Err(BadFrame::Field("first chunk")),
        RawVerdict::Have(_) => Verdict::Have,
        RawVerdict::Wait(wait) => {
            let delay = Duration::from_millis(wait.delay_ms.into());
            if wait.full { Verdict::Full(delay) } else { Verdict::Wait(delay) }
        }
        RawVerdict::Never(never) => Verdict::Never(match never.reason() {
            Reason::UnknownOrigin => NeverReason::UnknownOrigin,
            Reason::ForgedHeader => NeverReason::ForgedHeader,
            Reason::WrongPayload => NeverReason::WrongPayload,
            Reason::Conflict => NeverReason::Conflict,
            Reason::Unspecified => return Err(BadFrame::Field("reason")),
        }),
    };
    Ok(Answer { id: record_id(raw.id.as_ref().ok_or(BadFrame::Field("record id"))?)?, verdict })
}

fn raw_answer(answer: &Answer) -> proto::Answer {
    use proto::answer::Verdict as RawVerdict;
    use proto::never::Reason;
    let verdict = match answer.verdict {
        Verdict::Want { first_chunk } => RawVerdict::Want(proto::Want { first_chunk }),
        Verdict::Have => RawVerdict::Have(proto::Have {}),
        Verdict::Wait(delay) => RawVerdict::Wait(proto::Wait { delay_ms: millis(delay), full: false }),
        Verdict::Full(delay) => RawVerdict::Wait(proto::Wait { delay_ms: millis(delay), full: true }),
        Verdict::Never(reason) => {
            let reason = match reason {
                NeverReason::UnknownOrigin => Reason::UnknownOrigin,
                NeverReason::ForgedHeader => Reason::ForgedHeader,
                NeverReason::WrongPayload => Reason::WrongPayload,
                NeverReason::Conflict => Reason::Conflict,
            };
            RawVerdict::Never(proto::Never { reason: reason.into() })
        }
    };
    proto::Answer { id: Some(raw_record_id(&answer.id)), verdict: Some(verdict) }
}

fn millis(delay: Duration) -> u32 {
    u32::try_from(delay.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use estafet_model::SetDigest;

    use super::*;

    fn id() -> RecordId {
        "sail.3.7".parse().unwrap()
    }

    fn offer(for_hub: Option<NodeId>) -> Offer {
        let digest = HeaderDigest([4; 32]);
        Offer { id: id(), class: Class::Urgent, payload_bytes: 9, digest, for_hub }
    }

    fn frames() -> Vec<Frame> {
        let node: NodeId = "sail".parse().unwrap();
        let key = ReceiptKey { hub: "induk".parse().unwrap(), origin: node.clone(), epoch: Epoch::new(3).unwrap() };
        let verdicts = [
            Verdict::Want { first_chunk: 0 },
            Verdict::Want { first_chunk: 511 },
            Verdict::Have,
            Verdict::Wait(Duration::from_millis(250)),
            Verdict::Full(Duration::from_millis(250)),
            Verdict::Never(NeverReason::UnknownOrigin),
            Verdict::Never(NeverReason::ForgedHeader),
            Verdict::Never(NeverReason::WrongPayload),
            Verdict::Never(NeverReason::Conflict),
        ];
        vec![
            Frame::Hello(Hello { node: node.clone(), boot: u64::MAX, topology_version: 4, medium: None }),
            Frame::Hello(Hello { node: node.clone(), boot: 1, topology_version: 4, medium: Some(Medium::Cellular) }),
            Frame::Doubt(Medium::Fiber),
            Frame::Topology(Bytes::from_static(b"estafet-topology 1")),
            Frame::Heartbeat { busy: true, lsdb: None, clock: None },
            Frame::Heartbeat { busy: false, lsdb: Some(LsdbDigest(u64::MAX)), clock: Some(UnixMillis(u64::MAX)) },
            Frame::LsdbSummary(vec![LsaVersion { origin: node, sequence: 12, checksum: u32::MAX }]),
            Frame::Lsas(vec![Bytes::from_static(b"lsa")]),
            Frame::ReceiptSummary(vec![ReceiptVersion {
                key,
                rank: ReceiptRank { losses: 1, last: 100, count: 99, digest: u64::MAX },
            }]),
            Frame::Receipts(vec![]),
            Frame::Offers(vec![offer(None), offer(Some("cadangan".parse().unwrap()))]),
            Frame::Answers(verdicts.map(|verdict| Answer { id: id(), verdict }).to_vec()),
            Frame::Acceptances(vec![id()]),
            Frame::Seek(vec![id()]),
            Frame::Withdrawn(vec![id()]),
            Frame::Inventory(vec![set(&[1]), set(&[2, 3, 4, 9, 300])]),
            Frame::Holdings(vec![
                Holding { set: set(&[]), digest: SetDigest([0; 32]) },
                Holding { set: set(&[1, 3]), digest: SetDigest([7; 32]) },
            ]),
        ]
    }

    fn set(seqs: &[u32]) -> RecordSet {
        let seqs = seqs.iter().copied().filter_map(Seq::new).collect();
        RecordSet::new(7, id().origin, id().epoch, seqs).unwrap()
    }

    #[test]
    fn every_frame_survives_the_wire() {
        for frame in frames() {
            assert_eq!(Frame::decode(frame.encode().slice(4..)), Ok(frame));
        }
    }

    #[test]
    fn long_lists_are_split_and_nothing_is_lost() {
        let ids: Vec<RecordId> = (1..=10_000).map(|seq| format!("sail.3.{seq}").parse().unwrap()).collect();
        let frames = Frame::Acceptances(ids.clone()).split();
        assert_eq!(frames.len(), 313);
        let parts = frames.into_iter().flat_map(|frame| match frame {
            Frame::Acceptances(ids) => ids,
            other => panic!("{other:?}"),
        });
        assert_eq!(parts.collect::<Vec<_>>(), ids);
        let receipts = vec![Bytes::from(vec![0; 100_000]); 5];
        assert_eq!(Frame::Receipts(receipts).split().len(), 3);
        assert_eq!(Frame::Receipts(vec![]).split(), vec![Frame::Receipts(vec![])]);
        assert_eq!(Frame::Inventory(vec![set(&[1]); 65]).split().len(), 2);
    }

    #[test]
    fn damage_is_an_error_never_a_panic() {
        for frame in frames() {
            let bytes = frame.encode().slice(4..);
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let _verdict = Frame::decode(Bytes::from(damaged));
            }
            for length in 0..bytes.len() {
                let _verdict = Frame::decode(bytes.slice(..length));
            }
        }
        assert_eq!(Frame::decode(Bytes::new()), Err(BadFrame::Field("frame kind")));
    }
}
