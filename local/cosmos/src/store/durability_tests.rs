//! Waiting for commits: who is woken, and by what.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::durability::{Durability, Progress};

/// Polls once.
fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn each_waits_for_its_own_commit() {
    let progress = Arc::new(Progress::default());
    let durability = Durability::of(progress.clone(), None);
    let (mut first, mut third) = (pin!(durability.reached(1)), pin!(durability.reached(3)));
    assert!(poll(first.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
    progress.advance(2);
    assert_eq!(poll(first), Poll::Ready(Ok(())));
    assert!(poll(third.as_mut()).is_pending());
    progress.advance(1);
    assert_eq!(progress.durable(), 2, "nothing becomes undone");
    assert_eq!(poll(pin!(durability.reached(2))), Poll::Ready(Ok(())));
    progress.advance(3);
    assert_eq!(poll(third), Poll::Ready(Ok(())));
}

#[test]
fn a_failure_ends_every_wait_with_its_first_reason() {
    let progress = Arc::new(Progress::default());
    let durability = Durability::of(progress.clone(), None);
    let (mut waiting, mut failed) = (pin!(durability.reached(5)), pin!(durability.failed()));
    progress.advance(1);
    assert!(poll(waiting.as_mut()).is_pending() && poll(failed.as_mut()).is_pending());
    assert!(progress.fail("the disk is gone"));
    assert!(!progress.fail("and so is everything else"));
    let Poll::Ready(Err(error)) = poll(waiting) else { panic!("the wait goes on") };
    assert_eq!(error.0, "the disk is gone");
    let Poll::Ready(error) = poll(failed) else { panic!("nobody was told") };
    assert_eq!(error.0, "the disk is gone");
    // What was durable is not worth anything either: nobody knows what the disk has.
    let Poll::Ready(Err(_)) = poll(pin!(durability.reached(1))) else { panic!("it goes on") };
}
