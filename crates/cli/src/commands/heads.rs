//! `topology heads`: how far main servers' chains have come, as others have heard it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use estafet_admin::v1;
use estafet_model::SignedHead;
use serde::Serialize;

use super::note_silent;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::reach::{Reach, Silence};
use crate::safe_file;

/// Who remembers what of main servers' chains.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Each head, and the nodes that have heard it.
    pub(super) heads: Vec<(SignedHead, BTreeSet<String>)>,
    pub(super) silent: Vec<Silence>,
}

impl Remembered {
    /// Asks all nodes. What cannot be read is nobody's head.
    pub(super) async fn ask(reach: &Reach) -> Result<Self, Failure> {
        let asked = reach.ask_all(HEADS_TIMEOUT, |mut client| async move {
            Ok(client.list_heads(v1::ListHeadsRequest {}).await?.into_inner())
        });
        let asked = asked.await?;
        let mut heads: BTreeMap<String, (SignedHead, BTreeSet<String>)> = BTreeMap::new();
        for (_, v1::ListHeadsResponse { node, heads: told }) in asked.answers {
            for (text, head) in told.iter().filter_map(|text| Some((text, text.parse::<SignedHead>().ok()?))) {
                heads.entry(text.clone()).or_insert_with(|| (head, BTreeSet::new())).1.insert(node.clone());
            }
        }
        let mut heads: Vec<_> = heads.into_values().collect();
        heads.sort_by(|(left, _), (right, _)| {
            (&left.hub, left.head.chain, left.head.sequence).cmp(&(&right.hub, right.head.chain, right.head.sequence))
        });
        Ok(Self { heads, silent: asked.silent })
    }
}

#[derive(Serialize)]
struct Shown {
    heads: Vec<ShownHead>,
    silent: Vec<String>,
}

#[derive(Serialize)]
struct ShownHead {
    hub: String,
    chain: String,
    hub_sequence: u64,
    link: String,
    told_by: BTreeSet<String>,
    text: String,
}

/// Lists what every node that answers remembers, and writes the furthest of each chain that others than its main server have heard.
pub async fn heads(reach: &Reach, out: Option<&Path>, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let Remembered { heads, silent } = Remembered::ask(reach).await?;
    note_silent(&silent, output);
    if let Some(out) = out {
        let kept = furthest_elsewhere(&heads);
        let text: String = kept.iter().map(|head| format!("{head}\n")).collect();
        safe_file::replace(out, &text)?;
        output.note(format_args!("{}: {} heads, the furthest of each chain", out.display(), kept.len()));
    }
    let shown = |(head, told_by): (SignedHead, BTreeSet<String>)| ShownHead {
        hub: head.hub.to_string(),
        chain: head.head.chain.to_string(),
        hub_sequence: head.head.sequence,
        link: head.head.link.to_string(),
        told_by,
        text: head.to_string(),
    };
    let silent = silent.into_iter().map(|silence| silence.node).collect();
    let shown = Shown { heads: heads.into_iter().map(shown).collect(), silent };
    output.answer(&shown, |shown, output| {
        let rows = shown.heads.iter().map(|head| {
            let told_by = head.told_by.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            [head.hub.clone(), head.chain.clone(), head.hub_sequence.to_string(), head.link[..16].to_owned(), told_by]
        });
        output.table(["hub", "chain", "number", "link", "heard by"], rows.collect(), "Nobody has heard of any.")
    })?;
    Ok(Outcome::Good)
}

/// Of each chain, the furthest that another node than its main server has heard. They are in order already.
fn furthest_elsewhere(heads: &[(SignedHead, BTreeSet<String>)]) -> Vec<&SignedHead> {
    let elsewhere = |(head, told_by): &&(SignedHead, BTreeSet<String>)| {
        told_by.iter().any(|node| node.as_str() != head.hub.as_str())
    };
    let heads = heads.iter().filter(elsewhere).map(|(head, _)| head);
    heads.map(|head| ((&head.hub, head.head.chain), head)).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Some kilobytes of each node.
const HEADS_TIMEOUT: Duration = Duration::from_secs(5);
