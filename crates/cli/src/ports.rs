//! Free loopback ports, none of them given twice.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

use rand::RngExt;

/// Below the ports that operating systems give to outgoing connections (Linux: from 32,768), so that a relay that
/// restarts finds its port free although it was not holding it.
const PORTS: RangeInclusive<u16> = 20_000..=32_000;

/// How many taken ports are passed over before the machine is found to be full.
const ATTEMPTS: usize = 1_000;

/// Ports that are held until this is dropped, so that no other request is given the same.
///
/// Afterwards they are free again, and somebody else could take one before its node does; a node that finds its port
/// taken says so when it starts.
#[derive(Debug, Default)]
pub struct ReservedPorts {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl ReservedPorts {
    /// Holds a UDP port.
    pub fn udp(&mut self) -> io::Result<SocketAddr> {
        let socket = first_free(UdpSocket::bind)?;
        let address = socket.local_addr()?;
        self.udp.push(socket);
        Ok(address)
    }

    /// Holds a TCP port.
    pub fn tcp(&mut self) -> io::Result<SocketAddr> {
        let listener = first_free(TcpListener::bind)?;
        let address = listener.local_addr()?;
        self.tcp.push(listener);
        Ok(address)
    }
}

/// Tries ports at random, so that cities made at the same time rarely meet.
fn first_free<T>(bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut random = rand::rng();
    let mut attempts = (0..ATTEMPTS).map(|_| bind((Ipv4Addr::LOCALHOST, random.random_range(PORTS)).into()));
    let taken = |bound: &io::Result<T>| bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    attempts.find(|bound| !taken(bound)).unwrap_or_else(|| Err(io::ErrorKind::AddrInUse.into()))
}
