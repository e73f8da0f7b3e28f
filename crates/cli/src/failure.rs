//! How a command ends.

use std::io;
use std::path::{Path, PathBuf};

use estafet_model::{Fingerprint, JoinRequestError, NodeId, RecordId, RecordReceiptError};
use estafet_tls::{KeyFileError, TlsError};
use estafet_topology::{Fault, Faults, SignError};
use miette::Diagnostic;
use tonic::{Code, Status};

use crate::demo::DemoFailure;
use crate::reach::Silence;
use crate::record_name::RecordName;

/// A command that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done, and the answer is as one hopes.
    Good,
    /// Done, and the answer is bad news: faults, missing records, not found. It has been written.
    Bad,
    /// Done, and the answer has been written, but there are nodes or admins whose word it lacks.
    Incomplete,
    /// Done here, but no node answered that could have been told.
    Untold,
}

impl Outcome {
    /// As `--help` documents it.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Bad => 1,
            Self::Untold => 3,
            Self::Incomplete => 4,
        }
    }
}

/// A command that could not do its work: what happened, where, and what to do next.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Failure {
    /// A file could not be read.
    #[error("failed to read {}: {error}", path.display())]
    #[diagnostic(help(
        "check the path and its permissions; in a city's folder, made by `topology init`, an admin needs topology.toml as well"
    ))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file could not be written.
    #[error("failed to write {}: {error}", path.display())]
    #[diagnostic(help("check the permissions of the folder and the space on its disk"))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The answer could not be written.
    #[error("failed to write the answer: {0}")]
    Output(io::Error),
    /// A city would have been made over something else.
    #[error("{} is not empty", .0.display())]
    #[diagnostic(help("name a new folder: a city is never made over another one, whose keys would be lost"))]
    FolderNotEmpty(PathBuf),
    /// The operating system gave no port.
    #[error("failed to find a free loopback port: {0}")]
    NoPort(io::Error),
    /// No seal key could be made.
    #[error("failed to make a seal key")]
    NoSealKey(#[from] estafet_seal::NoRandomness),
    /// Nothing can be sealed to it.
    #[error(transparent)]
    #[diagnostic(help("copy what `estafet-relay seal-key new` printed at the main server, whole"))]
    BadSealKey(#[from] estafet_seal::BadSealKeys),
    /// The file holds something else.
    #[error("{} holds no seal key", .0.display())]
    #[diagnostic(help(
        "it holds the line that `estafet-relay seal-key new` printed at the main server: xwing: and 1,627 characters"
    ))]
    NoSealKeyIn(PathBuf),
    /// The topology has no such main server.
    #[error("`{name}` is no main server")]
    #[diagnostic(help("{remedy}"))]
    HubUnknown {
        /// What was asked for.
        name: NodeId,
        /// What may be meant.
        remedy: String,
    },
    /// A private key was not read or made.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Key(#[from] KeyFileError),
    /// The topology has faults.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Faults(#[from] Faults),
    /// The signed topology is not to be believed.
    #[error("failed to trust {}", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Why: an [`UntrustedTopology`](estafet_topology::UntrustedTopology).
        #[diagnostic_source]
        error: Box<dyn Diagnostic + Send + Sync>,
    },
    /// An admin's folder is believed by the admin's own signature.
    #[error("{} does not bear your signature, and is not trusted in your folder", .0.display())]
    #[diagnostic(help(
        "if somebody you know says that it is your city's, sign it: `topology sign {}`; what is signed by others goes on counting",
        .0.display()
    ))]
    NotSignedByOwner(PathBuf),
    /// There is nothing to compare with.
    #[error("no version before this one is in {}", .0.display())]
    #[diagnostic(help("name one with --from FILE"))]
    NoVersionBefore(PathBuf),
    /// The topology was not signed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Sign(Box<SignError>),
    /// The key is nobody's.
    #[error("{} lists no operator with the key in {}", file.display(), key.display())]
    #[diagnostic(help("add [[operator]] with key = \"{public}\" and role = \"admin\", or sign with another key"))]
    SignerUnlisted {
        /// The topology.
        file: PathBuf,
        /// The private key's file.
        key: PathBuf,
        /// Its public half.
        public: String,
    },
    /// A node would take the file for old.
    #[error("{} is version {there}, and what is to be signed is version {new}", out.display())]
    #[diagnostic(help("nodes keep the highest version: raise `version` to {} or more", there + 1))]
    VersionNotRaised {
        /// The signed file that is there.
        out: PathBuf,
        /// Its version.
        there: u64,
        /// The new one's.
        new: u64,
    },
    /// The topology file cannot be changed by a program.
    #[error("failed to change {}: {what}", path.display())]
    #[diagnostic(help("`topology check {}` says more", path.display()))]
    Uneditable {
        /// The file.
        path: PathBuf,
        /// What is in the way.
        what: String,
    },
    /// What was asked for does not fit what is there.
    #[error("{} would not hold together any more:{}", path.display(), lines(.faults))]
    #[diagnostic(help("nothing was changed: each line above is what to change in what you typed"))]
    NotFitting {
        /// The topology.
        path: PathBuf,
        /// What would be wrong with it.
        faults: Vec<Fault>,
    },
    /// A file holds no join request, or a changed one.
    #[error("failed to read {}: {error}", path.display())]
    #[diagnostic(help("let the machine print it again: `estafet-relay init` with the same words"))]
    JoinRequest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: JoinRequestError,
    },
    /// The request is not the one that the machine has made.
    #[error("the key of `{who}` shows the fingerprint {shown}, and not {heard}")]
    #[diagnostic(help(
        "let it be read again, slowly. If it stays another, somebody has changed the key on its way: do not let it in"
    ))]
    OtherFingerprint {
        /// Whose key it should be.
        who: String,
        /// The fingerprint of what came.
        shown: Fingerprint,
        /// What was typed.
        heard: Fingerprint,
    },
    /// Nobody has said that it is the right key. What it should be is not told: it is to be heard from over there.
    #[error("nobody has compared the fingerprint of the key of `{0}`")]
    #[diagnostic(help("call somebody over there, let them read theirs, and give it with --fingerprint"))]
    FingerprintNotCompared(String),
    /// The request is for another node.
    #[error("the request is for `{asks}`, and not for `{meant}`")]
    #[diagnostic(help("a new machine of `{meant}` asks with: estafet-relay init --node {meant}"))]
    RequestOfOther {
        /// Who was meant.
        meant: NodeId,
        /// Who asks.
        asks: NodeId,
    },
    /// A new machine has the id of one that is there.
    #[error("the topology has a node `{0}` already")]
    #[diagnostic(help("a new machine for it: `topology node replace {0}`; another office needs an id of its own"))]
    NodeExists(NodeId),
    /// The machine is the one that is there.
    #[error("`{0}` has this key already: nothing is to be replaced")]
    #[diagnostic(help("a new machine makes its own key with `estafet-relay init`"))]
    SameMachine(NodeId),
    /// A main server's key cannot change, for its receipts would count no more.
    #[error("`{0}` is a main server: with another key, the receipts that it has signed would count no more")]
    #[diagnostic(help(
        "move its node.key and its data folder to the new machine, or add a second main server by hand"
    ))]
    HubKeepsItsKey(NodeId),
    /// Nobody would commit records.
    #[error("`{0}` is the only main server")]
    #[diagnostic(help("add another [[hub]] to topology.toml first: records would have nowhere to go"))]
    OnlyHub(NodeId),
    /// Others have no way without it.
    #[error("without `{node}` these have no way to a main server: {cut_off}")]
    #[diagnostic(help("give them another link first; `topology impact {node}` and `topology advise` say more"))]
    OthersCutOff {
        /// Who was to go.
        node: NodeId,
        /// Who would be cut off.
        cut_off: String,
    },
    /// Nobody of that name was removed or replaced, or all of it is accepted.
    #[error("nothing of `{0}` is refused for a key that it has no more")]
    #[diagnostic(help(
        "[[former_node]] in topology.toml lists the nodes that were removed and the machines that were replaced"
    ))]
    NothingToAccept(NodeId),
    /// Somebody of that name is there.
    #[error("the topology has an operator `{0}` already")]
    #[diagnostic(help("choose another name; for a new key add it under one, and then remove `{0}`"))]
    OperatorExists(String),
    /// There is no such operator.
    #[error("the topology has no operator `{name}`")]
    #[diagnostic(help("{remedy}"))]
    OperatorUnknown {
        /// The name.
        name: String,
        /// What to write instead.
        remedy: String,
    },
    /// No later topology could be signed.
    #[error("without `{name}` {left} of the {required} admins are left who have to sign a topology")]
    #[diagnostic(help("add another admin first: `topology operator add NAME --role admin --key KEY`"))]
    TooFewAdmins {
        /// Who was to go.
        name: String,
        /// How many admins would be left.
        left: usize,
        /// How many have to sign.
        required: usize,
    },
    /// Nobody signs their own removal.
    #[error("`{0}` is who signs here, by the city's operator.key")]
    #[diagnostic(help("let another admin remove them, with their own key in operator.key"))]
    OwnRole(String),
    /// The file holds no receipt, or a changed one.
    #[error("failed to read the receipt in {}: {error}", path.display())]
    #[diagnostic(help(
        "it is a text from `{RECEIPT_BEGINNING}` to the signature, as `topology receipt` writes it. As it is it proves nothing: get it \
         again from whoever asked the main server for it, whole and unchanged"
    ))]
    BadReceipt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: RecordReceiptError,
    },
    /// The receipt is not by whom it says.
    #[error("the receipt for {record} proves nothing: {why}")]
    #[diagnostic(help("{remedy}"))]
    ReceiptNotBelieved {
        /// What it speaks of.
        record: RecordId,
        /// Why.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// The file holds neither a head nor a receipt, or not one that its main server has signed.
    #[error("failed to read {}: {what}", path.display())]
    #[diagnostic(help("it holds what `topology heads -o` or `topology receipt -o` wrote, whole"))]
    BadEvidence {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A main server's answer cannot be what it says.
    #[error("{node} sent what cannot be: {what}")]
    #[diagnostic(help("ask again; if it stays so, look into that node's log, and have its store verified"))]
    Absurd {
        /// Who.
        node: String,
        /// What.
        what: String,
    },
    /// What a main server's machine held is everything.
    #[error("`{0}` is a main server: its machine held all that it has committed, and the keys that open it")]
    #[diagnostic(help(
        "count everything as read unless its seal keys were elsewhere; `topology audit` says how much that is, and \
         `topology records --state committed --limit 0` of another main server names it"
    ))]
    HubHeldAll(NodeId),
    /// There is no such node.
    #[error("the topology has no node `{node}`")]
    #[diagnostic(help("{remedy}"))]
    NodeUnknown {
        /// The name.
        node: NodeId,
        /// What to write instead.
        remedy: String,
    },
    /// There is no such link.
    #[error("the topology has no link `{link}`")]
    #[diagnostic(help("{remedy}"))]
    LinkUnknown {
        /// What was written.
        link: String,
        /// What to write instead.
        remedy: String,
    },
    /// There is no such risk.
    #[error("no node and no link of the topology names the risk `{risk}`")]
    #[diagnostic(help("{remedy}"))]
    RiskUnknown {
        /// The name.
        risk: String,
        /// What to write instead.
        remedy: String,
    },
    /// The question needs another kind of node.
    #[error("`{0}` is no hub, and only a hub can answer this")]
    #[diagnostic(help("name a main server, or none: leave --node or --hub out"))]
    NotAHub(NodeId),
    /// Nobody has it in quarantine.
    #[error("no node that answers has {0} in quarantine")]
    #[diagnostic(help("`topology quarantine list` names what is there; `topology fetch` gets a committed record"))]
    NotInQuarantine(RecordName),
    /// Which of them is meant?
    #[error("{record} is in quarantine at several nodes, and need not be the same record: {nodes}")]
    #[diagnostic(help("name one of them with --node"))]
    InQuarantineTwice {
        /// The record.
        record: RecordName,
        /// Who has it.
        nodes: String,
    },
    /// What is planned for the past drains nobody.
    #[error("this outage is over since {ended}")]
    #[diagnostic(help("give a later --start or a longer --for; an outage that comes again has --every"))]
    OutageIsOver {
        /// When it ended.
        ended: String,
    },
    /// There is no such outage, or it is not clear which one is meant. Nothing was changed.
    #[error("{what}")]
    #[diagnostic(help("`topology outage list` prints each with its number and check; nothing was changed"))]
    OutageUnclear {
        /// Why.
        what: String,
    },
    /// A program would sign what somebody has edited. Nothing was changed.
    #[error("{} is not what is signed as version {signed} beside it", path.display())]
    #[diagnostic(help(
        "somebody has edited it, or another admin's change is signed: `topology sign` and `topology push` what was edited, under a higher version, or bring both files to the same state; then try again; nothing was changed"
    ))]
    Unsigned {
        /// The file.
        path: PathBuf,
        /// The version in `city.topology`.
        signed: u64,
    },
    /// What a machine has held since then nobody can say yet.
    #[error("--since {0} has not come yet")]
    #[diagnostic(help(
        "give the moment from which the machine may have been in other hands, RFC 3339 with its offset"
    ))]
    NotYet(String),
    /// There is no such folder.
    #[error("there is no city in {}", .0.display())]
    #[diagnostic(help("give the folder that `topology init` made, with --city DIR or in ESTAFET_CITY"))]
    CityMissing(PathBuf),
    /// It is not said which city is meant.
    #[error("no city is named")]
    #[diagnostic(help(
        "where --help lists --topology or --file, give the topology itself, and no folder is needed; otherwise the city's folder, \
         with --city DIR or in ESTAFET_CITY; `topology init` makes one"
    ))]
    NoCity,
    /// The operator's key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No node could be asked.
    #[error("no node answered{}", list(.0))]
    #[diagnostic(help(
        "see that a relay runs (`estafet-relay run --config DIR/nodes/ID/relay.toml`); one that runs and closes the connection, or \
         denies access, does not know the key of this folder: an admin sees with `topology operator list` who is known"
    ))]
    NobodyAnswered(Vec<Silence>),
    /// A main server does not know whoever asks.
    #[error("{node} refuses the key of this folder")]
    #[diagnostic(help(
        "others may still take it, and a machine in wrong hands will: an admin sees with `topology operator list` who is known; to ask \
         one node all the same, name it with --node"
    ))]
    KeyRefused {
        /// Which of them.
        node: String,
    },
    /// A node refused or failed.
    #[error("{node} answered: {}", status.message())]
    #[diagnostic(help("{}", remedy(status)))]
    Refused {
        /// Who.
        node: String,
        /// What it said.
        status: Box<Status>,
    },
    /// The demo could not be carried through.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Demo(#[from] DemoFailure),
    /// The log's node has no key.
    #[error("{} is no audit log of a node that the topology lists: {what}", path.display())]
    #[diagnostic(help("give the file that `topology audit-log` wrote, and with --topology the topology of its city"))]
    NoAuditLog {
        /// The file.
        path: PathBuf,
        /// What is in the way.
        what: String,
    },
    /// What came is not what was committed.
    #[error("{node} sent a damaged record: {what}")]
    #[diagnostic(help("nothing was written; fetch again, and if it stays so have the hub's store verified"))]
    Damaged {
        /// Who.
        node: String,
        /// What differs.
        what: String,
    },
}

