//! Others beside it: FRR (OSPF with BFD) and babeld on the same map, in the same run, as Sukajadi dies in silence.
//!
//! They move packets, not records: fifty datagrams a second go from Rumbai to the main server by the kernel's routes, one
//! network namespace for each node and a veth pair for each link. What counts is how long none arrives.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::flow::{Network, all_given, median};
use super::lab::LAB_TOOLS;
use super::load::number;
use super::namespace::{alone, own_network_names, report, run};
use crate::harness::{City, wait_for};

const FRR: &str = "/usr/lib/frr";

/// The datagrams of the probe, and how long they flow before and after the death.
const PAUSE: Duration = Duration::from_millis(20);
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(5);
const PORT: u16 = 7700;

/// Deaths under each; `ESTAFET_TRIALS` makes more.
const TRIALS: u64 = 3;

/// Everything that passes through the dead node, or comes from it.
const DEAD: &str = "table inet dead {
  chain arriving { type filter hook prerouting priority -400; policy drop; }
  chain leaving { type filter hook output priority -400; policy drop; }
}";

#[derive(Debug, Clone, Copy)]
enum Peer {
    /// BFD every 50 ms, three missed: the quickest that is stable.
    Frr,
    /// A hello every 100 ms, and link quality.
    Babeld,
}

/// One end of a link: the device is called after the neighbor.
struct End {
    neighbor: String,
    cost: u32,
}

/// The map with kernels that forward, and routing daemons.
struct Routed {
    folder: PathBuf,
    peer: Peer,
    /// The last byte of a node's address.
    numbers: BTreeMap<String, usize>,
    ends: BTreeMap<String, Vec<End>>,
    daemons: BTreeMap<String, Vec<Child>>,
}

impl Routed {
    fn start(city: &City, peer: Peer) -> Self {
        let numbers: BTreeMap<String, usize> = city.node_ids().into_iter().zip(1..).collect();
        let mut ends: BTreeMap<String, Vec<End>> = BTreeMap::new();
        for (node, number) in &numbers {
            run("ip", &["netns", "add", node]);
            run("ip", &["-n", node, "link", "set", "lo", "up"]);
            run("ip", &["-n", node, "address", "add", &format!("10.77.0.{number}/32"), "dev", "lo"]);
            let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter";
            run("ip", &["netns", "exec", node, "sh", "-c", forward]);
        }
        for (number, (one, other, cost)) in links(city).into_iter().enumerate() {
            run("ip", &["link", "add", &other, "netns", &one, "type", "veth", "peer", "name", &one, "netns", &other]);
            for (node, device, last) in [(&one, &other, 1), (&other, &one, 2)] {
                let address = format!("10.78.{number}.{last}/30");
                run("ip", &["-n", node, "address", "add", &address, "dev", device]);
                run("ip", &["-n", node, "link", "set", device, "up"]);
                ends.entry(node.clone()).or_default().push(End { neighbor: device.clone(), cost });
            }
        }
        let folder = city.dir().join(format!("{peer:?}"));
        let mut routed = Self { folder, peer, numbers, ends, daemons: BTreeMap::new() };
        for node in city.node_ids() {
            routed.start_daemons(&node);
        }
        routed.wait_for_way("sukajadi");
        routed
    }

    fn start_daemons(&mut self, node: &str) {
        let folder = self.folder.join(node);
        fs::create_dir_all(&folder).unwrap();
        let daemons = match self.peer {
            Peer::Frr => self.frr(node, &folder),
            Peer::Babeld => self.babeld(node, &folder),
        };
        self.daemons.insert(node.to_owned(), daemons);
    }

