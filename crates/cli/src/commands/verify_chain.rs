//! `topology verify chain`: a main server's history as it tells it now, beside what it has told before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use estafet_admin::v1;
use estafet_model::{
    ChainHead, ChainId, ChainedRecord, HeaderDigest, NodeId, PayloadHash, PublicKey, RecordReceipt, SignedHead,
};
use estafet_topology::Topology;
use serde::Serialize;

use super::heads::Remembered;
use super::note_silent;
use super::verify_receipt::{judge, read_bounded};
use crate::city::CityFolder;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::reach::{NodeClient, Reach, node_unknown};

/// What a main server's history is to go through.
#[derive(Debug, Clone)]
struct Mark {
    hub: NodeId,
    head: ChainHead,
    /// Who remembers it: nodes, or a file.
    told_by: BTreeSet<String>,
}

/// How a mark compares with the history as it is told now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Comparison {
    /// The history goes through it.
    Same,
    /// At this number it is another.
    Rewritten,
    /// It ends before this number.
    CutOff,
    /// It is told as another chain.
    OtherChain,
}

#[derive(Serialize)]
struct Checked {
    told_by: BTreeSet<String>,
    chain: String,
    hub_sequence: u64,
    link: String,
    comparison: Comparison,
}

#[derive(Serialize)]
struct Walked {
    hub: String,
    chain: String,
    commits: u64,
    link: String,
    checked: Vec<Checked>,
}

#[derive(Serialize)]
struct Answer {
    hubs: Vec<Walked>,
    silent: Vec<String>,
}

/// Walks along the chain of one main server, or of each that answers.
pub async fn verify(
    city: &CityFolder,
    hub: Option<&NodeId>,
    files: &[PathBuf],
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let topology = city.topology();
    let everybody = Reach::city(city)?;
    let mut marks = Vec::new();
    for file in files {
        marks.extend(marks_in(file, topology)?);
    }
    let remembered = Remembered::ask(&everybody).await?;
    note_silent(&remembered.silent, output);
    marks.extend(heard_elsewhere(&remembered, topology, output));
    let hubs = match hub {
        Some(hub) if topology.node(hub).is_none() => return Err(node_unknown(topology, hub)),
        Some(hub) => Reach::node(city, hub)?.hubs()?,
        None => everybody.hubs()?,
    };
    let mut answer = Answer { hubs: Vec::new(), silent: Vec::new() };
    for hub in hubs.one_by_one() {
        match hub.first().await {
            Ok(node) => answer.hubs.push(walk(node, &marks).await?),
            Err(Failure::NobodyAnswered(silent)) => {
                answer.silent.extend(silent.into_iter().map(|silence| silence.node));
            }
            Err(failure) => return Err(failure),
        }
    }
    if answer.hubs.is_empty() {
        return Err(Failure::NobodyAnswered(remembered.silent));
    }
    output.answer(&answer, print)?;
    Ok(outcome(&answer))
}

fn outcome(answer: &Answer) -> Outcome {
    let all = || answer.hubs.iter().flat_map(|walked| &walked.checked).map(|checked| checked.comparison);
    let is_bad = |comparison| matches!(comparison, Comparison::Rewritten | Comparison::CutOff);
    let has_nothing =
        |walked: &Walked| walked.checked.iter().all(|checked| checked.comparison == Comparison::OtherChain);
    if all().any(is_bad) {
        Outcome::Bad
    } else if !answer.silent.is_empty()
        || answer.hubs.iter().any(has_nothing)
        || all().any(|comparison| comparison == Comparison::OtherChain)
    {
        Outcome::Incomplete
    } else {
        Outcome::Good
    }
}

/// The heads and receipts in a file, each signed by its main server.
fn marks_in(path: &Path, topology: &Topology) -> Result<Vec<Mark>, Failure> {
    let text = read_bounded(path)?;
    let bad = |what: String| Failure::BadEvidence { path: path.to_owned(), what };
    let told_by = BTreeSet::from([path.display().to_string()]);
    if let Ok(receipt) = text.parse::<RecordReceipt>() {
        judge(&receipt, topology)?;
        return Ok(vec![Mark { hub: receipt.hub().clone(), head: receipt.head(), told_by }]);
    }
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    let marks = blocks.map(|block| {
        let head: SignedHead = block.parse().map_err(|error: estafet_model::HeadError| bad(error.to_string()))?;
        if !is_signed(&head, topology) {
            return Err(bad(format!("it is not signed by {}", head.hub)));
        }
        Ok(Mark { hub: head.hub, head: head.head, told_by: told_by.clone() })
    });
    let marks = marks.collect::<Result<Vec<_>, _>>()?;
    if marks.is_empty() { Err(bad("it is empty".to_owned())) } else { Ok(marks) }
}

fn is_signed(head: &SignedHead, topology: &Topology) -> bool {
    let mut keys = topology.receipt_keys(&head.hub).map(|(key, _): (PublicKey, bool)| key);
    keys.any(|key| head.verify(&key).is_ok())
}

/// What others than the main server itself remember. What it has not signed is their mistake, or their lie.
fn heard_elsewhere(remembered: &Remembered, topology: &Topology, output: &mut Output<'_>) -> Vec<Mark> {
    let mut marks = Vec::new();
    for (head, told_by) in &remembered.heads {
        let others: BTreeSet<String> =
            told_by.iter().filter(|node| node.as_str() != head.hub.as_str()).cloned().collect();
        if others.is_empty() {
            continue;
        }
        if is_signed(head, topology) {
            marks.push(Mark { hub: head.hub.clone(), head: head.head, told_by: others });
        } else {
            let others = others.into_iter().collect::<Vec<_>>().join(", ");
            output.note(format_args!("{others} told a head that {} has not signed: it is not counted", head.hub));
        }
    }
    marks
}

