//! The spool from outside, on the simulator's disk and on a real one.
#![cfg(test)]

mod conformance;
mod crash;
mod damage;
mod handle;
mod model;
mod poison;
mod recalling;
mod reclaiming;
mod recycling;
mod rounds;
mod scrubbing;
mod support;
mod surgery;
