//! What goes wrong, how often, and what sets it right again. Everything is drawn from the seed.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_model::NodeId;
use estafet_spool::Unsynced;

use crate::city::{City, Clock};
use crate::network::Condition;
use crate::seeded::Seeded;
use crate::store::Store;

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The power of one office.
    PowerCut,
    /// The power of the main server.
    HubPowerCut,
    /// The power of several offices at once.
    Blackout,
    /// The power of all.
    TotalBlackout,
    /// A process is killed; the machine goes on.
    Kill,
    /// A node is shut down in order.
    ShutDown,
    /// A node is drained.
    Drain,
    /// A link is cut.
    LinkCut,
    /// A link carries one direction only.
    OneWay,
    /// The city falls into two parts.
    Partition,
    /// A link loses packets.
    Loss,
    /// A link is slow.
    Slow,
    /// On a link streams overtake each other.
    Jitter,
    /// A disk fills up.
    FullDisk,
    /// A write fails.
    WriteFails,
    /// A sync fails.
    SyncFails,
    /// The clock on a wall jumps.
    ClockJump,
    /// A disk is lost for good.
    DiskLost,
    /// A disk comes back from a backup.
    Restored,
    /// A bit of a committed record rots at the main server.
    HubRots,
    /// The main server's disk is lost for good.
    HubDiskLost,
    /// The main server's disk comes back from a backup.
    HubRestored,
}

/// How often each comes, out of the sum.
const WEIGHTS: &[(Fault, usize)] = &[
    (Fault::PowerCut, 24),
    (Fault::HubPowerCut, 8),
    (Fault::Blackout, 4),
    (Fault::TotalBlackout, 3),
    (Fault::Kill, 8),
    (Fault::ShutDown, 4),
    (Fault::Drain, 5),
    (Fault::LinkCut, 14),
    (Fault::OneWay, 7),
    (Fault::Partition, 4),
    (Fault::Loss, 6),
    (Fault::Slow, 5),
    (Fault::Jitter, 4),
    (Fault::FullDisk, 5),
    (Fault::WriteFails, 4),
    (Fault::SyncFails, 4),
    (Fault::ClockJump, 3),
    (Fault::DiskLost, 3),
    (Fault::Restored, 6),
];

/// In a run that spoils the main server's disk, one fault in so many does.
const SPOILED: u64 = 6;

/// What sets a fault right.
#[derive(Debug)]
pub(crate) enum Repair {
    /// The power is back.
    Start(Vec<NodeId>),
    /// The links are as they should be.
    Heal(Vec<usize>),
    /// The disk has room, or is replaced by one with the same content.
    Disk(NodeId),
    /// The clock is set.
    Clock(NodeId),
    /// The node serves again.
    Undrain(NodeId),
}

/// The faults of one run.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// Disks are lost, too.
    pub(crate) loses_disks: bool,
    /// Disks come back from backups, too.
    pub(crate) restores_backups: bool,
    /// The main server's disk rots, is lost and comes back from backups, too.
    pub(crate) spoils_hub: bool,
    /// How long a fault lasts.
    pub(crate) shortest: Duration,
    pub(crate) longest: Duration,
    pub(crate) counts: BTreeMap<Fault, u64>,
    pub(crate) backups: BTreeMap<NodeId, Store>,
}

impl Trouble {
    /// Something goes wrong. Returns what will set it right, and after what time.
    pub(crate) fn strike(&mut self, city: &mut City, seeded: &mut Seeded) -> (Duration, Repair) {
        let fault = self.draw(seeded);
        *self.counts.entry(fault).or_default() += 1;
        let lasts = seeded.span(self.shortest, self.longest);
        (lasts, self.inflict(fault, city, seeded))
    }

