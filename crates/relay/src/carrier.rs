//! When a network device of this machine loses its carrier: a cable is pulled, a radio's port goes dark.
//!
//! The kernel knows at once, and tells whoever asks (rtnetlink(7)). It also says by which device a neighbor is reached, so that
//! only those behind the one that is gone are suspect.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with};
use tracing::{info, warn};

use crate::driver::Commands;

/// A network device of this machine, by the kernel's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device(u32);

/// The multicast group of news about devices (`RTMGRP_LINK`).
const DEVICES: u32 = 1;

/// A message begins with its length, kind, flags, number and sender (`struct nlmsghdr`); one about a device goes on with
/// its family, type, index, flags and what changed (`struct ifinfomsg`).
const HEADER_BYTES: usize = 16;
const DEVICE_NUMBER: std::ops::Range<usize> = HEADER_BYTES + 4..HEADER_BYTES + 8;
const DEVICE_FLAGS: std::ops::Range<usize> = HEADER_BYTES + 8..HEADER_BYTES + 12;

/// `RTM_NEWLINK` and `RTM_DELLINK`.
const DEVICE_IS: u16 = 16;
const DEVICE_IS_GONE: u16 = 17;

/// `IFF_RUNNING`: the device is up and has a carrier.
const RUNNING: u32 = 0x40;

/// `RTM_NEWROUTE`, `RTM_GETROUTE`, and that this is a question (`NLM_F_REQUEST`).
const ROUTE_IS: u16 = 24;
const WHICH_ROUTE: u16 = 26;
const REQUEST: u16 = 1;

/// A message about a route goes on with 12 bytes (`struct rtmsg`), of which the first two are the family and the length of
/// the destination, and then attributes: length, kind, value. `RTA_DST` and `RTA_OIF`.
const ROUTE_BYTES: usize = 12;
const ATTRIBUTE_BYTES: usize = 4;
const DESTINATION: u16 = 1;
const BY_DEVICE: u16 = 4;

/// The kernel answers at once.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(50);

/// More than the kernel sends about one device; of a longer message the beginning is enough.
const MESSAGE_BYTES_MAX: usize = 32 << 10;

/// Tells the driver of each loss, as long as the relay runs, from a thread of its own that waits for the kernel and ends
/// with the process. Without this a pulled cable is noticed like any silence.
pub(crate) fn watch(commands: Commands) {
    match listen() {
        Ok(socket) => drop(thread::spawn(move || tell(&socket, &commands))),
        Err(error) => warn!(%error, "the kernel does not tell when a cable is pulled; silence tells too, but later"),
    }
}

fn listen() -> io::Result<OwnedFd> {
    // The default protocol is `NETLINK_ROUTE`.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, DEVICES))?;
    Ok(socket)
}

fn tell(socket: &OwnedFd, commands: &Commands) {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let lost = match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => Some(lost_devices(&buffer[..length])),
            // It had more to tell than room for it: what was missed may have been a loss.
            Err(Errno::NOBUFS) => None,
            Err(Errno::INTR) => continue,
            Err(error) => return warn!(%error, "the kernel tells no longer when a cable is pulled"),
        };
        if lost.as_ref().is_none_or(|devices| !devices.is_empty()) {
            info!("a network device is down or has lost its carrier: who is reached by it is suspect");
            if commands.carrier_lost(lost).is_err() {
                return;
            }
        }
    }
}

/// The devices of which one of these messages says that they do not run.
fn lost_devices(messages: &[u8]) -> Vec<Device> {
    let lost = parts(messages).filter_map(|(kind, message)| {
        let flags = number(message, DEVICE_FLAGS)?;
        let is_lost = kind == DEVICE_IS_GONE || kind == DEVICE_IS && flags & RUNNING == 0;
        Some(Device(number(message, DEVICE_NUMBER)?)).filter(|_| is_lost)
    });
    lost.collect()
}

