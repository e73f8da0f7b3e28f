//! `topology verify receipt`: what a receipt of one record proves, by a signed topology alone.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use estafet_model::{NodeId, PublicKey, RecordReceipt};
use estafet_topology::{OperatorRole, SignedTopology, Topology, did_you_mean, parse};
use serde::Serialize;

use super::outage;
use crate::arguments::Options;
use crate::city::TOPOLOGY_SIGNED;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::topology_file::decode;

/// A receipt has under a thousand characters; a mail around it, some more.
const RECEIPT_BYTES_MAX: u64 = 64 << 10;
const BODY_BEGINNING: &str = "\n---\n";

/// What a receipt is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Anchor<'a> {
    /// For the city, if no file is named.
    pub options: &'a Options,
    /// A signed topology.
    pub topology: Option<&'a Path>,
    /// Whose signatures on it count; none: those of the admins that it lists itself.
    pub operator_keys: &'a [PublicKey],
}

/// Whose word a receipt is.
#[derive(Debug, Clone)]
pub(super) struct Believed {
    /// The node was a main server, and is none any more.
    is_former: bool,
}

/// A receipt as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    record_id: String,
    slip: Option<String>,
    bytes: u32,
    blake3: String,
    header_digest: String,
    hub: String,
    chain: String,
    hub_sequence: u64,
    link: String,
    /// Its signer was a main server, and is none any more. Null if that was not looked at.
    former_hub: Option<bool>,
}

impl Shown {
    pub(super) fn new(receipt: &RecordReceipt, by: Option<&Believed>, topology: Option<&Topology>) -> Self {
        let (record, head) = (receipt.record(), receipt.head());
        let code = topology.and_then(|topology| topology.code_of(&record.id.origin));
        Self {
            record_id: record.id.to_string(),
            slip: code.map(|code| record.id.slip(code).to_string()),
            bytes: record.payload_bytes,
            blake3: record.payload_hash.to_string(),
            header_digest: record.digest.to_string(),
            hub: receipt.hub().to_string(),
            chain: head.chain.to_string(),
            hub_sequence: head.sequence,
            link: head.link.to_string(),
            former_hub: by.map(|by| by.is_former),
        }
    }
}

#[derive(Serialize)]
struct Verdict {
    #[serde(flatten)]
    receipt: Shown,
    area: String,
    topology: PathBuf,
    topology_version: u64,
    /// Who signed the topology: name and key.
    signed_by: Vec<String>,
    /// `given`: one of the keys is one that was given. `listed`: all that speaks for them is the topology itself.
    trust: &'static str,
}

/// Checks the receipt in a file. Asks nobody.
pub fn verify(file: &Path, anchor: &Anchor<'_>, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let receipt = read_bounded(file)?.parse::<RecordReceipt>();
    let receipt = receipt.map_err(|error| Failure::BadReceipt { path: file.to_owned(), error })?;
    let (path, signed, trust) = anchor.load()?;
    let topology = signed.topology();
    let by = judge(&receipt, topology)?;
    let verdict = Verdict {
        receipt: Shown::new(&receipt, Some(&by), Some(topology)),
        area: topology.area.clone(),
        topology: path,
        topology_version: topology.version,
        signed_by: signed.signers().iter().map(|signer| format!("{} {}", signer.operator, signer.key)).collect(),
        trust,
    };
    output.answer(&verdict, print)?;
    Ok(Outcome::Good)
}

/// A text file, if it is not absurdly long.
pub(super) fn read_bounded(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(Failure::read(path))?;
    file.take(RECEIPT_BYTES_MAX).read_to_string(&mut text).map_err(Failure::read(path))?;
    Ok(text)
}

