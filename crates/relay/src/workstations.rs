//! The counters' machines that may hand records in: each has a token, of which only the hash is kept here.
//!
//! They stand in `workstations.toml` beside `relay.toml`. A running relay looks at that file every second, so that who is
//! taken out is shut out at once, with no restart.

mod command;
mod file;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use estafet_audit_log::{Event, Who};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info};

pub(crate) use self::command::{Operation, operate};
pub(crate) use self::file::{WorkstationFile, WorkstationFileError, read_private};
use crate::audit_log::AuditLog;

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A machine that has a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Workstation {
    /// Lower-case letters, digits and inner hyphens.
    pub(crate) name: String,
    /// Of its token. Hashes are compared in constant time.
    token_hash: blake3::Hash,
    pub(crate) may: May,
}

/// What a machine may do with its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum May {
    /// Hand records in, ask for their state, and read the metrics.
    HandIn,
    /// Read the metrics, and nothing else.
    ReadMetrics,
}

impl May {
    fn as_str(self) -> &'static str {
        match self {
            Self::HandIn => "hand-in",
            Self::ReadMetrics => "metrics",
        }
    }
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Workstations(Vec<Workstation>);

impl Workstations {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose token it is. Every one is compared, whichever it is.
    pub(crate) fn by_token(&self, token: &[u8]) -> Option<&Workstation> {
        let hash = blake3::hash(token);
        self.0
            .iter()
            .fold(None, |found, workstation| if workstation.token_hash == hash { Some(workstation) } else { found })
    }

    fn by_name(&self, name: &str) -> Option<&Workstation> {
        self.0.iter().find(|workstation| workstation.name == name)
    }
}

/// Looks at the file as long as the relay runs; `current` is what counts.
pub(crate) async fn watch(file: WorkstationFile, current: watch::Sender<Arc<Workstations>>, audit_log: AuditLog) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = None;
    while !current.is_closed() {
        ticks.tick().await;
        let (known, looked_at) = (state.take(), file.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let now = looked_at.state();
            let changed = Some(&now) != known.as_ref();
            (changed.then(|| looked_at.load()), now)
        });
        // It ends only with the process.
        let Ok((loaded, now)) = looked.await else { return };
        state = Some(now);
        match loaded {
            None => {}
            Some(Ok(loaded)) => heed(&current, loaded, &audit_log),
            Some(Err(error)) => {
                error!(%error, "the workstations cannot be read; those that were known before still count");
            }
        }
    }
}

fn heed(current: &watch::Sender<Arc<Workstations>>, loaded: Workstations, audit_log: &AuditLog) {
    let before = Arc::clone(&current.borrow());
    let lacks = |all: &Workstations, one: &Workstation| !all.0.contains(one);
    for (what, from, to) in [("workstation-removed", &*before, &loaded), ("workstation-added", &loaded, &*before)] {
        for workstation in from.0.iter().filter(|workstation| lacks(to, workstation)) {
            info!(name = workstation.name, what, "the workstations have changed");
            let event = Event::noted(Who::ThisNode, what).about("name", &workstation.name);
            audit_log.note(event.about("may", workstation.may.as_str()));
        }
    }
    if *before != loaded {
        current.send_replace(Arc::new(loaded));
    }
}

/// Where the file is, by where `relay.toml` is.
pub(crate) fn file_beside(config: &std::path::Path) -> WorkstationFile {
    WorkstationFile::new(PathBuf::from(config.parent().unwrap_or(std::path::Path::new(""))).join(file::NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_workstation_s() {
        let workstation = |name: &str, token: &str| Workstation {
            name: name.to_owned(),
            token_hash: blake3::hash(token.as_bytes()),
            may: May::HandIn,
        };
        let all = Workstations(vec![workstation("loket-1", "one"), workstation("loket-2", "two")]);
        let found = |token: &str| all.by_token(token.as_bytes()).map(|workstation| workstation.name.as_str());
        let rows = [("one", Some("loket-1")), ("two", Some("loket-2")), ("three", None), ("", None), ("one ", None)];
        for (token, name) in rows {
            assert_eq!(found(token), name, "{token}");
        }
    }
}
