//! What a neighbor has acknowledged: the proof that it hears this node, which its own datagrams are not.
//!
//! quinn counts the datagrams and ACK frames that come, but an ACK frame may repeat an old one. Its congestion controller
//! is told of each packet that is acknowledged for the first time, so it counts here on the way to CUBIC (RFC 9438).

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quinn::Connection;
use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

/// Makes controllers that count.
#[derive(Debug, Default)]
pub(crate) struct Counted(Arc<CubicConfig>);

impl ControllerFactory for Counted {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let controller = Arc::clone(&self.0).build(now, mtu);
        Box::new(Counting { controller, packets: Arc::default() })
    }
}

/// How many packets of a connection have been acknowledged, as they are; also when its path changes.
pub(crate) fn packets(connection: &Connection) -> Arc<AtomicU64> {
    let counting = connection.congestion_state().into_any().downcast::<Counting>();
    counting.expect("every connection counts").packets
}

/// CUBIC, and a count.
struct Counting {
    controller: Box<dyn Controller>,
    packets: Arc<AtomicU64>,
}

impl Controller for Counting {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.controller.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.controller.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.controller.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.controller.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.controller.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.controller.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.controller.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { controller: self.controller.clone_box(), packets: Arc::clone(&self.packets) })
    }

    fn initial_window(&self) -> u64 {
        self.controller.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
