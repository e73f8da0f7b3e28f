//! `topology incident`: what a machine held that is out of its owner's hands, put together from what all others know.

mod findings;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use estafet_admin::v1;
use estafet_admin::v1::admin_client::AdminClient;
use estafet_model::NodeId;
use estafet_topology::Topology;
use serde::Serialize;
use tonic::Status;
use tonic::transport::Channel;

use self::findings::{Evidence, Findings, Row};
use super::note_silent;
use crate::city::CityFolder;
use crate::failure::{Failure, Outcome};
use crate::moment::{Moment, Timestamp};
use crate::output::{Output, or_dash};
use crate::reach::{Reach, node_unknown};
use crate::safe_file;

/// What stands in the clear beside every sealed payload.
const READABLE: [&str; 9] = [
    "office",
    "epoch",
    "number",
    "class",
    "kind",
    "content type",
    "length of the sealed payload",
    "its hash",
    "time of capture",
];

#[derive(Serialize)]
struct Report<'a> {
    node: String,
    since: Timestamp,
    /// Records that it held.
    certain: u64,
    /// Records that it may have held as well.
    possible: u64,
    /// Of their payloads.
    payloads_readable: u64,
    /// Of their headers.
    header_fields_readable: [&'static str; 9],
    counts: Vec<Count>,
    records: Vec<Run>,
    /// Who did not answer. What they alone know is missing.
    silent: Vec<String>,
    hub_answered: bool,
    file: Option<&'a Path>,
}

/// So many records of one kind.
#[derive(Serialize)]
struct Count {
    origin: String,
    epoch: u16,
    class: Option<String>,
    held: &'static str,
    evidence: &'static str,
    records: u64,
}

/// Records without a gap.
#[derive(Serialize)]
struct Run {
    first: String,
    last: String,
    class: Option<String>,
    held: &'static str,
    evidence: &'static str,
}

/// Asks everybody but the machine itself.
pub async fn incident(
    city: &CityFolder,
    node: &NodeId,
    since: Moment,
    out: Option<&Path>,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    if since.unix_s() > Moment::Now.unix_s() {
        return Err(Failure::NotYet(Timestamp::of_seconds(since.unix_s()).to_string()));
    }
    let topology = city.topology();
    let was_there = topology.former_nodes.iter().any(|former| former.id == *node);
    if topology.node(node).is_none() && !was_there {
        return Err(node_unknown(topology, node));
    }
    if topology.receipt_keys(node).next().is_some() {
        return Err(Failure::HubHeldAll(node.clone()));
    }
    let request = v1::IncidentRequest {
        node: node.to_string(),
        since_unix_ms: u64::try_from(since.unix_s()).unwrap_or(0).saturating_mul(1000),
    };
    let reach = Reach::city(city)?.except(node);
    let asked = reach.ask_all(INCIDENT_TIMEOUT, |client| found(client, request.clone())).await?;
    note_silent(&asked.silent, output);
    let is_hub = |name: &str| topology.hub_ids().any(|hub| hub.as_str() == name);
    let hub_answered = asked.answers.iter().any(|(name, _)| is_hub(name));
    let mut findings = Findings::default();
    for (name, told) in asked.answers {
        for finding in told {
            let taken = findings.add(&finding);
            taken.map_err(|what| Failure::Absurd { node: name.clone(), what: what.to_owned() })?;
        }
    }
    let rows = findings.settle();
    if let Some(out) = out {
        write_csv(out, &rows, topology)?;
    }
    let silent: Vec<String> = asked.silent.into_iter().map(|silence| silence.node).collect();
    let is_complete = silent.is_empty();
    let report = report(node, since, &rows, silent, hub_answered, out);
    output.answer(&report, print)?;
    if topology.node(node).is_some() && was_there {
        output.note(format_args!(
            "{node} has another machine since: what that has captured is counted as well, under its own epoch"
        ));
    }
    Ok(if is_complete { Outcome::Good } else { Outcome::Incomplete })
}

async fn found(
    mut client: AdminClient<Channel>,
    request: v1::IncidentRequest,
) -> Result<Vec<v1::IncidentFinding>, Status> {
    let mut findings = client.incident(request).await?.into_inner();
    let mut all = Vec::new();
    while let Some(finding) = findings.message().await? {
        all.push(finding);
    }
    Ok(all)
}