impl Failure {
    /// As `--help` documents it. A reader who has enough and closes the pipe is no failure.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::NoCity => 2,
            Self::NobodyAnswered(_) => 3,
            Self::Refused { status, .. } if is_silence(status) => 3,
            _ => 1,
        }
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Read { path: path.to_owned(), error }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Write { path: path.to_owned(), error }
    }

    pub(crate) fn refused(node: &str) -> impl FnOnce(Status) -> Self {
        move |status| Self::Refused { node: node.to_owned(), status: Box::new(status) }
    }
}

/// True if no word of the node's own came: the connection broke, or time ran out.
fn is_silence(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
}

fn remedy(status: &Status) -> &'static str {
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => {
            "an admin gives roles: `topology operator add`; `topology operator list` tells who has which"
        }
        Code::NotFound => "check the name; another node may know more (--node ID)",
        Code::FailedPrecondition => "ask the node that is meant: its own socket, or its address in the city's topology",
        // Of `push`: what was wrong, and the remedy, the node has said.
        Code::Aborted => "nothing was changed there; `topology show` says which version each node has",
        Code::InvalidArgument => "nothing was changed there; if that does not say what to do, check what was typed",
        Code::ResourceExhausted => {
            "wait a moment, or stop the other programs that ask this node with the same key; its relay.toml says how many calls \
             are allowed (admin_calls_per_second)"
        }
        Code::Unimplemented => "the node runs another version of Estafet; ask another one with --node ID",
        _ if is_silence(status) => "the node went away while it was asked; try again, or another one with --node ID",
        _ => "look into the node's log",
    }
}

/// What is wrong and what to do, without the places: nobody has written them.
fn lines(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("\n  {}: {}", fault.what, fault.remedy)).collect()
}

/// The first few: in a dark city all say the same.
fn list(silences: &[Silence]) -> String {
    let line = |silence: &Silence| format!("\n  {}: {}", silence.node, silence.reason);
    let mut text: String = silences.iter().take(SILENCES_SHOWN).map(line).collect();
    if silences.len() > SILENCES_SHOWN {
        text += &format!("\n  and {} more", silences.len() - SILENCES_SHOWN);
    }
    text
}

const SILENCES_SHOWN: usize = 3;

const RECEIPT_BEGINNING: &str = "estafet-receipt 1";