    fn frr(&self, node: &str, folder: &Path) -> Vec<Child> {
        let ospf: String = self.ends[node]
            .iter()
            .map(|End { neighbor, cost }| {
                format!(
                    "interface {neighbor}\n ip ospf area 0\n ip ospf cost {cost}\n ip ospf network point-to-point\n ip ospf \
                     hello-interval 1\n ip ospf dead-interval 4\n ip ospf bfd\n ip ospf bfd profile quick\n"
                )
            })
            .collect();
        let number = self.numbers[node];
        let router = format!(
            "interface lo\n ip ospf area 0\nrouter ospf\n ospf router-id 10.77.0.{number}\n timers throttle spf 0 50 1000\n \
             timers throttle lsa all 0\n timers lsa min-arrival 0\n"
        );
        let bfd = "bfd\n profile quick\n  transmit-interval 50\n  receive-interval 50\n  detect-multiplier 3\n";
        let configurations =
            [("zebra", format!("hostname {node}\n")), ("bfdd", bfd.to_owned()), ("ospfd", ospf + &router)];
        for (daemon, configuration) in &configurations {
            fs::write(folder.join(format!("{daemon}.conf")), configuration).unwrap();
        }
        run("chown", &["-R", "frr:frr", folder.to_str().unwrap()]);
        let path = |name: String| folder.join(name).to_str().unwrap().to_owned();
        let start = |(daemon, _): &(&str, String)| {
            let mut arguments = vec!["-f".to_owned(), path(format!("{daemon}.conf")), "-i".to_owned()];
            arguments.extend([path(format!("{daemon}.pid")), "-z".to_owned(), path("zserv.api".to_owned())]);
            arguments.extend(["--vty_socket".to_owned(), path(String::new()), "-P".to_owned(), "0".to_owned()]);
            if *daemon == "bfdd" {
                arguments.extend(["--bfdctl".to_owned(), path("bfdd.sock".to_owned())]);
            }
            let child = daemon_in(node, &format!("{FRR}/{daemon}"), &arguments, folder);
            if *daemon == "zebra" {
                wait_for("zebra", || folder.join("zserv.api").exists().then_some(()));
            }
            child
        };
        configurations.iter().map(start).collect()
    }

    fn babeld(&self, node: &str, folder: &Path) -> Vec<Child> {
        let interfaces: String = self.ends[node]
            .iter()
            // A wired link costs 96 there, and 10 here.
            .map(|End { neighbor, cost }| {
                let cost = cost * 96 / 10;
                format!(
                    "interface {neighbor} rxcost {cost} type wired link-quality true hello-interval 0.1 update-interval 4\n"
                )
            })
            .collect();
        let number = self.numbers[node];
        let configuration = format!(
            "redistribute local ip 10.77.0.{number}/32 allow\nredistribute local deny\nlink-detect true\n\
             smoothing-half-life 1\n{interfaces}"
        );
        fs::write(folder.join("babeld.conf"), configuration).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        // It does not start where its last life has left the number of its process.
        let _there_was_none = fs::remove_file(path("pid"));
        let arguments = [("-I", "pid"), ("-S", "state"), ("-c", "babeld.conf")];
        let arguments = arguments.map(|(option, name)| [option.to_owned(), path(name)]).concat();
        vec![daemon_in(node, "babeld", &arguments, folder)]
    }

    /// Waits until Rumbai's way to the main server begins with this neighbor.
    fn wait_for_way(&self, neighbor: &str) {
        let induk = format!("10.77.0.{}", self.numbers["induk"]);
        wait_for(&format!("{:?} finds its way", self.peer), || {
            let route = Command::new("ip").args(["-n", "rumbai", "route", "get", &induk]).output().unwrap();
            String::from_utf8_lossy(&route.stdout).contains(&format!("dev {neighbor}")).then_some(())
        });
    }

    fn kill(&mut self, node: &str) {
        run("ip", &["netns", "exec", node, "nft", DEAD]);
        for daemon in self.daemons.get_mut(node).unwrap() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    fn revive(&mut self, node: &str) {
        // With its power its routes went.
        for state in ["down", "up"] {
            self.ends[node].iter().for_each(|end| run("ip", &["-n", node, "link", "set", &end.neighbor, state]));
        }
        run("ip", &["netns", "exec", node, "nft", "delete table inet dead"]);
        let _there_was_none = fs::remove_file(self.folder.join(node).join("zserv.api"));
        self.start_daemons(node);
        self.wait_for_way(node);
    }

    /// The longest that no datagram arrived around what `disturb` does, and how many never did.
    fn probe(&mut self, disturb: impl FnOnce(&mut Self)) -> (Duration, u64) {
        let address = |node: &str| format!("10.77.0.{}:{PORT}", self.numbers[node]);
        let (from, to) = (address("rumbai"), address("induk"));
        let stop = &AtomicBool::new(false);
        thread::scope(|scope| {
            let received = scope.spawn({
                let to = to.clone();
                move || {
                    let socket = socket_in("induk", &to);
                    socket.set_read_timeout(Some(PAUSE * 10)).unwrap();
                    let mut arrivals = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        if socket.recv(&mut [0; 8]).is_ok() {
                            arrivals.push(Instant::now());
                        }
                    }
                    arrivals
                }
            });
            let sent = scope.spawn(move || {
                let socket = socket_in("rumbai", &from);
                let (start, mut sent) = (Instant::now(), 0u32);
                while !stop.load(Ordering::Relaxed) {
                    // Without a route the datagram is lost, which is what is counted.
                    let _unroutable = socket.send_to(&sent.to_be_bytes(), &to);
                    sent += 1;
                    thread::sleep((start + PAUSE * sent).saturating_duration_since(Instant::now()));
                }
                sent
            });
            thread::sleep(BEFORE);
            disturb(self);
            thread::sleep(AFTER);
            stop.store(true, Ordering::Relaxed);
            let (arrivals, sent) = (received.join().unwrap(), sent.join().unwrap());
            let gap = arrivals.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            (gap, u64::from(sent) - arrivals.len() as u64)
        })
    }
}

