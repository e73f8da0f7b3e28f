//! The demo's own books held against the main server's count: what keeps them open, and how they close.

use std::time::Duration;

use estafet_admin::v1;
use estafet_admin::v1::admin_client::AdminClient;
use tonic::transport::Channel;

use super::comparison::Comparison;
use super::drill::BEHIND_CUT;
use super::ledger::Ledger;
use super::paper::Stacks;
use super::summary::{OfficeRow, Summary};
use crate::reach::Reach;

/// Why the books cannot be closed yet, in words. None: every paper has its slip, every slip its commit and receipt,
/// by the demo's books and by the main server's.
pub(super) fn obstacles(stacks: &Stacks, ledger: &Ledger, audit: &v1::AuditReport) -> Vec<String> {
    let mut obstacles = Vec::new();
    for (office, papers) in stacks.offices() {
        let account = ledger.account(office);
        let v1::OriginAudit { captured, receipted, held, missing_count, .. } = audit_of(audit, office);
        if account.captured < papers.len() {
            obstacles.push(format!("{office} captured {} of {}", account.captured, papers.len()));
        } else if account.committed < account.captured {
            obstacles.push(format!("{office}: {} of {} slips committed", account.committed, account.captured));
        } else if (captured, receipted, held) != (account.captured as u64, account.captured as u64, 0) {
            obstacles.push(format!(
                "{office} gave {} slips, and {} counts: captured {captured}, receipted {receipted}, held {held}, \
                 missing {missing_count}",
                account.captured, audit.seen_from
            ));
        }
    }
    obstacles
}

/// What the main server counts for an office; nothing if it never heard of it.
pub(super) fn audit_of(audit: &v1::AuditReport, office: &str) -> v1::OriginAudit {
    audit.origins.iter().find(|origin| origin.node == office).cloned().unwrap_or_default()
}

/// The area's count where each office's own word stands for it, so that what an office holds is counted although the
/// main server has not heard of it.
pub(super) async fn audit_by_origins(mut audit: v1::AuditReport, city: &Reach) -> v1::AuditReport {
    let ask = |mut node: AdminClient<Channel>| async move { node.audit(v1::AuditRequest {}).await };
    let Ok(asked) = city.ask_all(ANSWER_TIMEOUT, ask).await else { return audit };
    for (name, report) in asked.answers {
        let own = report.into_inner().origins.into_iter().find(|origin| origin.node == name);
        if let Some(own) = own {
            audit.origins.retain(|origin| origin.node != name);
            audit.origins.push(own);
        }
    }
    let sum = |count: fn(&v1::OriginAudit) -> u64| audit.origins.iter().map(count).sum();
    v1::AuditReport {
        captured: sum(|origin| origin.captured),
        receipted: sum(|origin| origin.receipted),
        held: sum(|origin| origin.held),
        missing: sum(|origin| origin.missing_count),
        ..audit
    }
}

/// All that there is when the demo ends.
pub(super) struct Books<'a> {
    pub(super) nodes: usize,
    pub(super) stacks: &'a Stacks,
    pub(super) ledger: &'a Ledger,
    pub(super) audit: &'a v1::AuditReport,
    pub(super) comparison: Comparison,
    pub(super) obstacles: Vec<String>,
    pub(super) elapsed: Duration,
}

impl Books<'_> {
    pub(super) fn close(self) -> Summary {
        let v1::AuditReport { captured, receipted, held, missing, committed_twice, .. } = *self.audit;
        let faults = [self.obstacles, self.ledger.faults(), self.comparison.faults].concat();
        // A slip without a commit is missing, unless a relay says that it holds the record.
        let without_commit = (self.ledger.captured() - self.ledger.committed()) as u64;
        let missing = missing.max(without_commit.saturating_sub(held));
        let committed_twice = committed_twice.max(self.ledger.committed_twice() as u64);
        let counts_agree = (captured, receipted, held) == (self.ledger.captured() as u64, captured, 0);
        let failover_ms = |office: &str| {
            let after = self.ledger.account(office).failover?;
            u64::try_from(after.as_millis()).ok()
        };
        let row = |office: &String| {
            let v1::OriginAudit { captured, receipted, held, missing_count, .. } = audit_of(self.audit, office);
            OfficeRow { office: office.clone(), captured, receipted, held, missing: missing_count }
        };
        Summary {
            nodes: self.nodes,
            captured,
            receipted,
            held,
            missing,
            committed_twice,
            bytes: self.ledger.bytes(),
            elapsed_s: (self.elapsed.as_secs_f64() * 10.0).round() / 10.0,
            failover_ms: BEHIND_CUT.map(|office| (office.to_owned(), failover_ms(office))).into(),
            ok: missing == 0 && committed_twice == 0 && counts_agree && faults.is_empty(),
            opened_same: self.comparison.same,
            faults,
            offices: self.stacks.offices().map(|(office, _)| row(office)).collect(),
        }
    }
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
