//! Tasks that watch the city through the admin API. Each ends when nobody listens to it any more.

use std::time::Duration;

use estafet_admin::v1;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout};

use super::event::Event;
use super::ledger::Commit;
use super::map::network;
use crate::reach::Reach;

/// Reports every commit of the hub, from its first on. Where the connection breaks, it goes on behind the last.
pub(super) async fn watch_commits(hub: Reach, events: Sender<Event>) {
    let mut next = 1;
    while !events.is_closed() {
        if let Ok(mut hub) = hub.first().await
            && let Ok(commits) = hub.client.tail(v1::TailRequest { from_hub_sequence: next }).await
        {
            let mut commits = commits.into_inner();
            while let Ok(Some(commit)) = commits.message().await {
                next = commit.hub_sequence + 1;
                if events.send(Event::Committed(Commit::learned_now(commit))).await.is_err() {
                    return;
                }
            }
        }
        sleep(RECONNECT_PAUSE).await;
    }
}

/// Reports the hub's map and count, over and over.
pub(super) async fn watch_state(hub: Reach, events: Sender<Event>) {
    while !events.is_closed() {
        let asking = async {
            let mut hub = hub.first().await.ok()?;
            loop {
                let network = hub.client.get_network(v1::GetNetworkRequest {}).await.ok()?.into_inner();
                events.send(Event::Network(network)).await.ok()?;
                let report = timeout(ANSWER_TIMEOUT, hub.client.audit(v1::AuditRequest {})).await.ok()?;
                events.send(Event::Audit(report.ok()?.into_inner())).await.ok()?;
                sleep(LOOK_EVERY).await;
            }
        };
        let _: Option<()> = asking.await;
        sleep(RECONNECT_PAUSE).await;
    }
}

/// Reports when an office's own next hop is no longer `lost`.
pub(super) async fn watch_move(
    office: String,
    reach: Reach,
    lost: &'static str,
    cut_at: Instant,
    events: Sender<Event>,
) {
    while cut_at.elapsed() < MOVE_PATIENCE {
        if let Some(network) = network(&reach).await
            && let Some(node) = network.nodes.into_iter().find(|node| node.id == office)
            && node.next_hop != lost
        {
            let next_hop = Some(node.next_hop).filter(|next_hop| !next_hop.is_empty());
            let _ = events.send(Event::Moved { office, next_hop, after: cut_at.elapsed() }).await;
            return;
        }
        sleep(MOVE_LOOK_EVERY).await;
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(250);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Fine enough for a move that takes some hundred milliseconds, and coarse enough not to slow it down.
const MOVE_LOOK_EVERY: Duration = Duration::from_millis(20);
const MOVE_PATIENCE: Duration = Duration::from_secs(10);