impl Anchor<'_> {
    fn load(&self) -> Result<(PathBuf, SignedTopology, &'static str), Failure> {
        let Some(path) = self.topology else {
            let city = outage::city(self.options)?;
            let path = city.dir().join(TOPOLOGY_SIGNED);
            let signed = decode(&path, &read(&path)?, &[city.operator_key()])?;
            return Ok((path, signed, "given"));
        };
        let text = read(path)?;
        if !self.operator_keys.is_empty() {
            return Ok((path.to_owned(), decode(path, &text, self.operator_keys)?, "given"));
        }
        let body = text.split_once(BODY_BEGINNING).map(|(_, body)| body).unwrap_or_default();
        // What cannot be parsed lists nobody, and then decoding says what is wrong with it.
        let listed = parse(&path.display().to_string(), body).map(|topology| topology.operators).unwrap_or_default();
        let admins = listed.iter().filter(|operator| operator.role == OperatorRole::Admin);
        let admins: Vec<PublicKey> = admins.map(|operator| operator.key).collect();
        Ok((path.to_owned(), decode(path, &text, &admins)?, "listed"))
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(Failure::read(path))
}

/// Whose word a receipt is by a topology; an error if it is nobody's whose word counts.
pub(super) fn judge(receipt: &RecordReceipt, topology: &Topology) -> Result<Believed, Failure> {
    let hub = receipt.hub();
    let mut keys = topology.receipt_keys(hub).peekable();
    let not_believed =
        |why: String, remedy: String| Failure::ReceiptNotBelieved { record: receipt.record().id.clone(), why, remedy };
    if keys.peek().is_none() {
        return Err(not_believed(no_hub(hub, topology), who_is_hub(hub, topology)));
    }
    match keys.find(|(key, _)| receipt.verify(key).is_ok()) {
        Some((_, is_present)) => Ok(Believed { is_former: !is_present }),
        None => {
            let why = format!("it was changed after it was signed, or never signed by {hub}");
            let remedy = format!(
                "get it again: `topology receipt {}`; if it stays so, check that the topology is the newest",
                receipt.record().id
            );
            Err(not_believed(why, remedy))
        }
    }
}

fn no_hub(hub: &NodeId, topology: &Topology) -> String {
    let what = if topology.node(hub).is_some() { "is no main server" } else { "is no node" };
    format!("its signer `{hub}` {what} of {} by version {} of its topology", topology.area, topology.version)
}

fn who_is_hub(hub: &NodeId, topology: &Topology) -> String {
    let hubs: Vec<&str> = topology.hub_ids().map(NodeId::as_str).collect();
    did_you_mean(
        hub.as_str(),
        hubs.clone(),
        format!("main servers are {}; is it the topology of that city?", hubs.join(", ")),
    )
}

fn print(verdict: &Verdict, output: &mut Output<'_>) -> Result<(), Failure> {
    let Verdict { receipt, area, topology, topology_version, signed_by, trust } = verdict;
    let Shown { record_id, slip, bytes, blake3, header_digest, hub, chain, hub_sequence, link, former_hub } = receipt;
    let slip = slip.as_ref().map(|slip| format!(" (slip {slip})")).unwrap_or_default();
    let role = if *former_hub == Some(true) { "a former main server" } else { "main server" };
    output.line(format_args!("GOOD: {hub}, {role} of {area}, has signed that it committed {record_id}{slip}\n"))?;
    output.line(format_args!("  payload   {bytes} bytes, sealed; BLAKE3 {blake3}"))?;
    output.line(format_args!("  header    BLAKE3 {header_digest}"))?;
    output.line(format_args!("  place     number {hub_sequence} of its chain {chain}"))?;
    output.line(format_args!("  link      {link}"))?;
    output.line(format_args!("  topology  {}, version {topology_version}", topology.display()))?;
    for signer in signed_by {
        output.line(format_args!("  signed by {signer}"))?;
    }
    if *trust == "listed" {
        output.line("\nNobody but the topology itself speaks for that signer: compare the key with one that you were given\n(--operator-key).")?;
    }
    if *former_hub == Some(true) {
        output.line(format_args!(
            "\n{hub} is a main server no more: whoever has had its key since could sign this too. The heads of its chain that\nothers remember tell (`topology verify chain`)."
        ))?;
    }
    output.line(
        "\nIt proves that this record, with these bytes, was committed, and behind which others. It does not prove what the\nrecord says, nor that the main server still has it.",
    )
}
