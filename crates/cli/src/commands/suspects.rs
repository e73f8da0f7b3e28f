//! `topology audit --suspects`: who accepted records that only others brought home.

use std::time::Duration;

use estafet_admin::v1;
use serde::Serialize;

use super::question;
use crate::failure::{Failure, Outcome};
use crate::moment::{age, ahead};
use crate::output::Output;
use crate::reach::Reach;

/// For the answer of a node that took the connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Suspects {
    suspects: Vec<Suspect>,
    /// Who was asked in vain.
    silent: Vec<String>,
}

#[derive(Serialize)]
struct Suspect {
    node: String,
    by_word_of: String,
    /// Accepted, not receipted in time, and brought home by another, since who says so was started.
    records: u64,
    last_age_ms: u64,
    /// For how long it still gets nothing there that has another way.
    shunned_for_ms: Option<u64>,
}

/// Asks every node for the neighbors whose word was empty.
pub async fn suspects(reach: &Reach, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let asked = reach.ask_all(ANSWER_TIMEOUT, |mut client| async move {
        Ok(client.audit(question(v1::AuditRequest {})).await?.into_inner())
    });
    let asked = asked.await?;
    let of = |(witness, report): &(String, v1::AuditReport)| -> Vec<Suspect> {
        let suspect = |suspect: &v1::Suspect| Suspect {
            node: suspect.node.clone(),
            by_word_of: witness.clone(),
            records: suspect.records,
            last_age_ms: suspect.last_age_ms,
            shunned_for_ms: suspect.shunned_for_ms,
        };
        report.suspects.iter().map(suspect).collect()
    };
    let mut suspects: Vec<Suspect> = asked.answers.iter().flat_map(of).collect();
    suspects.sort_by(|one, other| (&one.node, &one.by_word_of).cmp(&(&other.node, &other.by_word_of)));
    let found = Suspects { suspects, silent: asked.silent.iter().map(|silence| silence.node.clone()).collect() };
    output.answer(&found, print)?;
    Ok(match (found.suspects.is_empty(), found.silent.is_empty()) {
        (false, _) => Outcome::Bad,
        (true, false) => Outcome::Incomplete,
        (true, true) => Outcome::Good,
    })
}

fn print(found: &Suspects, output: &mut Output<'_>) -> Result<(), Failure> {
    let rows = found.suspects.iter().map(|suspect| {
        let trusted = suspect.shunned_for_ms.map_or_else(|| "yes".to_owned(), |left| format!("again {}", ahead(left)));
        let last = age(suspect.last_age_ms);
        [suspect.node.clone(), suspect.by_word_of.clone(), suspect.records.to_string(), last, trusted]
    });
    let head = ["suspect", "by word of", "records that others brought home", "last", "trusted"];
    output.table(head, rows.collect(), "Nobody: what was accepted was brought home.")?;
    if !found.silent.is_empty() {
        output.line(format_args!("\nINCOMPLETE: no answer from {}.", found.silent.join(", ")))?;
    }
    Ok(())
}
