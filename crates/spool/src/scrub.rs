//! Looking through one segment of a spool that is in use, before anybody reads what is in it.
//!
//! Every record that begins in the segment is read with its whole payload, wherever that lies. What no record needs is
//! not looked at.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use estafet_model::RecordId;

use crate::append::Extent;
use crate::contents::{Contents, Finding};
use crate::format::{parse_name, segment_name};
use crate::recovery::stored_record;
use crate::shelf::Shelf;
use crate::table::Row;

/// What was found in a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// How many bytes were read.
    pub bytes: u64,
    /// Records that cannot be read, and where they are.
    pub broken: Vec<(RecordId, Extent)>,
    /// Something cannot be read, and the segment does not say whose it is.
    pub unnamed: bool,
}

impl Shelf {
    /// The segments that are complete, oldest first.
    pub(crate) fn complete_segments(&self) -> std::io::Result<BTreeSet<u64>> {
        let files = self.disk().list()?.into_iter().filter_map(|file| parse_name(&file.name));
        let mut segments: BTreeSet<u64> = files.filter(|(_, spare)| !spare).map(|(generation, _)| generation).collect();
        segments.pop_last();
        Ok(segments)
    }

    /// Looks through a segment. `paced` is told of bytes that were read, and may end it.
    pub(crate) fn scrub(&self, generation: u64, paced: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Scrubbed {
        let mut scrubbed = Scrubbed::default();
        let Some(contents) = self.contents(generation) else { return scrubbed };
        let mut records = Vec::new();
        contents.each(generation, &mut |finding| match finding {
            Finding::Row(Row::Record(stored, chunks)) => {
                let bytes = chunks.iter().map(|share| u64::from(share.bytes)).sum::<u64>();
                records.push((stored.id, stored.record, bytes + u64::from(stored.record.length)));
            }
            Finding::Broken(meta, entry) => records.push((stored_record(&meta, entry).id, entry, 0)),
            Finding::Damage { .. } => scrubbed.unnamed = true,
            Finding::Row(_) => {}
        });
        let named: BTreeSet<RecordId> = records.iter().map(|(id, ..)| id.clone()).collect();
        for (id, place, bytes) in records {
            if self.is_wanted(&id, place) && self.check(place).is_err() && self.is_wanted(&id, place) {
                scrubbed.broken.push((id, place));
            }
            scrubbed.bytes += bytes;
            if paced(bytes).is_break() {
                return scrubbed;
            }
        }
        if scrubbed.unnamed {
            scrubbed.broken.extend(self.unnamed_in(generation, &named));
        }
        if scrubbed.unnamed || !scrubbed.broken.is_empty() {
            self.keep_damaged(generation);
        }
        scrubbed
    }

    fn contents(&self, generation: u64) -> Option<Contents> {
        let name = segment_name(generation);
        // It may have been given back since it was listed.
        let bytes = self.disk().list().ok()?.into_iter().find(|file| file.name == name)?.bytes;
        let file = self.disk().open(&name).ok()?;
        Some(Contents::load(&*file, generation, bytes))
    }

    /// An archive has no index: whoever keeps one knows which of its copies counts.
    fn is_wanted(&self, id: &RecordId, place: Extent) -> bool {
        let index = self.index();
        index.is_empty() || index.find_live(id) == Some(place)
    }

    /// Live records that begin in this segment, by the index, and that it does not name.
    fn unnamed_in(&self, generation: u64, named: &BTreeSet<RecordId>) -> Vec<(RecordId, Extent)> {
        let index = self.index();
        let missing = index.live_in(generation).into_iter().filter(|id| !named.contains(id));
        let placed = missing.filter_map(|id| Some((index.find_live(&id)?, id)));
        placed.filter(|(place, _)| place.generation == generation).map(|(place, id)| (id, place)).collect()
    }
}
