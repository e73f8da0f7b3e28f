//! Whole cities on loopback: real relays, real disks, real QUIC, looked at through the real command line.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails where it stands, and says what it saw"
)]

mod audit_log;
mod batches;
mod command_line;
mod counter;
mod damage;
mod delivery;
mod drain;
mod durability;
mod harness;
mod hostile_neighbor;
mod hostile_requests;
mod incident;
mod kills;
mod lost_disks;
mod main_server;
mod members;
mod power;
mod proofs;
mod seal_token;
mod sealing;
mod strangers;
mod threats;
mod topologies;
mod two_main_servers;
mod workstations;
