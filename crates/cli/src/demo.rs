//! `topology demo`: a city of real relays on this machine, a power cut in mid-flow, and the ledger at the end.
//!
//! Every office's counter hands records to its own relay over HTTP and keeps the slips. The demo follows the main
//! server's commits, kills the relay of Sukajadi, starts it again, and at the end compares what was promised with what
//! the main server has. It knows nothing that an operator with the city's folder could not know.
//!
//! Read first: `Drill` (what happens, in order) and `Ledger` (what counts). [`Fleet`],
//! [`Intake`] and [`wait_until_mapped`] also serve other programs that start relays.

mod books;
mod comparison;
mod counter;
mod drill;
mod error;
mod event;
mod fleet;
mod intake;
mod interruption;
mod keeping;
mod ledger;
mod map;
mod observers;
mod options;
mod paper;
mod screen;
mod summary;

use std::path::PathBuf;

use estafet_topology::Template;
use tempfile::TempDir;

use crate::city::CityFolder;
use crate::disk::temporary_folder;
use crate::failure::{Failure, Outcome};
use crate::init::{NewCity, init};
use crate::output::Output;

use drill::{BEHIND_CUT, Drill, HUB, node_id};
pub use error::DemoFailure;
pub use fleet::{Fleet, Relay, relay_program};
pub use intake::{Accepted, Intake, NotAccepted, Submission};
use interruption::Interruption;
pub use map::wait_until_mapped;
pub use options::DemoOptions;
use paper::Stacks;
use screen::Screen;

/// Runs the demo. [`Outcome::Good`] only if nothing is missing.
pub async fn demo(options: &DemoOptions, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let template = if options.as_built_2013 { Template::Pekanbaru2013 } else { Template::Pekanbaru };
    let stacks = Stacks::of(options, template)?;
    let mut interruption = Interruption::listen()?;
    let program = relay_program()?;
    let mut place = Place::choose(options)?;
    let city = init(template, &place.dir)?;
    let mut fleet = Fleet::new(program);

    let ended = tokio::select! {
        outcome = play(&city, &mut fleet, stacks, output) => outcome,
        () = interruption.wait() => Err(DemoFailure::Interrupted.into()),
    };
    let is_good = ended.as_ref().is_ok_and(|outcome| *outcome == Outcome::Good);
    if options.keep && ended.is_ok() {
        keeping::explain(&city, output);
        interruption.wait().await;
        output.note("Ending the city …");
    }
    fleet.terminate().await;
    if !is_good && !interruption.came() {
        place.stay();
        output.note(format_args!("The city's folder stays, with a relay.log for each node: {}", city.dir.display()));
    }
    ended
}

async fn play(city: &NewCity, fleet: &mut Fleet, stacks: Stacks, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let screen = Screen::new(&stacks);
    let remark = stacks.remark();
    if let Some(remark) = &remark {
        screen.say(remark);
    }
    let folder = CityFolder::open(&city.dir)?;
    screen.say(format_args!("{} relays start in {}", city.nodes.len(), city.dir.display()));
    for (id, node) in &city.nodes {
        fleet.start(id, &node.config)?;
    }
    for seen_from in [HUB, BEHIND_CUT[0]] {
        wait_until_mapped(&folder, &node_id(seen_from), fleet, |progress| screen.say(progress)).await?;
    }
    let mut drill = Drill::new(city, &folder, fleet, screen, stacks);
    let settlement = drill.run().await?;
    let outcome = drill.close_books(settlement).await?.answer(output)?;
    if let Some(remark) = remark {
        output.note(format_args!("Remember: {}", remark.replace("will not be sent", "not sent")));
    }
    Ok(outcome)
}

/// Where the city's folder stands.
struct Place {
    dir: PathBuf,
    /// Removed when dropped.
    temporary: Option<TempDir>,
}

impl Place {
    fn choose(options: &DemoOptions) -> Result<Self, Failure> {
        match &options.dir {
            Some(dir) => Ok(Self { dir: dir.clone(), temporary: None }),
            None => {
                let made = temporary_folder("estafet-demo-");
                let temporary = made.map_err(Failure::write(&std::env::temp_dir()))?;
                Ok(Self { dir: temporary.path().to_owned(), temporary: Some(temporary) })
            }
        }
    }

    /// A temporary folder is not removed, so that somebody can look into it.
    fn stay(&mut self) {
        if let Some(temporary) = &mut self.temporary {
            temporary.disable_cleanup(true);
        }
    }
}
