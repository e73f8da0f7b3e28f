//! The promises, held against cities under virtual time: one scenario each.

mod counters;
mod intruders;
mod micro_loops;
mod outages;
mod seeds;
mod traffic;
