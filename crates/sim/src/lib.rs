//! A city under virtual time: real nodes on the real log, with disks, links, power and clocks that a seed decides.
//!
//! Everything above the disk and below the network is the code that offices run: `estafet-node` (routing, custody,
//! captures), `estafet-store` and the spool's `Log`. What is simulated is the machine and the town around it.
//!
//! # Fault model
//!
//! - **Power** of one office, of several or of all goes at any moment, also in the middle of a sync and while a node
//!   starts. What was not synced is kept, dropped, or torn at 512 bytes. A process may also be killed alone.
//! - **Disks** fill up and are given room again; a write or a sync fails, after which the log is poisoned until the
//!   disk is replaced by one with the same content. A relay's disk may be lost for good. A disk does not lie about a
//!   sync.
//! - **Links** are cut, for one direction or both, are slow, jitter so that streams overtake each other, or lose packets:
//!   each lost one is sent again after a round trip and takes the line again, what it belongs to waits for it, the sender
//!   goes as slowly as Mathis's formula says, and now and then the session dies. Control goes before payload. What was
//!   under way in a session that ended may still arrive and is ignored. Nobody is told of a cut: sessions end
//!   [`IDLE_TIMEOUT`] after the last thing heard.
//! - **Clocks** of the wall jump to 1970 and ahead by a day.
//!
//! # What is checked
//!
//! Everything that is promised (slips, acceptances, receipts) passes the [`Oracle`] in the moment it is given, and is
//! held against the bytes that a power cut in that moment would leave. See [`Run`] for the two phases of a run.
//!
//! # Drills
//!
//! A [`Drill`] is an outage that happened, played on such a city and beside it on a model of the old system: `drill.rs`.
//!
//! Read first: [`City`] (the machine), [`Run`] (one seed), `trouble.rs` (what goes wrong, and how often), [`Drill`].

mod city;
mod drill;
mod driver;
mod faults;
mod network;
mod oracle;
mod plan;
mod run;
mod seeded;
mod session;
mod store;
mod trouble;

pub use city::{City, Clock, CounterAnswer, Violation, id, key_of, millis, payload};
pub use drill::{Drill, Figure, Measures, Outcome, Row, UnknownDrill};
pub use estafet_spool::Unsynced;
pub use network::{Condition, IDLE_TIMEOUT, Traffic, piece};
pub use oracle::Oracle;
pub use plan::Place;
pub use run::{Report, Run};
pub use seeded::Seeded;
pub use store::Store;
pub use trouble::Fault;
