//! `topology push`: gives a signed topology to one node, from which it floods through the area.

use std::fs;
use std::path::Path;

use estafet_admin::v1;
use estafet_topology::SignedTopology;
use serde::Serialize;

use super::question;
use crate::city::{CityFolder, TOPOLOGY_SOURCE};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::reach::{NodeClient, Reach};
use crate::topology_file::TopologyFile;

#[derive(Serialize)]
struct Pushed {
    /// Who has it now.
    node: String,
    version: u64,
    /// It changes what that node only changes when it is started again.
    waits_for_restart: bool,
    /// It had this version already.
    known: bool,
}

/// Gives the signed topology in `file` to the first node that answers.
pub async fn push(reach: &Reach, file: &Path, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let pushed = give(reach, file).await?;
    output.answer(&pushed, |pushed, output| {
        let Pushed { node, version, .. } = pushed;
        if pushed.known {
            return output.line(format_args!("{node} had version {version} already: nothing has changed"));
        }
        output.line(format_args!(
            "{node} has version {version}, and passes it on to all others; `topology show` marks who does not have it yet"
        ))?;
        if pushed.waits_for_restart {
            output.line("It changes main servers or `copies`, or a node's own role or addresses: the nodes that concerns heed it when they are started again.")?;
        }
        Ok(())
    })?;
    Ok(Outcome::Good)
}

/// Says so if the city's `topology.toml` is newer than what is signed: whoever edits it may forget to sign.
pub(super) fn note_unsigned(city: &CityFolder, output: &mut Output<'_>) {
    let signed = city.topology().version;
    // One that cannot be read is not what was pushed either; `topology check` says what is wrong with it.
    let Ok(source) = TopologyFile::read(&city.dir().join(TOPOLOGY_SOURCE)) else { return };
    if source.topology.version > signed {
        output.note(format_args!(
            "{TOPOLOGY_SOURCE} is version {}, and what is signed is version {signed}: `topology sign` first, then push again.",
            source.topology.version
        ));
    }
}

/// The same after a command that has changed the topology and signed it, in a note beside its answer.
pub(super) async fn push_change(reach: &Reach, file: &Path, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let text = fs::read_to_string(file).map_err(Failure::read(file))?;
    if SignedTopology::decode_kept(&text).is_ok_and(|signed| signed.missing_signatures() > 0) {
        output
            .note("It is signed and not in force: send topology.toml and city.topology to the next admin, who signs that too and pushes it.");
        return Ok(Outcome::Incomplete);
    }
    match give_text(reach, text).await {
        Ok(Pushed { node, version, .. }) => {
            output.note(format_args!(
                "{node} has version {version}, and passes it on to all others; `topology show` marks who does not have it yet."
            ));
            Ok(Outcome::Good)
        }
        Err(error) => {
            output.note(format_args!(
                "No node has it yet ({error}): `topology push` brings it to one that answers, from which it spreads."
            ));
            let is_unheard = error.exit_code() == Outcome::Untold.exit_code();
            Ok(if is_unheard { Outcome::Untold } else { Outcome::Bad })
        }
    }
}

/// Gives a topology that is in no file yet to a node, which may refuse it.
pub(super) async fn hand_over(reach: &Reach, signed: &SignedTopology) -> Result<(), Failure> {
    give_text(reach, signed.encode()).await.map(drop)
}

async fn give(reach: &Reach, file: &Path) -> Result<Pushed, Failure> {
    give_text(reach, fs::read_to_string(file).map_err(Failure::read(file))?).await
}

async fn give_text(reach: &Reach, signed: String) -> Result<Pushed, Failure> {
    let NodeClient { name, mut client } = reach.first().await?;
    let answer = client.push_topology(question(v1::PushTopologyRequest { signed })).await;
    let v1::PushTopologyResponse { version, waits_for_restart, known } =
        answer.map_err(Failure::refused(&name))?.into_inner();
    Ok(Pushed { node: name, version, waits_for_restart, known })
}
