//! One custody machine at a time, with its neighbors played by hand.

mod bearers;
mod comparing;
mod custodians;
mod diverting;
mod handing_on;
mod losing;
mod relay;
mod resuming;
mod spreading;
mod taking_back;
mod taking_in;
mod telling;
mod timers;
mod two_hubs;
mod unbelieved;
