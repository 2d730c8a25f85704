//! Messages by session.

use super::*;

fn in_session(id: &str, session: &str) -> Message {
    let mut message = message(id);
    message.session_id = Some(session.into());
    message
}

impl Bench {
    fn accept(&mut self, path: &str, wanted: Option<&str>) -> SessionOffer {
        let place = self.place(path);
        let (connection, mode) = (ConnectionId(1), ReceiveMode::PeekLock);
        self.broker.open_session(self.now, connection, place, mode, wanted)
    }

    /// The receiver and the name of a session that is there.
    fn accepted(&mut self, path: &str, wanted: Option<&str>) -> (ReceiverId, String) {
        match self.accept(path, wanted) {
            SessionOffer::Accepted { receiver, session, .. } => (receiver, session.to_string()),
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, receiver: ReceiverId, count: u32) -> Vec<Delivery> {
        self.broker.grant(self.now, receiver, count);
        self.fetch(receiver)
    }
}

fn bodies(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.id()).collect()
}

#[test]
fn a_session_belongs_to_one_receiver_and_keeps_its_order() {
    let mut bench = Bench::new();
    for (id, session) in [("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b"), ("a3", "a")] {
        bench.send("s", in_session(id, session));
    }
    let (first, name) = bench.accepted("s", None);
    assert_eq!(name, "a", "the oldest message decides");
    let (second, name) = bench.accepted("s", None);
    assert_eq!(name, "b");
    let SessionOffer::Waiting(third) = bench.accept("s", None) else { panic!("none is free") };
    assert_eq!(bench.accept("s", Some("a")), SessionOffer::Taken);
    let got = bench.take(first, 2);
    assert_eq!(bodies(&got), ["a1", "a2"]);
    assert_eq!(bodies(&bench.take(second, 9)), ["b1", "b2"]);
    // What is abandoned is the next again.
    bench.settle("s", &got[0], abandon()).unwrap();
    assert_eq!(bodies(&bench.take(first, 9)), ["a1", "a3"]);
    // Given back, everything is there for the one who waits, and was not counted.
    bench.broker.close_receiver(bench.now, first);
    let Some(Event::Accepted { session, .. }) = bench.broker.take_event(third) else { panic!() };
    assert_eq!(&*session, "a");
    let again = bench.take(third, 9);
    assert_eq!(bodies(&again), ["a1", "a2", "a3"]);
    assert_eq!([again[0].delivery_count, again[1].delivery_count], [1, 0]);
    // The lock tokens of the one before are worth nothing.
    let late = bench.settle("s", &got[1], Settlement::Complete);
    assert_eq!(late, Err(SettleError::SessionLost));
}

#[test]
fn a_session_lock_ends_with_its_messages_unless_renewed() {
    let mut bench = Bench::new();
    bench.send("s", in_session("a1", "a"));
    let (first, _) = bench.accepted("s", Some("a"));
    let place = bench.place("s");
    let got = bench.take(first, 1).remove(0);
    assert_eq!(got.locked_until, bench.now.plus(10_000));
    bench.wait(9_999);
    let until = bench.broker.renew_session(bench.now, place, "a").unwrap();
    assert_eq!(until, bench.now.plus(10_000));
    bench.wait(9_999);
    assert_eq!(bench.broker.take_event(first), None);
    bench.wait(1);
    assert_eq!(bench.broker.take_event(first), Some(Event::Lost(Lost::SessionLock)));
    assert_eq!(bench.settle("s", &got, Settlement::Complete), Err(SettleError::SessionLost));
    assert_eq!(bench.broker.renew_session(bench.now, place, "a"), Err(SettleError::SessionLost));
    // The failed delivery counts.
    let (second, name) = bench.accepted("s", None);
    assert_eq!(name, "a");
    assert_eq!(bench.take(second, 1)[0].delivery_count, 1);
    // Closing the old receiver late takes nothing away from the new one.
    bench.broker.close_receiver(bench.now, first);
    assert!(bench.broker.holds(ConnectionId(1), place, "a"));
}

#[test]
fn the_state_of_a_session_outlives_its_messages_and_holders() {
    let mut bench = Bench::new();
    let (receiver, _) = bench.accepted("s", Some("empty"));
    let place = bench.place("s");
    let state = Some(bytes::Bytes::from_static(b"here"));
    bench.broker.set_session_state(bench.now, place, "empty", state.clone()).unwrap();
    bench.broker.close_receiver(bench.now, receiver);
    assert!(bench.broker.session_state(bench.now, place, "empty").is_err(), "nobody holds it");
    let before = bench.now.plus(-1);
    assert_eq!(bench.broker.session_names(place, Some(before)), [Arc::from("empty")]);
    assert!(bench.broker.session_names(place, Some(bench.now)).is_empty());
    assert!(bench.broker.session_names(place, None).is_empty(), "it has no message");
    let (receiver, _) = bench.accepted("s", Some("empty"));
    assert_eq!(bench.broker.session_state(bench.now, place, "empty"), Ok(state));
    bench.broker.set_session_state(bench.now, place, "empty", None).unwrap();
    bench.broker.close_receiver(bench.now, receiver);
    bench.broker.queue(place).check();
}

#[test]
fn deferred_messages_come_back_to_whoever_holds_the_session() {
    let mut bench = Bench::new();
    bench.send("s", in_session("a1", "a"));
    let (receiver, _) = bench.accepted("s", None);
    let got = bench.take(receiver, 1).remove(0);
    bench.settle("s", &got, Settlement::Defer { changes: Vec::new() }).unwrap();
    assert!(bench.take(receiver, 1).is_empty());
    let place = bench.place("s");
    let mut get = |session| {
        let numbers = [got.sequence];
        bench.broker.receive_deferred(
            bench.now,
            place,
            &numbers,
            ReceiveMode::PeekLock,
            Some(session),
        )
    };
    assert!(get("b").is_none());
    let again = get("a").unwrap().remove(0);
    assert_eq!((again.message.id(), again.locked_until), ("a1", bench.now.plus(10_000)));
    bench.settle("s", &again, Settlement::Complete).unwrap();
    assert!(bench.ids("s").is_empty());
}

#[test]
fn a_message_without_a_session_is_refused_or_dead_lettered() {
    let mut bench = Bench::new();
    let to = bench.entity("s");
    let refused = bench.broker.publish(bench.now, to, vec![in_session("x", "a"), message("y")]);
    assert_eq!(refused, Err(PublishError::NoSession));
    assert!(bench.ids("s").is_empty(), "all or none");
    bench.send("u", message("z"));
    bench.send("u", in_session("w", "a"));
    assert_eq!(bench.ids("u/Subscriptions/grouped"), ["w"]);
    let dead = bench.receive("u/Subscriptions/grouped/$DeadLetterQueue", 1).remove(0);
    assert_eq!(Bench::reason(&dead).as_deref(), Some("Session ID is null."));
}
