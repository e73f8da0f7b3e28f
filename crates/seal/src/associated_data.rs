//! What a header says that sealing binds to the content.

use bytes::Bytes;
use estafet_model::{Class, Kind, MediaType, NodeId, RecordHeader, UnixMillis, Writer};

/// What is known of a record before it has a number. Who opens it under another header fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociatedData(Bytes);

impl AssociatedData {
    /// Of a record that is being captured.
    #[must_use]
    pub fn new(origin: &NodeId, class: Class, kind: &Kind, media_type: &MediaType, captured_at: UnixMillis) -> Self {
        let mut writer = Writer::new();
        writer.text("estafet sealed content v1").text(origin.as_str()).text(class.as_str());
        writer.text(kind.as_str()).text(media_type.as_str()).u64(captured_at.0);
        Self(writer.finish())
    }

    /// Of a record that has its header.
    #[must_use]
    pub fn of(header: &RecordHeader) -> Self {
        Self::new(&header.id.origin, header.class, &header.kind, &header.media_type, header.captured_at)
    }

    /// The canonical form.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
