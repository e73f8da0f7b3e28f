//! Who may ask the admin API by the topology in force, and a line in the audit log for whoever may not.

use std::sync::Arc;

use estafet_admin::{Caller, Doorkeeper, Refusal, Refused, WhyRefused};
use estafet_audit_log::{Event, Who};
use estafet_model::PublicKey;
use estafet_topology::Topology;
use tokio::sync::watch;

use crate::audit_log::{AuditLog, who};

/// The admin API's doorkeeper.
pub(crate) struct AdminDoor {
    pub(crate) in_force: watch::Receiver<Arc<Topology>>,
    pub(crate) audit_log: AuditLog,
}

impl Doorkeeper for AdminDoor {
    fn caller(&self, key: &PublicKey) -> Option<Caller> {
        Caller::by_key(&self.in_force.borrow(), key)
    }

    fn refused(&self, Refusal { who: refused, why, method, text }: Refusal) {
        let what = match why {
            WhyRefused::UnknownKey => "admin-key",
            WhyRefused::Role => "admin-call",
            WhyRefused::TooMany => "admin-rate",
        };
        let refused = match refused {
            Refused::Stranger { address, key } => {
                Who::Stranger { address: address.ip().to_string(), key: Some(key.to_string()) }
            }
            Refused::Caller(caller) => who(&caller),
        };
        let event = Event::refused(refused, what, &text);
        self.audit_log.refused(match method {
            Some(method) => event.about("call", method),
            None => event,
        });
    }
}
