//! Free loopback ports, none of them given twice.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// Ports that are held until this is dropped, so that the operating system gives no other request the same.
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
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = socket.local_addr()?;
        self.udp.push(socket);
        Ok(address)
    }

    /// Holds a TCP port.
    pub fn tcp(&mut self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        self.tcp.push(listener);
        Ok(address)
    }
}
