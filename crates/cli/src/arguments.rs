//! What can be typed.

mod members;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use estafet_audit_log::LineHash;
use estafet_model::{NodeId, PublicKey};
use estafet_sim::Drill;
use estafet_topology::Template;

pub(crate) use self::members::{KnownNode, NewNode, NodeChange, OperatorChange, Request};
use crate::commands::drill;
use crate::demo::DemoOptions;
use crate::moment::Moment;
use crate::record_name::RecordName;

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  it failed, was not found, or the answer is bad news: faults in the file, records missing,
     single points of failure, a drill that was not passed
  2  the command was not understood
  3  no node answered; of a change that is signed: no node has been told yet
  4  the answer lacks the word of somebody: audit: nothing is missing of what is known, but there
     are offices whose newest word is not known, because no way leads to them; also verify chain
     and incident; of a change: another admin has still to sign it

Times are shown by the time zone of this machine, or of TZ; in JSON they are UTC.";

/// Operate a city of Estafet relays.
#[derive(Debug, Parser)]
#[command(name = "topology", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// What counts for every command.
    #[command(flatten)]
    pub options: Options,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What counts for every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// The city's folder, as `topology init` makes it: addresses, keys, and the operator's own key.
    #[arg(long, global = true, env = "ESTAFET_CITY", value_name = "DIR")]
    pub city: Option<PathBuf>,
    /// Ask this node instead of the first that answers.
    #[arg(long, global = true, value_name = "ID")]
    pub node: Option<NodeId>,
    /// Ask the node that listens on this Unix socket; no city folder is needed.
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "node")]
    pub socket: Option<PathBuf>,
    /// Print JSON: one object, the last line of standard output (records and tail: one object per line).
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do about records in quarantine.
#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// List them with the reason, at --node or at every node that answers. Exit code 1 if there are any.
    List,
    /// Try them again now, all or one, at --node or wherever they are. Needs the role operator.
    Retry {
        /// A slip or a record id; by default all.
        record: Option<RecordName>,
    },
    /// Write a record's payload to a file, from the node that has it in quarantine, verified. Needs the role operator.
    Export {
        /// A slip or a record id.
        record: RecordName,
        /// The file to write; it appears only when it is complete.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// What a node runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Supply {
    /// The mains.
    Mains,
    /// A battery that lasts a while.
    Battery,
    /// A battery that is nearly empty.
    Low,
}

/// What to rotate.
#[derive(Debug, Subcommand)]
pub enum Rotation {
    /// Let new records be sealed to another key of a main server. What was sealed before opens with the key before.
    ///
    /// First, at the main server: `estafet-relay seal-key new --config relay.toml > seal-key.txt`, and copy the file that it
    /// has made in the folder `seal` to a safe place. Then bring seal-key.txt, which is public, here.
    SealKey {
        /// The main server.
        #[arg(value_name = "HUB")]
        hub: NodeId,
        /// The file with the line that `estafet-relay seal-key new` printed.
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
    },
}

const INCIDENT_WORDS: &str = "\
How it is known:
  captured    certain   it was handed in there
  announced   certain   the machine said that it holds it, or gave a number under which nobody has a record
  received    certain   another node received it from the machine
  accepted    certain   the machine accepted custody of it
  kept        possible  it was handed in there in the 30 days before, and the machine may have had its copy still
  offered     possible  it was on its way to the machine
  passed      possible  it came by a way that may lead over the machine, or the machine is its office's neighbor";

/// What to check.
#[derive(Debug, Subcommand)]
pub enum Verify {
    /// Check a receipt of one record against a signed topology alone. Asks nobody.
    ///
    /// Exit code 1 if it proves nothing: it was changed, its signer was never a main server, or the topology is not to be
    /// believed.
    Receipt {
        /// The receipt, as `topology receipt` wrote it or as a mail brought it.
        file: PathBuf,
        /// The signed topology; by default the city's.
        #[arg(long, value_name = "FILE")]
        topology: Option<PathBuf>,
        /// Whose signature on the topology counts; may be given more than once. By default that of an admin whom it lists
        /// itself: then compare the key that is printed with one that you were given.
        #[arg(long = "operator-key", value_name = "KEY", requires = "topology")]
        operator_keys: Vec<PublicKey>,
    },
    /// Walk along a main server's chain of commits, and compare it with what it has told others before, and with heads and
    /// receipts in files: a main server that has changed its history since is found.
    ///
    /// Exit code 1 if its history is another now; 4 if a part of it cannot be compared, because it tells another chain since
    /// (its archive was lost, or was an old copy), or nobody else remembers a head of it.
    Chain {
        /// Heads, as `topology heads -o` writes them, or receipts of single records.
        files: Vec<PathBuf>,
        /// The main server; by default each that answers.
        #[arg(long, value_name = "ID")]
        hub: Option<NodeId>,
    },
    /// Check an audit log that `topology audit-log` wrote: that every line is the node's, and follows the one before. Exit code
    /// 1, and the first bad line, if one was changed, taken out, put in or moved. Asks nobody.
    ///
    /// Lines that are missing at the end are found by whoever has noted a head earlier, such as `audit_log_head` of `topology
    /// show --json`: give it with --head.
    AuditLog {
        /// The log.
        file: PathBuf,
        /// The topology that names the node's key, plain or signed; by default the city's.
        #[arg(long, value_name = "FILE")]
        topology: Option<PathBuf>,
        /// A head that was noted, which the log is to hold: 64 hexadecimal digits.
        #[arg(long, value_name = "HASH")]
        head: Option<LineHash>,
        /// The line with which the file is to begin, if it was fetched with --from.
        #[arg(long, value_name = "NUMBER")]
        from: Option<u64>,
    },
}

