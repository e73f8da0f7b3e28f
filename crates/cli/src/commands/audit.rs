//! `topology audit`: captured = receipted + held, per origin, or the ids of what is missing (promise P4).

use std::collections::BTreeMap;

use estafet_admin::v1;
use serde::Serialize;

use super::question;
use crate::failure::{Failure, Outcome};
use crate::moment::{Timestamp, age};
use crate::output::{Output, or_dash};
use crate::reach::Reach;

#[derive(Serialize)]
struct Audit {
    area: String,
    seen_from: String,
    captured: u64,
    receipted: u64,
    held: u64,
    missing: u64,
    committed_twice: u64,
    /// Origins that the node which answers cannot reach: they may have captured more than it knows.
    unreachable: Vec<String>,
    origins: Vec<Origin>,
}

#[derive(Serialize)]
struct Origin {
    node: String,
    /// It is in the topology no more.
    removed: bool,
    captured: u64,
    receipted: u64,
    held: u64,
    missing: Vec<String>,
    /// All of them; `missing` has the first thousand.
    missing_count: u64,
    /// Since when the node that answers sees them missing.
    missing_since: Option<Timestamp>,
    /// Who holds how many of `held`.
    held_by: BTreeMap<String, u64>,
    /// The present one last. More than one: its data was lost, or was an old copy.
    epochs: Vec<u32>,
    /// In quarantine there: the receipt that covers their numbers is for other records.
    conflicts: Vec<String>,
    news_age_ms: Option<u64>,
}

/// Asks the first node that answers for its count.
pub async fn audit(reach: &Reach, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let mut node = reach.first().await?;
    let asked = node.client.audit(question(v1::AuditRequest {})).await;
    let audit = Audit::from(asked.map_err(Failure::refused(&node.name))?.into_inner());
    output.answer(&audit, print)?;
    let conflicts = audit.origins.iter().any(|origin| !origin.conflicts.is_empty());
    let is_bad = audit.missing > 0 || audit.committed_twice > 0 || conflicts;
    Ok(match (is_bad, audit.unreachable.is_empty()) {
        (true, _) => Outcome::Bad,
        (false, false) => Outcome::Incomplete,
        (false, true) => Outcome::Good,
    })
}

fn print(audit: &Audit, output: &mut Output<'_>) -> Result<(), Failure> {
    output.line(format_args!("{}, as {} sees it\n", audit.area, audit.seen_from))?;
    let counts = |name: &str, counts: [u64; 4], held_by: &str, news: &str| {
        let [captured, receipted, held, missing] = counts.map(|count| count.to_string());
        [name.to_owned(), captured, receipted, held, missing, or_dash(held_by), or_dash(news)]
    };
    let mut rows: Vec<_> = audit
        .origins
        .iter()
        .map(|origin| {
            let Origin { node, captured, receipted, held, missing_count, .. } = origin;
            let news = match origin.news_age_ms {
                _ if origin.removed => "removed".to_owned(),
                Some(news) => age(news),
                None => "never heard".to_owned(),
            };
            counts(node, [*captured, *receipted, *held, *missing_count], &holders(origin), &news)
        })
        .collect();
    rows.push(counts("all", [audit.captured, audit.receipted, audit.held, audit.missing], "", ""));
    let head = ["origin", "captured", "receipted", "held", "missing", "held elsewhere by", "news"];
    output.table(head, rows, "No origins.")?;
    output.line(format_args!("\ncommitted twice: {}", audit.committed_twice))?;
    if !audit.unreachable.is_empty() {
        output.line(format_args!(
            "INCOMPLETE: {} cannot reach {}: these counts are as old as the news, and they may have captured more.",
            audit.seen_from,
            audit.unreachable.join(", ")
        ))?;
    }
    for origin in audit.origins.iter().filter(|origin| origin.epochs.len() > 1) {
        let former = &origin.epochs[..origin.epochs.len() - 1];
        let former: Vec<String> = former.iter().map(ToString::to_string).collect();
        output.line(format_args!(
            "{} lost its data, was given an old copy of it, or is another machine now: earlier epochs {}",
            origin.node,
            former.join(", ")
        ))?;
    }
    for Origin { node, conflicts, .. } in &audit.origins {
        for id in conflicts {
            output.line(format_args!(
                "not receipted: {id} at {node}, whose number another record has; take it out with: topology quarantine \
                 export {id} --node {node} -o FILE, and hand it in again"
            ))?;
        }
    }
    for origin in &audit.origins {
        let since = origin
            .missing_since
            .as_ref()
            .map(|since| format!(", seen by {} since {since}", audit.seen_from))
            .unwrap_or_default();
        for id in &origin.missing {
            output.line(format_args!("missing: {id}{since}"))?;
        }
    }
    Ok(())
}

/// Who else holds what an origin has captured.
fn holders(origin: &Origin) -> String {
    let others = origin.held_by.iter().filter(|(holder, _)| **holder != origin.node);
    others.map(|(holder, count)| format!("{holder} {count}")).collect::<Vec<_>>().join(", ")
}

impl From<v1::AuditReport> for Audit {
    fn from(report: v1::AuditReport) -> Self {
        // Nobody can ask a node that was taken out: what is known of it is all there is.
        let unreachable = report.origins.iter().filter(|origin| !origin.reachable && !origin.removed);
        Self {
            unreachable: unreachable.map(|origin| origin.node.clone()).collect(),
            area: report.area,
            seen_from: report.seen_from,
            captured: report.captured,
            receipted: report.receipted,
            held: report.held,
            missing: report.missing,
            committed_twice: report.committed_twice,
            origins: report.origins.into_iter().map(Origin::from).collect(),
        }
    }
}

impl From<v1::OriginAudit> for Origin {
    fn from(origin: v1::OriginAudit) -> Self {
        Self {
            node: origin.node,
            removed: origin.removed,
            captured: origin.captured,
            receipted: origin.receipted,
            held: origin.held,
            missing: origin.missing,
            missing_count: origin.missing_count,
            missing_since: origin.missing_since_unix_ms.map(Timestamp::of_millis),
            held_by: origin.held_by.into_iter().map(|holder| (holder.node, holder.records)).collect(),
            epochs: origin.epochs,
            conflicts: origin.conflicts,
            news_age_ms: origin.news_age_ms,
        }
    }
}