/// The messages in what the kernel sent, each with its kind.
fn parts(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = number(rest, 0..4)? as usize;
        let kind = rest.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)?;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER_BYTES)?;
        // Messages begin at multiples of four.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, message))
    })
}

fn number(message: &[u8], place: std::ops::Range<usize>) -> Option<u32> {
    Some(u32::from_ne_bytes(message.get(place)?.try_into().ok()?))
}

/// By which device this machine reaches an address now. Asks the kernel, which answers at once.
pub(crate) fn device_to(address: IpAddr) -> io::Result<Device> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
    sendto(&socket, &question(address), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = [0; 1024];
    let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
    route_device(&buffer[..length]).ok_or_else(|| io::Error::from(io::ErrorKind::NetworkUnreachable))
}

fn question(address: IpAddr) -> Vec<u8> {
    let (family, bytes) = match &address {
        IpAddr::V4(address) => (AddressFamily::INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AddressFamily::INET6, address.octets().to_vec()),
    };
    let small = |number: usize| u8::try_from(number).expect("a question about a route is short");
    let length = HEADER_BYTES + ROUTE_BYTES + ATTRIBUTE_BYTES + bytes.len();
    let mut question = u32::from(small(length)).to_ne_bytes().to_vec();
    question.extend(WHICH_ROUTE.to_ne_bytes());
    question.extend(REQUEST.to_ne_bytes());
    question.resize(HEADER_BYTES, 0);
    question.extend([small(family.as_raw().into()), small(bytes.len() * 8)]);
    question.resize(HEADER_BYTES + ROUTE_BYTES, 0);
    question.extend(u16::from(small(ATTRIBUTE_BYTES + bytes.len())).to_ne_bytes());
    question.extend(DESTINATION.to_ne_bytes());
    question.extend(bytes);
    question
}

/// The device of the first route in an answer.
fn route_device(answer: &[u8]) -> Option<Device> {
    let (_, route) = parts(answer).find(|(kind, _)| *kind == ROUTE_IS)?;
    let mut attributes = route.get(HEADER_BYTES + ROUTE_BYTES..)?;
    loop {
        let short = |place: std::ops::Range<usize>| Some(u16::from_ne_bytes(attributes.get(place)?.try_into().ok()?));
        let (length, kind) = (usize::from(short(0..2)?), short(2..4)?);
        if kind == BY_DEVICE {
            return number(attributes, ATTRIBUTE_BYTES..ATTRIBUTE_BYTES + 4).map(Device);
        }
        attributes = attributes.get(length.max(ATTRIBUTE_BYTES).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u32) -> Vec<u8> {
        let mut message = 32u32.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.resize(DEVICE_NUMBER.start, 0);
        message.extend(7u32.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.resize(32, 0);
        message
    }

    #[test]
    fn a_device_that_does_not_run_is_a_loss() {
        let (up, down, gone, other) = (message(16, 0x1043), message(16, 0x1003), message(17, 0x43), message(20, 0));
        let rows = [
            (vec![], 0),
            (up.clone(), 0),
            (other.clone(), 0),
            (down.clone(), 1),
            (gone.clone(), 1),
            ([up.clone(), other, down.clone(), gone].concat(), 2),
            ([up.clone(), up].concat(), 0),
        ];
        for (messages, lost) in rows {
            assert_eq!(lost_devices(&messages), vec![Device(7); lost], "{messages:?}");
        }
        for length in 0..down.len() {
            assert_eq!(lost_devices(&down[..length]), [], "what breaks off says nothing");
        }
        assert_eq!(lost_devices(&[0; 64]), [], "a message without a length");
    }

    #[test]
    fn the_kernel_says_by_which_device_an_address_is_reached() {
        let loopback = device_to("127.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(device_to("127.9.9.9".parse().unwrap()).unwrap(), loopback);
        let number = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        assert_eq!(loopback, Device(number.trim().parse().unwrap()));
        for length in 0..64 {
            assert_eq!(route_device(&vec![0; length]), None);
        }
    }
}
