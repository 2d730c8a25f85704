//! Every named crash point: the process dies exactly there, once, and the order ends well all the
//! same. Points are armed one by one per app, so that each death is a case of its own; the apps go
//! side by side.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{TestStack, eventually, eventually_within, order, order_with};
use crate::proof;

/// How an order is meant to end, and what it takes to pass the point.
#[derive(Clone, Copy)]
enum Course {
    Completes,
    /// The bank declines.
    Fails,
    /// More is ordered than there is, and part of it is reserved before that shows.
    OutOfStock,
    /// The customer cancels while the payment is held up.
    Cancelled,
    /// Billing is done before inventory finds out that there is not enough.
    Refunded,
    /// The first attempts find the dependency away.
    Flaky,
}

/// What lies before and after each write, by the app that passes it. `functions/**` has no other
/// points; a test holds that.
const POINTS: [(&str, &[(&str, Course)]); 5] = [
    (
        "order-api",
        &[
            ("publish.before-send", Course::Completes),
            ("publish.after-send", Course::Completes),
            ("publish.after-mark", Course::Completes),
            ("submit.before-commit", Course::Completes),
            ("submit.after-commit", Course::Completes),
            ("cancel.before-commit", Course::Cancelled),
            ("cancel.after-commit", Course::Cancelled),
        ],
    ),
    (
        "inventory",
        &[
            ("inventory.before-claim", Course::Completes),
            ("inventory.after-claim", Course::Completes),
            ("inventory.between-reservations", Course::Completes),
            ("inventory.after-act", Course::Completes),
            ("inventory.after-complete", Course::Completes),
            ("inventory.between-releases", Course::OutOfStock),
            ("inventory.before-compensated", Course::Fails),
            ("inventory.after-compensated", Course::Fails),
            ("inventory.before-close", Course::Fails),
            ("inventory.after-close", Course::Fails),
        ],
    ),
    (
        "billing",
        &[
            ("billing.before-hand-over", Course::Completes),
            ("billing.after-hand-over", Course::Completes),
        ],
    ),
    (
        "payments",
        &[
            ("billing.before-claim", Course::Completes),
            ("billing.after-claim", Course::Completes),
            ("billing.before-charge", Course::Completes),
            ("billing.after-charge", Course::Completes),
            ("billing.after-act", Course::Completes),
            ("billing.after-complete", Course::Completes),
            ("billing.before-cancel", Course::Refunded),
            ("billing.after-cancel", Course::Refunded),
            ("billing.before-compensated", Course::Refunded),
            ("billing.after-compensated", Course::Refunded),
            ("billing.before-close", Course::Refunded),
            ("billing.after-close", Course::Refunded),
        ],
    ),
    (
        "notification",
        &[
            ("notification.before-claim", Course::Completes),
            ("notification.after-claim", Course::Completes),
            ("notification.after-act", Course::Completes),
            ("notification.after-complete", Course::Completes),
            ("consumer.before-retry", Course::Flaky),
            ("consumer.after-retry", Course::Flaky),
            // Held up by its retries, it is the last to finish.
            ("notification.before-close", Course::Flaky),
            ("notification.after-close", Course::Flaky),
            ("notification.before-publish", Course::Completes),
            ("notification.after-publish", Course::Completes),
        ],
    ),
];

/// The order that takes a course.
fn body(course: Course) -> Value {
    match course {
        Course::Completes | Course::Cancelled => order(),
        Course::Fails => order_with(json!({"billing": "decline"})),
        Course::Flaky => order_with(json!({"notification": "flaky"})),
        Course::OutOfStock | Course::Refunded => json!({
            "customerId": "c-crash", "currency": "EUR",
            "items": [{"sku": "magnesium", "quantity": 1}, {"sku": "royal-jelly", "quantity": 6}],
        }),
    }
}

fn end(course: Course) -> &'static str {
    match course {
        Course::Completes | Course::Flaky => "completed",
        Course::Fails | Course::OutOfStock | Course::Refunded => "failed",
        Course::Cancelled => "cancelled",
    }
}

