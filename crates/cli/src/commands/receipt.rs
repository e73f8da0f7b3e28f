//! `topology receipt`: a main server's word on one record, as a file that stands alone.

use std::path::Path;

use estafet_admin::v1;
use estafet_model::RecordReceipt;
use serde::Serialize;
use tonic::Code;

use super::question;
use super::verify_receipt::{Shown, judge};
use crate::arguments::Options;
use crate::city::CityFolder;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::reach::Reach;
use crate::record_name::RecordName;
use crate::safe_file;

#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    receipt: Shown,
    /// Where it was written; null if it was printed.
    file: Option<&'a Path>,
    text: String,
}

/// Asks the main servers in turn, and checks what comes before it is given out. Whoever asks by a socket has no city to check
/// it against.
pub async fn receipt(
    options: &Options,
    hubs: &Reach,
    record: &RecordName,
    out: Option<&Path>,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let city = options.city.as_deref().map(CityFolder::open).transpose()?;
    let (hub, receipt) = ask(hubs, record).await?;
    let by = match &city {
        Some(city) => Some(judge(&receipt, city.topology())?),
        None => {
            output.note(format_args!("{hub}'s signature is not checked: no city is named"));
            None
        }
    };
    let text = receipt.to_string();
    if let Some(out) = out {
        safe_file::replace(out, &text)?;
    }
    if output.is_json() {
        let receipt = Shown::new(&receipt, by.as_ref(), city.as_ref().map(CityFolder::topology));
        output.object(&Written { receipt, file: out, text })?;
        return Ok(Outcome::Good);
    }
    match out {
        Some(out) => {
            let (id, number) = (&receipt.record().id, receipt.head().sequence);
            output.line(format_args!("{}: {hub} has committed {id} as its number {number}", out.display()))?;
        }
        None => output.line(text.trim_end())?,
    }
    Ok(Outcome::Good)
}

async fn ask(hubs: &Reach, record: &RecordName) -> Result<(String, RecordReceipt), Failure> {
    let mut silent = Vec::new();
    let mut not_found = None;
    for hub in hubs.one_by_one() {
        let mut hub = match hub.first().await {
            Ok(hub) => hub,
            Err(Failure::NobodyAnswered(hub)) => {
                silent.extend(hub);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let asked = hub.client.get_receipt(question(v1::GetReceiptRequest { record: record.to_string() })).await;
        match asked.map_err(Failure::refused(&hub.name)) {
            Ok(answer) => {
                let receipt = answer.into_inner().receipt.parse::<RecordReceipt>();
                let receipt =
                    receipt.map_err(|error| Failure::Absurd { node: hub.name.clone(), what: error.to_string() });
                return Ok((hub.name, receipt?));
            }
            Err(Failure::Refused { node, status }) if status.code() == Code::NotFound => {
                not_found = Some(Failure::Refused { node, status });
            }
            Err(failure) => return Err(failure),
        }
    }
    Err(not_found.unwrap_or(Failure::NobodyAnswered(silent)))
}
