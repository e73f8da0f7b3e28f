//! Repairing a spool that nobody runs: what is whole in damaged segments is written anew, and their files are put
//! aside, for whoever can get more out of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use estafet_model::RecordId;

use crate::append::{Poisoned, TransferId};
use crate::disk::Disk;
use crate::format::segment_name;
use crate::log::Log;
use crate::recovery::OpenError;
use crate::survey::Survey;

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repair {
    /// The records that were moved out of damaged segments.
    pub saved: BTreeSet<RecordId>,
    /// The records of which no whole copy is left.
    pub lost: BTreeSet<RecordId>,
    /// The payloads that were arriving and were moved, in whole or in part.
    pub transfers: BTreeSet<TransferId>,
    /// The files that are now in the folder `damaged`.
    pub put_aside: Vec<String>,
}

/// A spool could not be repaired. What was done until then does no harm: repairing goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The spool does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What is whole could not be written anew.
    #[error("repair the spool: {0}")]
    Poisoned(#[from] Poisoned),
    /// A damaged file could not be put aside.
    #[error("put {file} aside: {error}")]
    PutAside {
        /// Which file.
        file: String,
        /// What the disk said.
        error: std::io::Error,
    },
}

impl Repair {
    /// Moves everything whole out of the segments in which the survey found damage, and puts their files aside.
    ///
    /// What is moved is durable in its new place before the old file goes, so the power may fail at any moment. Nothing
    /// is given back, released or not. The places of records change: what refers to them by
    /// [`Extent`](crate::Extent) is to be made anew.
    pub fn of(disk: &Arc<dyn Disk>, survey: &Survey) -> Result<Self, RepairError> {
        let mut repair = Self { lost: survey.lost.clone(), ..Self::default() };
        let damaged = survey.damaged_segments();
        if damaged.is_empty() {
            return Ok(repair);
        }
        let mut log = Log::open_keeping(Arc::clone(disk))?;
        if let Some(poisoned) = log.poisoned() {
            return Err(poisoned.clone().into());
        }
        log.move_all_out(survey, &damaged, &mut repair);
        log.seal()?;
        for generation in damaged {
            let file = segment_name(generation);
            let put_aside = disk.put_aside(&file).and_then(|()| disk.sync_dir());
            put_aside.map_err(|error| RepairError::PutAside { file: file.clone(), error })?;
            repair.put_aside.push(file);
        }
        Ok(repair)
    }
}
