//! Whole cities on loopback: real relays, real disks, real QUIC, looked at through the real command line.

mod command_line;
mod counter;
mod delivery;
mod harness;
mod kills;
mod strangers;
