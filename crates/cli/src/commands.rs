//! The commands, one module each.

use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tonic::Request;

use crate::arguments::{Cli, Command, OperatorChange, Options, Outage, Quarantine, Rotation, Verify};
use crate::city::{CityFolder, OPERATOR_KEY, TOPOLOGY_SIGNED, TOPOLOGY_SOURCE};
use crate::demo::demo;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::plan;
use crate::reach::{Reach, Silence};

pub mod advise;
pub mod audit;
pub mod audit_log;
mod calendar_edit;
pub mod check;
pub mod completions;
pub mod diff;
pub mod drain;
pub mod drill;
pub mod fetch;
pub mod heads;
pub mod impact;
pub mod incident;
pub mod new_city;
pub mod node;
pub mod operator;
pub mod outage;
pub mod path;
pub mod push;
pub mod quarantine;
pub mod receipt;
pub mod records;
mod room;
pub mod rotate;
pub mod show;
pub mod sign;
pub mod spof;
mod survey;
pub mod suspects;
pub mod tail;
pub mod trace;
mod trouble;
pub mod verify_chain;
pub mod verify_receipt;

/// Runs a command line.
pub async fn run(cli: Cli, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let options = &cli.options;
    let reach = || Reach::from_options(options);
    let in_city = |given: Option<PathBuf>, name: &str| {
        given.or_else(|| Some(options.city.as_ref()?.join(name))).ok_or(Failure::NoCity)
    };
    match cli.command {
        Command::Init { template, out } => new_city::init(template, &out, output),
        Command::Check { file } => check::check(&file, output),
        Command::Diff { file, from } => {
            diff::diff(&in_city(file, TOPOLOGY_SOURCE)?, from.as_deref(), options.city.as_deref(), output)
        }
        Command::Sign { file, key, operator, out } => {
            let (file, key) = (in_city(file, TOPOLOGY_SOURCE)?, in_city(key, OPERATOR_KEY)?);
            sign::sign(&file, &key, operator.as_deref(), out.as_deref(), options.city.as_deref(), output)
        }
        Command::Impact { nodes, links, risks, at, file, offline } => {
            // Another moment, or another topology, is judged as if all else were well.
            let heeds_now = at.is_none() && file.is_none();
            let named = impact::Named { nodes, links, risks, at };
            let topology = plan::topology(options, file.as_deref())?;
            // A file needs no city with nodes to ask.
            let reach = if file.is_some() { reach().ok() } else { Some(reach()?) };
            let reach = reach.filter(|_| !offline);
            let asking = reach.as_ref().map(|reach| impact::Asking { reach, heeds_now });
            impact::impact(&topology, &named, asking, output).await
        }
        Command::Spof { file } => spof::spof(&plan::topology(options, file.as_deref())?, output),
        Command::Advise { links, file } => advise::advise(&plan::topology(options, file.as_deref())?, links, output),
        Command::Drill { drill, seed, days } => drill::drill(drill, seed, days, output),
        Command::Demo(options) => demo(&options, output).await,
        Command::Completions { shell } => completions::completions(shell, output),
        Command::Show => show::show(&reach()?, output).await,
        Command::Path { from, to } => path::path(&reach()?.preferring(&from), &from, to.as_ref(), output).await,
        Command::Trace { record } => trace::trace(&reach()?, &record, output).await,
        Command::Records { state, limit } => records::records(&reach()?, state.as_deref(), limit, output).await,
        Command::Quarantine(Quarantine::List) => quarantine::list(&reach()?, output).await,
        Command::Quarantine(Quarantine::Retry { record }) => {
            quarantine::retry(&reach()?, record.as_ref(), output).await
        }
        Command::Quarantine(Quarantine::Export { record, out }) => {
            quarantine::export(&reach()?, &record, &out, output).await
        }
        Command::Drain { node, lasts, reason } => {
            drain::drain(&Reach::just(options, &node)?, &node, lasts, &reason, output).await
        }
        Command::Undrain { node } => drain::undrain(&Reach::just(options, &node)?, &node, output).await,
        Command::Power { node, supply } => drain::set_power(&Reach::just(options, &node)?, &node, supply, output).await,
        Command::Push { file } => {
            let Some(file) = file else {
                let city = outage::city(options)?;
                let outcome = push::push(&reach()?, &city.dir().join(TOPOLOGY_SIGNED), output).await?;
                push::note_unsigned(&city, output);
                return Ok(outcome);
            };
            push::push(&reach()?, &file, output).await
        }
        Command::Outage(Outage::Add(outage)) => {
            outage::add(&outage::city(options)?, &outage, output)?;
            push_outages(options, output).await
        }
        Command::Outage(Outage::Remove(which)) => {
            outage::remove(&outage::city(options)?, &which, output)?;
            push_outages(options, output).await
        }
        Command::Node(change) => {
            let city = outage::city(options)?;
            node::change(&city, &change, output)?;
            push_change(&city, options, output).await
        }
        Command::Operator(OperatorChange::Key { out }) => operator::make_key(&out, output),
        Command::Operator(OperatorChange::Add { name, role, key, fingerprint }) => {
            let city = outage::city(options)?;
            operator::add(&city, &name, role.into(), &key, fingerprint, output)?;
            push_change(&city, options, output).await
        }
        Command::Operator(OperatorChange::List) => operator::list(&outage::city(options)?, output),
        Command::Operator(OperatorChange::Remove { name }) => {
            let city = outage::city(options)?;
            operator::remove(&city, &name, output)?;
            push_change(&city, options, output).await
        }
        Command::Rotate(Rotation::SealKey { hub, key_file }) => {
            let reach = Reach::just(options, &hub)?;
            rotate::seal_key(&outage::city(options)?, &hub, &key_file, &reach, output).await
        }
        Command::Outage(Outage::List) => outage::list(&outage::city(options)?, output),
        Command::Audit { suspects: true } => suspects::suspects(&reach()?, output).await,
        Command::Audit { suspects: false } => audit::audit(&reach()?, output).await,
        Command::Receipt { record, out } => {
            receipt::receipt(options, &reach()?.hubs()?, &record, out.as_deref(), output).await
        }
        Command::Verify(Verify::Receipt { file, topology, operator_keys }) => {
            let anchor =
                verify_receipt::Anchor { options, topology: topology.as_deref(), operator_keys: &operator_keys };
            verify_receipt::verify(&file, &anchor, output)
        }
        Command::Verify(Verify::Chain { files, hub }) => {
            verify_chain::verify(&outage::city(options)?, hub.as_ref(), &files, output).await
        }
        Command::Heads { out } => heads::heads(&reach()?, out.as_deref(), output).await,
        Command::Incident { node, since, out } => {
            incident::incident(&outage::city(options)?, &node, since, out.as_deref(), output).await
        }
        Command::AuditLog { node, from, out } => {
            audit_log::bring(&Reach::just(options, &node)?, from, out.as_deref(), output).await
        }
        Command::Verify(Verify::AuditLog { file, topology, head, from }) => {
            let topology = plan::topology(options, topology.as_deref())?;
            audit_log::verify(&file, &topology, head, from, output)
        }
        Command::Fetch { record, out } => fetch::fetch(&reach()?.hubs()?, &record, &out, output).await,
        Command::Tail { from } => tail::tail(&reach()?.hubs()?, from, until_stopped(), output).await,
    }
}

