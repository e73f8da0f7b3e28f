//! The promises, held against a virtual city.

mod counters;
mod intruders;
mod micro_loops;
mod outages;
mod seeds;
mod traffic;