/// Makes the links anew from what they are made of, and looks at each mark when its number comes.
async fn walk(mut hub: NodeClient, marks: &[Mark]) -> Result<Walked, Failure> {
    let absurd = |what: &str| Failure::Absurd { node: hub.name.clone(), what: what.to_owned() };
    let asked = hub.client.walk_chain(v1::WalkChainRequest { from_hub_sequence: 0 }).await;
    let mut pages = asked.map_err(Failure::refused(&hub.name))?.into_inner();
    let mut head: Option<(NodeId, ChainHead)> = None;
    let mut links: BTreeMap<u64, ChainHead> = BTreeMap::new();
    let numbers: BTreeSet<u64> = marks.iter().map(|mark| mark.head.sequence).collect();
    loop {
        let page = tokio::time::timeout(PAGE_TIMEOUT, pages.message()).await;
        let page = page.map_err(|_| absurd("nothing for half a minute"))?;
        let Some(page) = page.map_err(Failure::refused(&hub.name))? else { break };
        let first = || -> Option<(NodeId, ChainHead)> {
            let (hub, chain): (NodeId, ChainId) = (page.hub.parse().ok()?, page.chain.parse().ok()?);
            Some((hub.clone(), ChainHead::first(&hub, chain)))
        };
        let (_, now) = match &mut head {
            Some(head) => head,
            None => head.insert(first().ok_or_else(|| absurd("a chain without a name"))?),
        };
        for commit in page.commits {
            if commit.hub_sequence != now.sequence + 1 {
                return Err(absurd(&format!("number {} behind number {}", commit.hub_sequence, now.sequence)));
            }
            *now = now.with(&chained(&commit).ok_or_else(|| absurd("a commit that cannot be read"))?);
            if numbers.contains(&now.sequence) {
                links.insert(now.sequence, *now);
            }
        }
    }
    let (id, end) = head.ok_or_else(|| absurd("no chain"))?;
    links.insert(0, ChainHead::first(&id, end.chain));
    let of_hub = marks.iter().filter(|mark| mark.hub == id);
    let checked = of_hub.map(|mark| Checked {
        told_by: mark.told_by.clone(),
        chain: mark.head.chain.to_string(),
        hub_sequence: mark.head.sequence,
        link: mark.head.link.to_string(),
        comparison: compare(&mark.head, &end, &links),
    });
    Ok(Walked {
        hub: id.to_string(),
        chain: end.chain.to_string(),
        commits: end.sequence,
        link: end.link.to_string(),
        checked: checked.collect(),
    })
}

fn compare(mark: &ChainHead, end: &ChainHead, links: &BTreeMap<u64, ChainHead>) -> Comparison {
    match links.get(&mark.sequence) {
        _ if mark.chain != end.chain => Comparison::OtherChain,
        Some(here) if here == mark => Comparison::Same,
        Some(_) => Comparison::Rewritten,
        None => Comparison::CutOff,
    }
}

fn chained(commit: &v1::ChainedCommit) -> Option<ChainedRecord> {
    Some(ChainedRecord {
        id: commit.record_id.parse().ok()?,
        digest: HeaderDigest(commit.header_digest.as_slice().try_into().ok()?),
        payload_hash: PayloadHash::from_bytes(commit.payload_hash.as_slice().try_into().ok()?),
        payload_bytes: commit.payload_bytes,
    })
}

fn print(answer: &Answer, output: &mut Output<'_>) -> Result<(), Failure> {
    for Walked { hub, chain, commits, link, checked } in &answer.hubs {
        output.line(format_args!("{hub}: {commits} commits in chain {chain}, to link {link}"))?;
        let same: Vec<&Checked> = checked.iter().filter(|checked| checked.comparison == Comparison::Same).collect();
        let by: BTreeSet<&str> = same.iter().flat_map(|checked| &checked.told_by).map(String::as_str).collect();
        if let Some(furthest) = same.iter().map(|checked| checked.hub_sequence).max() {
            let by = by.into_iter().collect::<Vec<_>>().join(", ");
            output.line(format_args!(
                "  as it was told before, at {} places, the last number {furthest}; remembered by {by}",
                same.len()
            ))?;
        }
        for Checked { told_by, chain, hub_sequence, comparison, .. } in checked {
            let by = told_by.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            match comparison {
                Comparison::Same => {}
                Comparison::Rewritten => output.line(format_args!(
                    "  REWRITTEN: at or before number {hub_sequence} it is not what {hub} signed (remembered by {by})"
                ))?,
                Comparison::CutOff => output.line(format_args!(
                    "  CUT OFF: {hub} signed {hub_sequence} commits and has fewer (remembered by {by})"
                ))?,
                Comparison::OtherChain => output.line(format_args!(
                    "  not comparable: number {hub_sequence} of its earlier chain {chain} (remembered by {by})"
                ))?,
            }
        }
        if checked.is_empty() {
            output.line("  nobody else remembers a head of it: nothing to compare with")?;
        }
    }
    for hub in &answer.silent {
        output.line(format_args!("{hub} did not answer"))?;
    }
    Ok(())
}

/// A page is read from an index; whoever needs longer stands still.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