impl Drop for Routed {
    fn drop(&mut self) {
        for daemon in self.daemons.values_mut().flatten() {
            // It may have ended by itself.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        for node in self.numbers.keys() {
            let _ = Command::new("ip").args(["netns", "delete", node]).status();
        }
    }
}

fn daemon_in(node: &str, program: &str, arguments: &[String], folder: &Path) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", node, program]).args(arguments);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// A socket in a node's network: the thread moves there and stays.
fn socket_in(node: &str, address: &str) -> UdpSocket {
    let namespace = fs::File::open(format!("/run/netns/{node}")).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    UdpSocket::bind(address).unwrap()
}

/// The links of a city's topology, with their costs.
fn links(city: &City) -> Vec<(String, String, u32)> {
    let text = fs::read_to_string(city.dir().join("topology.toml")).unwrap();
    let link = |part: &str| {
        let value = |key: &str| part.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ")).unwrap();
        let ends: Vec<&str> = value("ends").trim_matches(['[', ']']).split(", ").collect();
        let [one, other] = [ends[0], ends[1]].map(|end| end.trim_matches('"').to_owned());
        (one, other, value("cost").parse().unwrap())
    };
    text.split("[[link]]").skip(1).map(link).collect()
}

#[test]
fn others_beside_it_as_a_neighbor_dies_in_silence() {
    let zebra = format!("{FRR}/zebra");
    let tools = [LAB_TOOLS, &["babeld", "chown", &zebra]].concat();
    alone("power::peers::others_beside_it_as_a_neighbor_dies_in_silence", &tools, || {
        own_network_names();
        let trials = number("ESTAFET_TRIALS").unwrap_or(TRIALS);
        for peer in [Peer::Frr, Peer::Babeld] {
            let city = City::new("pekanbaru");
            let mut routed = Routed::start(&city, peer);
            let (mut gaps, mut lost) = (Vec::new(), 0);
            for _ in 0..trials {
                let (gap, without) = routed.probe(|routed| routed.kill("sukajadi"));
                gaps.push(gap);
                lost += without;
                routed.revive("sukajadi");
            }
            let median = median(&mut gaps);
            report(&format!(
                "{peer:?}, {trials} silent deaths of sukajadi under 50 datagrams/s: none arrived for {median:.0?} (median), \
                 {:.0?} (worst); {lost} lost",
                gaps.last().unwrap()
            ));
            assert!(lost > 0, "a datagram on its way to the dead is lost: the probe can fail");
        }
        let mut network = Network::new();
        let (mut gaps, mut all) = (Vec::new(), Vec::new());
        for _ in 0..trials {
            let sent = network.flow(|city, lab| {
                lab.silence("sukajadi");
                city.kill("sukajadi");
            });
            gaps.push(network.delays_of_the_blow(&sent).0);
            all.extend(all_given([sent]));
            thread::sleep(AFTER);
            network.lab.hear_again("sukajadi");
            network.city.start("sukajadi");
            network.city.wait_for_path(&super::flow::OLD_WAY);
        }
        let median = median(&mut gaps);
        report(&format!(
            "Estafet, {trials} silent deaths of sukajadi under 20 records/s: none was committed for {median:.0?} (median), \
             {:.0?} (worst); 0 lost",
            gaps.last().unwrap()
        ));
        network.city.assert_honored(&all);
    });
}
