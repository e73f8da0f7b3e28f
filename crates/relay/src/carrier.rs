//! When a network device of this machine loses its carrier: a cable is pulled, a radio's port goes dark.
//!
//! The kernel knows at once, and tells whoever asks (rtnetlink(7)). Which neighbors are concerned is not worked out: all
//! are asked whether they are there, which costs a datagram each.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tracing::{info, warn};

use crate::driver::Commands;

/// The multicast group of news about devices (`RTMGRP_LINK`).
const DEVICES: u32 = 1;

/// A message begins with its length, kind, flags, number and sender (`struct nlmsghdr`); one about a device goes on with
/// its family, type, index, flags and what changed (`struct ifinfomsg`).
const HEADER_BYTES: usize = 16;
const DEVICE_FLAGS: std::ops::Range<usize> = HEADER_BYTES + 8..HEADER_BYTES + 12;

/// `RTM_NEWLINK` and `RTM_DELLINK`.
const DEVICE_IS: u16 = 16;
const DEVICE_IS_GONE: u16 = 17;

/// `IFF_RUNNING`: the device is up and has a carrier.
const RUNNING: u32 = 0x40;

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
            Ok((length, _)) => tells_of_loss(&buffer[..length]),
            // It had more to tell than room for it: what was missed may have been a loss.
            Err(Errno::NOBUFS) => true,
            Err(Errno::INTR) => false,
            Err(error) => return warn!(%error, "the kernel tells no longer when a cable is pulled"),
        };
        if lost {
            info!("a network device is down or has lost its carrier: all neighbors are asked whether they are there");
            if commands.carrier_lost().is_err() {
                return;
            }
        }
    }
}

/// Whether one of these messages is about a device that does not run.
fn tells_of_loss(mut messages: &[u8]) -> bool {
    while let Some((length, rest)) = messages.split_first_chunk() {
        let length = u32::from_ne_bytes(*length) as usize;
        let Some(kind) = rest.first_chunk().filter(|_| length >= HEADER_BYTES) else { return false };
        let flags = messages.get(DEVICE_FLAGS).and_then(|flags| flags.try_into().ok()).map(u32::from_ne_bytes);
        match u16::from_ne_bytes(*kind) {
            DEVICE_IS_GONE => return true,
            DEVICE_IS if flags.is_some_and(|flags| flags & RUNNING == 0) => return true,
            _ => {}
        }
        // Messages begin at multiples of four.
        messages = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u32) -> Vec<u8> {
        let mut message = 32u32.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.resize(DEVICE_FLAGS.start, 0);
        message.extend(flags.to_ne_bytes());
        message.resize(32, 0);
        message
    }

    #[test]
    fn a_device_that_does_not_run_is_a_loss() {
        let (up, down, gone, other) = (message(16, 0x1043), message(16, 0x1003), message(17, 0x43), message(20, 0));
        let rows = [
            (vec![], false),
            (up.clone(), false),
            (other.clone(), false),
            (down.clone(), true),
            (gone.clone(), true),
            ([up.clone(), other, down.clone()].concat(), true),
            ([up.clone(), up].concat(), false),
        ];
        for (messages, lost) in rows {
            assert_eq!(tells_of_loss(&messages), lost, "{messages:?}");
        }
        for length in 0..down.len() {
            // Only the flags decide: what breaks off before them says nothing.
            assert_eq!(tells_of_loss(&down[..length]), length >= DEVICE_FLAGS.end);
        }
        assert!(!tells_of_loss(&[0; 64]), "a message without a length");
    }
}