/// Crashes once at every point of an app, then waits for every order to end as it should.
async fn crash_everywhere(app: &str) {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    let points = POINTS.iter().find(|(name, _)| *name == app).unwrap().1;
    let mut submitted = Vec::new();
    for &(point, course) in points {
        match course {
            Course::Cancelled => stack.hold("billing.before-hand-over"),
            Course::Refunded => stack.hold("inventory.before-claim"),
            _ => {}
        }
        stack.arm(point, "abort");
        let key = format!("crash-{point}");
        let id = stack.submit_patiently(&body(course), &key).await;
        if matches!(course, Course::Cancelled) {
            eventually("the cancellation is accepted", || async {
                (stack.try_cancel(&id).await == Some(202)).then_some(())
            })
            .await;
            stack.release("billing.before-hand-over");
        }
        if matches!(course, Course::Refunded) {
            stack.until(&id, "paid", |order| order["status"]["billing"] == "done").await;
            stack.release("inventory.before-claim");
        }
        let what = format!("{app} dies at {point}");
        eventually_within(CLOSED_WITHIN, &what, || async {
            (!stack.is_armed(point)).then_some(())
        })
        .await;
        // The next death must not fall upon this order's redelivery: three of them, and the broker
        // gives up on it, rightly.
        let what = "the order is closed, or comes back once the lease is over";
        eventually_within(CLOSED_WITHIN, what, || async {
            let later = |line: &str| line.contains(&id) && line.contains("comes back later");
            let closed = || async { stack.overall(&id).await.is_some_and(|o| o != "accepted") };
            (closed().await || stack.full_log().lines().any(later)).then_some(())
        })
        .await;
        submitted.push((point, course, id));
    }
    for (point, course, id) in &submitted {
        let closed = stack
            .until_within(id, CLOSED_WITHIN, &format!("closed after a crash at {point}"), |order| {
                order["overall"] != "accepted"
            })
            .await;
        assert_eq!(closed["overall"], end(*course), "{point}: {closed:#}");
        if matches!(course, Course::Refunded) {
            assert_eq!(closed["status"]["billing"], "refunded", "{point}: {closed:#}");
        }
    }
    let ids: Vec<String> = submitted.into_iter().map(|(_, _, id)| id).collect();
    let counts = proof::prove(&stack, &ids, &initial).await;
    assert_eq!(counts.dead_lettered, 0);
}

/// A crash costs the rest of a lease; a crash of a host the rest of a message lock.
const CLOSED_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test]
async fn the_order_api_may_die_at_every_point() {
    crash_everywhere("order-api").await;
}

#[tokio::test]
async fn inventory_may_die_at_every_point() {
    crash_everywhere("inventory").await;
}

#[tokio::test]
async fn billing_may_die_at_every_point() {
    crash_everywhere("billing").await;
}

#[tokio::test]
async fn payments_may_die_at_every_point() {
    crash_everywhere("payments").await;
}

#[tokio::test]
async fn notification_may_die_at_every_point() {
    crash_everywhere("notification").await;
}

#[tokio::test]
async fn a_consumer_may_die_while_it_dead_letters() {
    let stack = TestStack::start().await;
    for point in ["consumer.before-dead-letter", "consumer.after-dead-letter"] {
        stack.arm(point, "abort");
        let poison = azure::bus::Message {
            message_id: Some(point.to_owned()),
            ..azure::bus::Message::new("no event")
        }
        .with_property("event_type", "order.created");
        stack.bus().sender("orders").send(&poison).await.unwrap();
        eventually(point, || async { (!stack.is_armed(point)).then_some(()) }).await;
    }
    for subscription in proof::SUBSCRIPTIONS {
        let dead = eventually("both are dead-lettered", || async {
            let dead = stack.dead_letters(subscription).await;
            (dead.len() >= 2).then_some(dead)
        })
        .await;
        assert_eq!(dead.len(), 2, "each once");
        for message in dead {
            assert_eq!(message.dead_letter_reason.as_deref(), Some("not-json"), "{message:?}");
        }
    }
}

#[test]
fn every_point_in_the_code_has_its_case() {
    let mut named = Vec::new();
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(path).unwrap();
                let after = |call: &str| -> Vec<String> {
                    let found = text.split(call).skip(1).filter_map(|rest| rest.split('"').next());
                    found.map(str::to_owned).collect()
                };
                named.extend(after("crash::point(\""));
                // A place in the worker is a point of each service that passes it.
                for place in after("self.point(\"") {
                    for service in orders::Service::ALL {
                        if service.compensates() || !place.ends_with("compensated") {
                            named.push(format!("{service}.{place}"));
                        }
                    }
                }
            }
        }
    }
    assert!(named.len() > 20, "the search finds nothing: {named:?}");
    let mut cases: Vec<&str> =
        POINTS.iter().flat_map(|(_, points)| points.iter().map(|(point, _)| *point)).collect();
    cases.extend(["consumer.before-dead-letter", "consumer.after-dead-letter"]);
    // Of `tests/ops.rs`: no order is submitted there to pass them.
    cases.extend(["ops.before-send", "ops.after-send", "ops.after-mark", "ops.after-complete"]);
    for point in named {
        assert!(cases.contains(&point.as_str()), "no case for {point}");
    }
}
