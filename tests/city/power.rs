//! What needs root: power cuts on a real file system, and drills on disks and links that a test can break.
//!
//! Each test runs in namespaces of its own ([`namespace::alone`]); where it cannot, it says so loudly and proves nothing.

mod backlog;
mod bearers;
mod busy_loops;
mod carrier;
mod clock;
mod commits;
mod cuts;
mod dead_branch;
mod disk;
mod failing_disk;
mod failover;
mod flow;
mod full_disk;
mod idle;
mod inventory;
mod lab;
mod load;
mod namespace;
mod peers;
mod resume;
mod stalls;
mod steadiness;
mod ups;
mod weak_link;