/// What to do about planned outages.
#[derive(Debug, Subcommand)]
pub enum Outage {
    /// Write one into the city's topology.toml, raise its version, sign it with the operator's key and push it to a node.
    Add(NewOutage),
    /// List them with what they strike and when they come next, each with the number that `outage remove` asks for.
    List,
    /// Take one out of the city's topology.toml, raise its version, sign it and push it, as `outage add` does.
    Remove(WhichOutage),
}

/// An outage that is planned.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("struck").multiple(true)))]
pub struct WhichOutage {
    /// Its number and its check, as `outage list` prints them: 3-7f2a. The check is of what it says, so that nobody takes
    /// out another one because the list has changed.
    #[arg(value_name = "NUMBER-CHECK", required_unless_present = "start", conflicts_with_all = ["start", "struck"])]
    pub number: Option<String>,
    /// Instead: a node that it darkens. All that it strikes is to be named, as it was when it was added.
    // Takes the place of the --node that says whom to ask.
    #[arg(long = "node", value_name = "ID", id = "node", group = "struck", requires = "start")]
    pub nodes: Vec<NodeId>,
    /// Instead: a link that it darkens.
    #[arg(long = "link", value_name = "A-B[:MEDIUM]", id = "links", group = "struck", requires = "start")]
    pub links: Vec<String>,
    /// Instead: a shared risk.
    #[arg(long = "risk", value_name = "RISK", id = "risks", group = "struck", requires = "start")]
    pub risks: Vec<String>,
    /// And when it begins the first time.
    #[arg(long, value_name = "TIME", requires = "struck")]
    pub start: Option<Moment>,
}

/// An outage that is known beforehand.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("strikes").multiple(true).required(true)))]
pub struct NewOutage {
    /// A node that goes dark; --node may be given more than once.
    // Takes the place of the --node that says whom to ask: nobody is asked here.
    #[arg(long = "node", value_name = "ID", id = "node", group = "strikes")]
    pub nodes: Vec<NodeId>,
    /// A link that goes dark though its ends go on: rumbai-sukajadi, or one of several bearers, rumbai-sukajadi:radio; may
    /// be given more than once.
    #[arg(long = "link", value_name = "A-B[:MEDIUM]", id = "links", group = "strikes")]
    pub links: Vec<String>,
    /// A shared risk: all that names it goes dark; may be given more than once.
    #[arg(long = "risk", value_name = "RISK", id = "risks", group = "strikes")]
    pub risks: Vec<String>,
    /// When it begins: `now`, or with the offset from UTC: 2013-08-06T18:00:00+07:00. An outage that is over is refused.
    #[arg(long, value_name = "TIME")]
    pub start: String,
    /// How long it lasts: 3h.
    #[arg(long = "for", value_name = "SPAN", allow_hyphen_values = true)]
    pub lasts: String,
    /// How often it comes again, from start to start: 1d.
    #[arg(long, value_name = "SPAN")]
    pub every: Option<String>,
    /// Why, for people.
    #[arg(long, value_name = "TEXT", default_value = "planned outage")]
    pub reason: String,
}

/// A time that something lasts.
fn parse_span(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| format!("{error}: write it as 2h, 90m or 1d"))?;
    match span {
        Duration::ZERO => Err("write how long: 2h, 90m or 1d".to_owned()),
        _ if span > SPAN_MAX => {
            Err("at most 366d; for longer leave it out, or take the node out of the city".to_owned())
        }
        _ => Ok(span),
    }
}

/// What is away for longer is away for good.
const SPAN_MAX: Duration = Duration::from_secs(366 * 86_400);

