//! `topology drain`, `undrain` and `power`: what a node is told of its own service.

use std::time::Duration;

use estafet_admin::v1;
use estafet_model::NodeId;
use serde::Serialize;
use tonic::{Response, Status};

use super::question;
use super::show::service_words;
use crate::arguments::Supply;
use crate::failure::{Failure, Outcome};
use crate::moment::rfc3339;
use crate::output::{Output, or_null};
use crate::reach::{NodeClient, Reach};

/// What a node says of its service.
#[derive(Debug, Serialize)]
struct Standing<'a> {
    node: &'a str,
    state: String,
    power: String,
    minutes_left: Option<u32>,
    reason: Option<String>,
    words: Option<String>,
    back: Option<String>,
}

/// Drains a node.
pub async fn drain(
    reach: &Reach,
    node: &NodeId,
    lasts: Option<Duration>,
    reason: &str,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let NodeClient { name, mut client } = reach.first().await?;
    let request = v1::DrainRequest {
        node: node.to_string(),
        for_seconds: lasts.map(|lasts| lasts.as_secs()),
        words: reason.to_owned(),
    };
    tell(node, &name, client.drain(question(request)).await, output)
}

/// Ends that.
pub async fn undrain(reach: &Reach, node: &NodeId, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let NodeClient { name, mut client } = reach.first().await?;
    let request = v1::UndrainRequest { node: node.to_string() };
    tell(node, &name, client.undrain(question(request)).await, output)
}

/// Tells a node what it runs on.
pub async fn set_power(
    reach: &Reach,
    node: &NodeId,
    supply: Supply,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let power = match supply {
        Supply::Mains => "mains",
        Supply::Battery => "battery",
        Supply::Low => "low",
    };
    let NodeClient { name, mut client } = reach.first().await?;
    let request = v1::SetPowerRequest { node: node.to_string(), power: power.to_owned() };
    tell(node, &name, client.set_power(question(request)).await, output)
}

fn tell(
    node: &NodeId,
    asked: &str,
    answer: Result<Response<v1::Standing>, Status>,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let standing = answer.map_err(Failure::refused(asked))?.into_inner();
    if output.is_json() {
        let v1::Standing { state, power, minutes_left, reason, words, back_unix_ms } = standing;
        let (reason, words) = (or_null(reason), or_null(words));
        let back = back_unix_ms.map(rfc3339);
        output.object(&Standing { node: node.as_str(), state, power, minutes_left, reason, words, back })?;
    } else {
        output.line(format_args!("{node} is {}", service_words(&standing.state, &standing)))?;
    }
    Ok(Outcome::Good)
}