fn report<'a>(
    node: &NodeId,
    since: Moment,
    rows: &[Row],
    silent: Vec<String>,
    hub_answered: bool,
    file: Option<&'a Path>,
) -> Report<'a> {
    let count = |held: &str| rows.iter().filter(|row| row.evidence.held() == held).map(|row| row.seqs.count()).sum();
    Report {
        node: node.to_string(),
        since: Timestamp::of_seconds(since.unix_s()),
        certain: count(Evidence::CERTAIN),
        possible: count(Evidence::POSSIBLE),
        payloads_readable: 0,
        header_fields_readable: READABLE,
        counts: rows.iter().map(Count::of).collect(),
        records: rows.iter().flat_map(Run::of).collect(),
        silent,
        hub_answered,
        file,
    }
}

impl Count {
    fn of(row: &Row) -> Self {
        Self {
            origin: row.origin.to_string(),
            epoch: row.epoch.get(),
            class: row.class.clone(),
            held: row.evidence.held(),
            evidence: row.evidence.as_str(),
            records: row.seqs.count(),
        }
    }
}

impl Run {
    fn of(row: &Row) -> Vec<Self> {
        let id = |number: u32| format!("{}.{}.{number}", row.origin, row.epoch.get());
        let run = |piece: &estafet_model::Range| Self {
            first: id(piece.first),
            last: id(piece.last),
            class: row.class.clone(),
            held: row.evidence.held(),
            evidence: row.evidence.as_str(),
        };
        row.seqs.pieces().iter().map(run).collect()
    }
}

fn write_csv(out: &Path, rows: &[Row], topology: &Topology) -> Result<(), Failure> {
    let write = || {
        let mut file = safe_file::begin(out)?;
        let mut lines = std::io::BufWriter::new(file.as_file_mut());
        writeln!(lines, "record_id,slip,origin,epoch,number,class,held,evidence,payload_readable")?;
        for row in rows {
            let code = topology.code_of(&row.origin);
            let (class, held, evidence) = (row.class.as_deref().unwrap_or_default(), row.evidence.held(), row.evidence);
            for id in row.ids() {
                let slip = code.map(|code| id.slip(code).to_string()).unwrap_or_default();
                let (origin, epoch, number) = (&id.origin, id.epoch.get(), id.seq.get());
                writeln!(lines, "{id},{slip},{origin},{epoch},{number},{class},{held},{},no", evidence.as_str())?;
            }
        }
        lines.flush()?;
        drop(lines);
        safe_file::finish(file, out)
    };
    write().map_err(Failure::write(out))
}

fn print(report: &Report<'_>, output: &mut Output<'_>) -> Result<(), Failure> {
    let Report { node, since, certain, possible, counts, records, silent, hub_answered, file, .. } = report;
    output.line(format_args!("What the machine of {node} held since {since}\n"))?;
    output.line(format_args!("  {certain:>8} records for certain"))?;
    output.line(format_args!("  {possible:>8} more that it may have held"))?;
    output.line("         0 whose payload could be read there: all are sealed to the main servers' keys\n")?;
    let rows = counts.iter().map(|count| {
        [
            count.origin.clone(),
            count.epoch.to_string(),
            or_dash(count.class.as_deref().unwrap_or_default()),
            count.held.to_owned(),
            count.evidence.to_owned(),
            count.records.to_string(),
        ]
    });
    output.table(["origin", "epoch", "class", "held", "evidence", "records"], rows.collect(), "Nothing.")?;
    output.line("")?;
    for Run { first, last, held, .. } in records.iter().take(RUNS_SHOWN) {
        let last = if first == last { String::new() } else { format!(" to {last}") };
        output.line(format_args!("  {held}: {first}{last}"))?;
    }
    match file {
        Some(file) => output.line(format_args!("\nEach of them is in {}.", file.display()))?,
        None if records.len() > RUNS_SHOWN => output.line(format_args!(
            "  and {} runs more: -o FILE.csv or --json names them all",
            records.len() - RUNS_SHOWN
        ))?,
        None => {}
    }
    output.line(format_args!("\nIn the clear beside each: {}.", READABLE.join(", ")))?;
    output.line(
        "Payloads handed in at an office that runs with --no-sealing-i-know are not sealed; what was being typed or handed in\n\
         when the machine was taken was in its memory.",
    )?;
    if !hub_answered {
        output.line("INCOMPLETE: no main server answered, and what was committed is known to them alone.")?;
    }
    if !silent.is_empty() {
        output.line(format_args!("INCOMPLETE: what these alone know is missing: {}.", silent.join(", ")))?;
    }
    Ok(())
}

/// More than a screen of them is for a file.
const RUNS_SHOWN: usize = 40;

/// A main server reads a hundred thousand commits in a second or two; a clerk's machine has other things to do.
const INCIDENT_TIMEOUT: Duration = Duration::from_secs(120);