/// No link at all is no advice.
fn at_least_one(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "write a whole number".to_owned())?;
    if number == 0 {
        Err("ask for one link at least; `topology spof` says what stands without any".to_owned())
    } else {
        Ok(number)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a city's folder: topology, operator key, and a configuration and key for each node.
    Init {
        /// The plan to begin with: pekanbaru, pekanbaru-cadangan (two main servers) or pekanbaru-2013.
        #[arg(long, value_name = "NAME")]
        template: Template,
        /// The folder, new or empty.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Find every fault of a topology file, with its line, column and remedy. Warns of offices without a second way, and of
    /// those that only metered links lead to.
    Check {
        /// A topology, plain or signed.
        file: PathBuf,
    },
    /// Tell what a topology changes, before it is signed. Asks nobody.
    Diff {
        /// The new one, signed or not; by default topology.toml in the city's folder.
        file: Option<PathBuf>,
        /// The one before; by default the last in the city's folder that nodes take.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Sign a topology, so that nodes believe it, and tell what it changes.
    ///
    /// A file that another admin has signed gets a further signature. Look at it first with `topology diff`.
    Sign {
        /// The topology as people write it, or as another admin has signed it; by default topology.toml in the city's folder.
        file: Option<PathBuf>,
        /// The private key of one of its admins (PKCS #8 PEM); by default operator.key in the city's folder.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Whose key it is; by default whoever the topology lists with it.
        #[arg(long, value_name = "ID")]
        operator: Option<String>,
        /// Where to write; by default city.topology beside a file of people, or in the city's folder.
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show every node and link: state, next hop, records held, last receipt.
    Show,
    /// Show the way from a node to another, or to the nearest hub, with its alternates.
    Path {
        /// Where the way begins.
        from: NodeId,
        /// Where it ends; by default the nearest hub.
        to: Option<NodeId>,
    },
    /// Tell who would be cut off, and who would take another way, if nodes, links or risks failed, or by the planned
    /// outages of a moment.
    ///
    /// Needs no node. If one answers, what is dark, draining or broken already counts as that, beside all that is named,
    /// and it is told for how long each office that is cut off has room for its captures, at the pace of its last day.
    /// With --at only what is planned for then counts, with --file only that file.
    #[command(group(ArgGroup::new("failing").required(true).multiple(true)))]
    Impact {
        /// The nodes that fail. All that is named fails at once.
        #[arg(group = "failing", value_name = "NODE")]
        nodes: Vec<NodeId>,
        /// A link that fails, by its ends: rumbai-sukajadi, or rumbai,sukajadi; one of several bearers by what carries it
        /// as well: rumbai-sukajadi:radio. Can be repeated.
        #[arg(long = "link", group = "failing", value_name = "A-B[:MEDIUM]")]
        links: Vec<String>,
        /// A shared risk that strikes: every node and every link that names it fails. Can be repeated.
        #[arg(long = "risk", group = "failing", value_name = "RISK")]
        risks: Vec<String>,
        /// What planned outages darken at this moment fails as well: `now`, or such as 2013-08-06T19:00:00+07:00.
        #[arg(long, group = "failing", value_name = "TIME")]
        at: Option<Moment>,
        /// A topology, plain or signed; by default the city's.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Ask nobody: judge the topology as if all else were well.
        #[arg(long)]
        offline: bool,
    },
    /// List every node, link and risk whose loss alone isolates an office, worst first. Exit code 1 if there are any.
    /// Asks nobody.
    Spof {
        /// A topology, plain or signed; by default the city's.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Propose the fewest new links, and if need be a second hub, against what `spof` lists. Asks nobody.
    Advise {
        /// How many links at most; at least 1.
        #[arg(long, value_name = "NUMBER", default_value = "3", value_parser = at_least_one)]
        links: usize,
        /// A topology, plain or signed; by default the city's.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Find a record: who has it, since when, or whose receipt covers it. Asks every node.
    Trace {
        /// A slip (SKJ0-4000-1A7K) or a record id (rumbai.513.42).
        record: RecordName,
    },
    /// List records: those that --node has, or those of every node that answers, and say where there are more.
    Records {
        /// Only those in this state.
        #[arg(long, value_parser = ["waiting", "offered", "accepted", "quarantined", "committed"])]
        state: Option<String>,
        /// At most this many from each node; 0 is all.
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: u32,
    },
    /// See to records that were set aside: refused for good, or not readable on a node's disk.
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// Count what each origin captured against what is receipted and held. Exit code 1 if any record is missing, 4 if none
    /// is and there are origins that the node which answers cannot reach: they may have captured more.
    Audit {
        /// Name instead the nodes that accepted records and did not bring them home in time, though others did, by the word of
        /// all who answer. Exit code 1 if there are any, 4 if there are none and somebody does not answer.
        #[arg(long)]
        suspects: bool,
    },
    /// Bring a node's audit log: who changed what, and who was refused. Needs the role admin.
    ///
    /// Byte for byte as the node signed it, a line of JSON for each entry. Kept elsewhere it shows what somebody takes out of the
    /// node's own later: `topology verify audit-log`.
    AuditLog {
        /// The node.
        // Takes the place of the --node that says whom to ask.
        #[arg(value_name = "ID", id = "known_node")]
        node: NodeId,
        /// Only from this line on.
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        from: u64,
        /// The file to write; it appears only when it is complete. By default standard output.
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Fetch a committed record's payload from a hub, verified against its hash. Needs the role operator.
    Fetch {
        /// A slip (SKJ0-4000-1A7K) or a record id (rumbai.513.42).
        record: RecordName,
        /// The file to write; it appears only when it is complete.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print each record as a hub commits it, until Ctrl-C.
    Tail {
        /// Also the commits before now, from this number of the hub on.
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        from: u64,
    },
    /// Get a main server's signed receipt for one record. It stands alone: `verify receipt` checks it anywhere.
    Receipt {
        /// A slip (SKJ0-4000-1A7K) or a record id (rumbai.513.42).
        record: RecordName,
        /// The file to write; by default it is printed.
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check what main servers have signed.
    #[command(subcommand)]
    Verify(Verify),
    /// List how far each main server's chain of commits has come, as it has told others, and who remembers that.
    Heads {
        /// Write the furthest head of each chain that another node has heard to this file, for `verify chain` in later
        /// years; it appears only when it is complete.
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Tell what a machine held that is out of your hands, from what all others know: the record ids, what of them could be
    /// read there, and how many they are. The machine itself is not asked. Needs the role operator.
    ///
    /// What it held for certain stands apart from what it may have held: where nobody can know, a record is counted rather
    /// than left out. Exit code 4 if somebody did not answer.
    #[command(after_help = INCIDENT_WORDS)]
    Incident {
        /// The node whose machine it is, also one that was removed or replaced since.
        node: NodeId,
        /// From when on: what came to it later counts, and what it may have kept from the 30 days before as possible. `now`,
        /// or with the offset from UTC: 2013-08-06T18:00:00+07:00.
        #[arg(long, value_name = "TIME")]
        since: Moment,
        /// Write each record on a line of its own (CSV) to this file; it appears only when it is complete.
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Lead records around a node, such as before work on it. It hands over what it has; its own counter goes on.
    ///
    /// What arrives at it all the same is taken. To a main server that drains nothing is sent: if no other serves, records
    /// wait where they are, and a warning says so. Lasts over restarts, until `undrain` or the end of --for. Needs the
    /// role operator.
    Drain {
        /// The node.
        node: NodeId,
        /// For how long, such as 2h; by default until `undrain`.
        #[arg(long = "for", value_name = "SPAN", value_parser = parse_span, allow_hyphen_values = true)]
        lasts: Option<Duration>,
        /// Why, for whoever looks; at most 64 bytes. A node that drains already keeps its earlier reason if none is given.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// End what `drain` began. Needs the role operator.
    Undrain {
        /// The node.
        node: NodeId,
    },
    /// Tell a node what it runs on, where no UPS tells it. Needs the role operator.
    Power {
        /// The node.
        node: NodeId,
        /// On low it hands over what it can, says goodbye and stops.
        #[arg(value_enum)]
        supply: Supply,
    },
    /// Give a signed topology to a node, from which it spreads to all others. Needs the role operator.
    ///
    /// Each node takes it if it is newer than its own and an admin of its own has signed it, keeps it over restarts, and
    /// heeds it at once; what changes main servers, or a node's own role or addresses, waits for that node's next start.
    Push {
        /// The signed file; by default the city's city.topology.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Plan outages: nodes drain themselves before they come.
    #[command(subcommand)]
    Outage(Outage),
    /// Let a machine into the city, replace one, or take a node out of it. Needs the role admin.
    ///
    /// Each changes the city's topology.toml, raises its version, signs it with the operator's key, and pushes it to a node,
    /// from which it spreads.
    #[command(subcommand)]
    Node(NodeChange),
    /// Say who may look, operate and administer; or make the key of an operator. Needs the role admin.
    #[command(subcommand)]
    Operator(OperatorChange),
    /// Put another key in the place of one that is in use.
    #[command(subcommand)]
    Rotate(Rotation),
    /// Play an outage that happened: the network as it was beside the same with Estafet. Asks nobody, needs no city.
    ///
    /// Real routing, custody and log under virtual time; the seed draws the cuts, the lines and who comes to a counter.
    /// Exit code 1 if a figure is missed or a promise broken.
    #[command(after_help = drill::help())]
    Drill {
        /// Which: pekanbaru-2013, bogor-2019 or ambon-2019.
        #[arg(value_name = "NAME")]
        drill: Drill,
        /// What decides everything: the same seed plays the same.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many days of it; by default as many as it had, which is what the figures are for.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=366))]
        days: Option<u32>,
    },
    /// Run a city of real relays on this machine, cut the power of one, and show that nothing is lost.
    Demo(DemoOptions),
    /// Print the completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}
