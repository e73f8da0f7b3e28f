//! The promises, held against cities under virtual time: one scenario each.

mod counters;
mod intruders;
mod main_server;
mod micro_loops;
mod outages;
mod seeds;
mod traffic;
