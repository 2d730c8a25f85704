//! Guards in the store's language. Everything that is spliced in is an enum's name or an integer.

use orders::{Guard, Service, Status};

/// `c.status.<service> IN (…)`.
fn status_in(service: Service, statuses: &[Status]) -> String {
    let names: Vec<_> = statuses.iter().map(|status| format!("'{}'", status.as_str())).collect();
    format!("c.status.{service} IN ({})", names.join(", "))
}

/// The order unwinds: `Order::is_unwinding`.
const UNWINDING: &str = "(IS_DEFINED(c.cancellation) OR c.status.inventory = 'failed' \
                         OR c.status.billing = 'failed')";

/// The condition of a patch that carries a move out: the same as [`Guard::admits`].
pub(super) fn condition(guard: Guard) -> String {
    format!("FROM c WHERE {}", holds(guard))
}

fn holds(guard: Guard) -> String {
    match guard {
        Guard::Claimable { service, now_ms } => {
            let free = format!(
                "({} OR (c.status.{service} = '{}' AND c.stage.{service}.leaseUntil < {now_ms}))",
                status_in(service, &[Status::Pending, Status::DeadLettered]),
                Status::Processing.as_str(),
            );
            if service.compensates() { format!("{free} AND NOT {UNWINDING}") } else { free }
        }
        Guard::Payable { now_ms } => {
            let service = Service::Billing;
            let claimable = holds(Guard::Claimable { service, now_ms });
            let fault = format!("c.faults.{service}");
            format!("{claimable} AND NOT (IS_DEFINED({fault}) AND {fault} IN ('fail', 'flaky'))")
        }
        Guard::HeldBy { service, attempt } => format!(
            "c.status.{service} = '{}' AND c.stage.{service}.attempt = {attempt}",
            Status::Processing.as_str(),
        ),
        Guard::Compensable { service, uncalled } => {
            let open = [Status::Pending, Status::Processing, Status::Done, Status::DeadLettered];
            let calls =
                if uncalled { format!(" AND c.stage.{service}.calls = 0") } else { String::new() };
            format!("{UNWINDING} AND {}{calls}", status_in(service, &open))
        }
        Guard::Rejected { service } => format!(
            "c.status.{service} = '{}' AND c.stage.{service}.unwound = false",
            Status::Failed.as_str(),
        ),
        Guard::Cancellable => format!(
            "c.overall = 'accepted' AND NOT {UNWINDING} AND c.stage.{}.calls = 0",
            Service::Billing
        ),
        Guard::AllDone => {
            let all = Service::ALL.map(|service| status_in(service, &[Status::Done]));
            format!("c.overall = 'accepted' AND {}", all.join(" AND "))
        }
        Guard::Unwound => {
            let undone = [Status::Released, Status::Refunded];
            let parts = Service::ALL.into_iter().filter(|service| service.compensates());
            let parts = parts.map(|service| {
                format!(
                    "({} OR (c.status.{service} = '{}' AND c.stage.{service}.unwound = true))",
                    status_in(service, &undone),
                    Status::Failed.as_str(),
                )
            });
            let parts: Vec<_> = parts.collect();
            format!("c.overall = 'accepted' AND {UNWINDING} AND {}", parts.join(" AND "))
        }
        Guard::Untold(notice) => format!("NOT IS_DEFINED(c.notified.{})", notice.as_str()),
        Guard::Reopenable { service } => status_in(service, &[Status::DeadLettered]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orders::Notice;

    #[test]
    fn guards_read_as_the_store_expects() {
        let claimable = |service| condition(Guard::Claimable { service, now_ms: 1_234 });
        assert_eq!(
            claimable(Service::Notification),
            "FROM c WHERE (c.status.notification IN ('pending', 'dead-lettered') \
             OR (c.status.notification = 'processing' AND c.stage.notification.leaseUntil < 1234))"
        );
        assert!(claimable(Service::Billing).ends_with(&format!(" AND NOT {UNWINDING}")));
        let payable = condition(Guard::Payable { now_ms: 1_234 });
        let rest = payable.strip_prefix(&claimable(Service::Billing)).unwrap();
        assert_eq!(
            rest,
            " AND NOT (IS_DEFINED(c.faults.billing) AND c.faults.billing IN ('fail', 'flaky'))"
        );
        assert_eq!(
            condition(Guard::HeldBy { service: Service::Inventory, attempt: 3 }),
            "FROM c WHERE c.status.inventory = 'processing' AND c.stage.inventory.attempt = 3"
        );
        assert_eq!(
            condition(Guard::AllDone),
            "FROM c WHERE c.overall = 'accepted' AND c.status.inventory IN ('done') \
             AND c.status.billing IN ('done') AND c.status.notification IN ('done')"
        );
        assert_eq!(
            condition(Guard::Untold(Notice::Received)),
            "FROM c WHERE NOT IS_DEFINED(c.notified.received)"
        );
        assert_eq!(
            condition(Guard::Reopenable { service: Service::Billing }),
            "FROM c WHERE c.status.billing IN ('dead-lettered')"
        );
    }
}