    fn draw(&self, seeded: &mut Seeded) -> Fault {
        if self.spoils_hub && seeded.one_in(SPOILED) {
            return seeded.pick(&[Fault::HubRots, Fault::HubRots, Fault::HubRestored, Fault::HubDiskLost]);
        }
        let mut left = seeded.below(WEIGHTS.iter().map(|(_, weight)| weight).sum());
        let drawn = WEIGHTS.iter().find(|(_, weight)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        match drawn.map_or(Fault::PowerCut, |(fault, _)| *fault) {
            Fault::DiskLost if !self.loses_disks => Fault::PowerCut,
            Fault::Restored if !self.restores_backups => Fault::Kill,
            fault => fault,
        }
    }

    fn inflict(&mut self, fault: Fault, city: &mut City, seeded: &mut Seeded) -> Repair {
        let nodes = city.node_ids();
        let relays: Vec<NodeId> = nodes.iter().filter(|node| !city.is_hub(node)).cloned().collect();
        let node = seeded.pick(&nodes);
        let hub = if let [only] = &*city.hubs { only.clone() } else { seeded.pick(&city.hubs) };
        let link = seeded.below(city.link_count());
        let end = seeded.below(2);
        match fault {
            Fault::PowerCut => cut_power(city, vec![node]),
            Fault::HubPowerCut => cut_power(city, vec![hub]),
            Fault::Blackout => cut_power(city, some(&nodes, seeded)),
            Fault::TotalBlackout => cut_power(city, nodes),
            Fault::Kill => {
                city.power_cut(&node, Unsynced::Kept);
                Repair::Start(vec![node])
            }
            Fault::ShutDown => {
                city.shut_down(&node);
                Repair::Start(vec![node])
            }
            Fault::Drain => {
                city.set_draining(&node, true);
                Repair::Undrain(node)
            }
            Fault::LinkCut => change(city, link, |condition| condition.silent = [true; 2]),
            Fault::OneWay => change(city, link, |condition| condition.silent[end] = true),
            Fault::Partition => partition(city, &some(&nodes, seeded)),
            Fault::Loss => {
                let losses = seeded.pick(&[20, 50, 150, 400]);
                change(city, link, |condition| condition.losses_per_mille = losses)
            }
            Fault::Slow => {
                let slowness = seeded.pick(&[3, 10, 40]);
                change(city, link, |condition| condition.slowness = slowness)
            }
            Fault::Jitter => {
                let jitter = Duration::from_millis(seeded.pick(&[20, 100, 400]));
                change(city, link, |condition| condition.jitter = jitter)
            }
            Fault::FullDisk => {
                city.offices[&node].store.fill_up(seeded.draw() % (12 << 20));
                Repair::Disk(node)
            }
            Fault::WriteFails => {
                city.offices[&node].store.fail_write(1 + seeded.draw() % 3);
                Repair::Disk(node)
            }
            Fault::SyncFails => {
                city.offices[&node].store.fail_sync(1 + seeded.draw() % 3);
                Repair::Disk(node)
            }
            Fault::ClockJump => {
                city.set_clock(&node, seeded.pick(&[Clock::Of1970, Clock::Tomorrow]));
                Repair::Clock(node)
            }
            Fault::DiskLost => {
                let node = seeded.pick(&relays);
                city.lose_disk(&node);
                Repair::Start(vec![node])
            }
            Fault::HubRots => {
                city.rot_a_record(&hub);
                Repair::Start(Vec::new())
            }
            Fault::HubDiskLost => {
                city.lose_disk(&hub);
                Repair::Start(vec![hub])
            }
            Fault::HubRestored => {
                match self.backups.remove(&hub) {
                    Some(backup) => city.restore(&hub, backup),
                    None => drop(self.backups.insert(hub.clone(), city.backup(&hub))),
                }
                Repair::Start(vec![hub])
            }
            Fault::Restored => {
                // Every other time a backup is taken, and the next time its disk comes back.
                let Some((node, backup)) = self.backups.pop_first() else {
                    let node = seeded.pick(&relays);
                    self.backups.insert(node.clone(), city.backup(&node));
                    return Repair::Start(vec![node]);
                };
                city.restore(&node, backup);
                Repair::Start(vec![node])
            }
        }
    }
}

impl Repair {
    pub(crate) fn apply(self, city: &mut City) {
        match self {
            Repair::Start(nodes) => nodes.iter().for_each(|node| city.restart(node)),
            Repair::Heal(links) => links.into_iter().for_each(|link| city.heal(link)),
            Repair::Disk(node) => city.replace_disk(&node),
            Repair::Clock(node) => city.set_clock(&node, Clock::Right),
            Repair::Undrain(node) => city.set_draining(&node, false),
        }
    }
}

fn cut_power(city: &mut City, nodes: Vec<NodeId>) -> Repair {
    nodes.iter().for_each(|node| city.kill(node));
    Repair::Start(nodes)
}

fn change(city: &mut City, link: usize, change: impl FnOnce(&mut Condition)) -> Repair {
    let mut condition = city.condition(link);
    change(&mut condition);
    city.set_condition(link, condition);
    Repair::Heal(vec![link])
}

/// Half of them, more or less.
fn some(nodes: &[NodeId], seeded: &mut Seeded) -> Vec<NodeId> {
    nodes.iter().filter(|_| seeded.one_in(2)).cloned().collect()
}

/// Cuts every link between these and the others.
fn partition(city: &mut City, part: &[NodeId]) -> Repair {
    let inside = |link: &usize| city.wires[*link].ends.each_ref().map(|end| part.contains(end));
    let between: Vec<usize> = (0..city.link_count()).filter(|link| inside(link)[0] != inside(link)[1]).collect();
    between.iter().for_each(|link| city.cut(*link));
    Repair::Heal(between)
}