/// Gives the city's changed topology to whoever the options name, as it is signed now.
async fn push_change(city: &CityFolder, options: &Options, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    push::push_change(&Reach::from_options(options)?, &city.dir().join(TOPOLOGY_SIGNED), output).await
}

/// Gives the topology with another calendar to a node.
async fn push_outages(options: &Options, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    // Their --node says what goes dark, not whom to ask.
    push_change(&outage::city(options)?, &Options { node: None, ..options.clone() }, output).await
}

/// Ends with Ctrl-C, or when nobody reads standard output any more (`topology tail | head -1`).
async fn until_stopped() {
    tokio::select! {
        () = until_ctrl_c() => {}
        () = until_nobody_reads() => {}
    }
}

async fn until_nobody_reads() {
    let stdout = std::io::stdout();
    loop {
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        // Without a wait; an error here means that it cannot be told, and then a write will tell.
        let _told = poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        if watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            return;
        }
        tokio::time::sleep(READER_LOOK).await;
    }
}

/// How often a command that waits looks whether its output is still read.
const READER_LOOK: Duration = Duration::from_millis(500);

/// Without a handler, Ctrl-C would end the program at once, which is as good.
async fn until_ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A question that a node must answer in time.
fn question<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_TIMEOUT);
    request
}

/// Tells the person who did not answer, where the answer is good without them.
fn note_silent(silent: &[Silence], output: &mut Output<'_>) {
    for Silence { node, reason, .. } in silent {
        output.note(format_args!("{node} did not answer: {reason}"));
    }
}

/// A map or an audit of a large area takes a node well under a second; the rest is for the network.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
