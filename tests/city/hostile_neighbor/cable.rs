//! Who holds the cable: every datagram between two relays passes through its hands.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::harness::{City, capture, wait_for};

/// What a citizen would not like to be read on the way.
const CANARY: &[u8] = b"NIK 1471012301990001 kenari";

/// What happens in between.
#[derive(Default)]
struct Cable {
    seen: Mutex<Vec<u8>>,
    datagrams: AtomicU64,
    ended: AtomicBool,
}

impl Cable {
    /// Stands before a relay: what comes to the returned port goes to it, and its answers back. Of every ten datagrams one is
    /// changed, and one comes twice.
    fn before(self: &Arc<Self>, relay: SocketAddr) -> u16 {
        let outer = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let inner = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let port = outer.local_addr().unwrap().port();
        let caller = Arc::new(Mutex::new(None));
        for (from, to, is_inward) in [(outer.try_clone(), inner.try_clone(), true), (Ok(inner), Ok(outer), false)] {
            let (from, to) = (from.unwrap(), to.unwrap());
            from.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let (cable, caller) = (Arc::clone(self), Arc::clone(&caller));
            thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                while !cable.ended.load(Ordering::Relaxed) {
                    let Ok((length, source)) = from.recv_from(&mut buffer) else { continue };
                    let target = if is_inward {
                        *caller.lock().unwrap() = Some(source);
                        Some(relay)
                    } else {
                        *caller.lock().unwrap()
                    };
                    if let Some(target) = target {
                        cable.pass(&to, target, &mut buffer[..length]);
                    }
                }
            });
        }
        port
    }

    fn pass(&self, socket: &UdpSocket, target: SocketAddr, datagram: &mut [u8]) {
        self.seen.lock().unwrap().extend_from_slice(datagram);
        let number = self.datagrams.fetch_add(1, Ordering::Relaxed);
        if number % 10 == 3 {
            let place = usize::try_from(number).unwrap() * 7 % datagram.len();
            datagram[place] ^= 1 << (number % 8);
        }
        for _ in 0..=u8::from(number % 10 == 7) {
            // A datagram that does not leave is one that was lost.
            let _lost = socket.send_to(datagram, target);
        }
    }
}

#[test]
fn who_holds_the_cable_reads_nothing_and_what_it_changes_is_not_believed() {
    let mut city = City::new("pekanbaru-2013");
    let cable = Arc::new(Cable::default());
    city.edit_topology(|text| {
        ["sukajadi", "induk"].into_iter().fold(text, |text, node| {
            let relay = SocketAddr::from(([127, 0, 0, 1], city.quic_port(node)));
            let there = SocketAddr::from(([127, 0, 0, 1], cable.before(relay)));
            text.replace(&format!("\"{relay}\""), &format!("\"{there}\""))
        })
    });
    for node in ["sukajadi", "induk"] {
        let config = fs::read_to_string(city.config(node)).unwrap();
        fs::write(city.config(node), format!("listen = \"127.0.0.1:{}\"\n{config}", city.quic_port(node))).unwrap();
        city.start(node);
    }
    city.wait_for_path(&["sukajadi", "induk"]);
    let body = |bytes: usize| CANARY.iter().copied().cycle().take(bytes).collect::<Vec<u8>>();
    let sizes = [100, 5_000, 40_000, 300_000];
    let given: Vec<_> = sizes.map(|size| capture(&city.intake("sukajadi"), &body(size), &[])).into();
    city.assert_honored(&given);
    wait_for("all of it has passed", || (cable.seen.lock().unwrap().len() > sizes.iter().sum()).then_some(()));
    cable.ended.store(true, Ordering::Relaxed);
    let seen = cable.seen.lock().unwrap();
    assert!(cable.datagrams.load(Ordering::Relaxed) > 50);
    let names: [&[u8]; 3] = [CANARY, b"sukajadi", given[0].slip.as_bytes()];
    for name in names {
        assert!(!seen.windows(name.len()).any(|window| window == name), "{}", String::from_utf8_lossy(name));
    }
    for node in ["sukajadi", "induk"] {
        assert!(!city.log(node).contains("panicked") && !city.log(node).contains("for_s="), "{}", city.log(node));
    }
}
