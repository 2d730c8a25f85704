"""Sessions: one receiver each, in order, with a lock and a state."""

import datetime
import time

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage
from azure.servicebus.exceptions import (
    OperationTimeoutError,
    ServiceBusError,
    SessionCannotBeLockedError,
    SessionLockLostError,
)

from helpers import nothing, receive, texts


@pytest.fixture
def sessions(admin, name):
    """A queue with sessions."""
    admin.create_queue(name, requires_session=True, max_delivery_count=3)
    yield name
    admin.delete_queue(name)


@pytest.fixture
def brief_sessions(admin, name):
    """A queue with sessions and a short lock."""
    admin.create_queue(name, requires_session=True, lock_duration=datetime.timedelta(seconds=5))
    yield name
    admin.delete_queue(name)


def send(client, queue, *messages):
    with client.get_queue_sender(queue) as sender:
        sender.send_messages(
            [ServiceBusMessage(body, session_id=session) for body, session in messages]
        )


def test_a_named_session_comes_in_order_to_one_receiver(client, sessions):
    send(client, sessions, ("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b"), ("a3", "a"))
    with client.get_queue_receiver(sessions, session_id="a") as first:
        assert first.session.session_id == "a"
        now = datetime.datetime.now(datetime.timezone.utc)
        assert 0 < (first.session.locked_until_utc - now).total_seconds() <= 60
        messages = receive(first, 3)
        assert texts(messages) == ["a1", "a2", "a3"]
        assert {message.session_id for message in messages} == {"a"}
        with pytest.raises(SessionCannotBeLockedError):
            with client.get_queue_receiver(sessions, session_id="a") as second:
                second.receive_messages(max_wait_time=1)
        for message in messages:
            first.complete_message(message)
        assert nothing(first)
    with client.get_queue_receiver(sessions, session_id="b") as other:
        for message in receive(other, 2):
            other.complete_message(message)


def test_the_next_session_is_one_that_nobody_has(client, sessions):
    send(client, sessions, ("x", "one"), ("y", "two"))
    next_session = {"session_id": NEXT_AVAILABLE_SESSION, "max_wait_time": 5}
    with client.get_queue_receiver(sessions, **next_session) as first:
        with client.get_queue_receiver(sessions, **next_session) as second:
            found = {first.session.session_id, second.session.session_id}
            assert found == {"one", "two"}
            for receiver in (first, second):
                (message,) = receive(receiver, 1)
                receiver.complete_message(message)
    with pytest.raises(OperationTimeoutError):
        with client.get_queue_receiver(
            sessions, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=1
        ) as third:
            third.receive_messages(max_wait_time=1)


def test_a_waiting_receiver_gets_the_session_that_comes(client, sessions):
    send(client, sessions, ("held", "s"))
    with client.get_queue_receiver(sessions, session_id="s") as first:
        (message,) = receive(first, 1)
        first.complete_message(message)
        # Its holder keeps the session, so that whoever waits gets the next one.
        send(client, sessions, ("late", "t"))
        with client.get_queue_receiver(
            sessions, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=10
        ) as second:
            assert second.session.session_id == "t"
            (message,) = receive(second, 1)
            second.complete_message(message)


def test_a_session_has_a_state_and_a_lock_to_renew(client, brief_sessions):
    sessions = brief_sessions
    send(client, sessions, ("x", "s"))
    with client.get_queue_receiver(sessions, session_id="s") as receiver:
        assert not receiver.session.get_state()
        receiver.session.set_state(b"half way")
        first = receiver.session.locked_until_utc
        while datetime.datetime.now(datetime.timezone.utc) <= first:
            assert receiver.session.renew_lock() >= first
            time.sleep(0.2)
        (message,) = receive(receiver, 1)
        receiver.complete_message(message)
    with client.get_queue_receiver(sessions, session_id="s") as receiver:
        assert receiver.session.get_state() == b"half way"
        receiver.session.set_state(None)
        assert not receiver.session.get_state()


def test_a_lost_session_lock_is_named_as_such(client, brief_sessions):
    sessions = brief_sessions
    send(client, sessions, ("x", "s"))
    with client.get_queue_receiver(sessions, session_id="s") as receiver:
        (message,) = receive(receiver, 1)
        deadline = time.monotonic() + 60
        while True:
            # Whether the lock is over, the state tells without touching it.
            try:
                receiver.session.get_state()
            except SessionLockLostError:
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(SessionLockLostError):
            receiver.complete_message(message)
        with pytest.raises(SessionLockLostError):
            receiver.session.renew_lock()
    with client.get_queue_receiver(sessions, session_id="s") as receiver:
        (again,) = receive(receiver, 1)
        assert again.delivery_count == 1
        receiver.complete_message(again)


def test_deferred_messages_of_a_session(client, sessions):
    send(client, sessions, ("later", "s"), ("now", "s"))
    with client.get_queue_receiver(sessions, session_id="s") as receiver:
        later, now = receive(receiver, 2)
        receiver.defer_message(later)
        receiver.complete_message(now)
    with client.get_queue_receiver(sessions, session_id="s") as receiver:
        assert nothing(receiver)
        assert texts(receiver.peek_messages()) == ["later"]
        (message,) = receiver.receive_deferred_messages(later.sequence_number)
        receiver.dead_letter_message(message, reason="Test", error_description="done with it")
    with client.get_queue_receiver(sessions, sub_queue="deadletter") as dead:
        (message,) = receive(dead, 1)
        assert (message.session_id, message.dead_letter_reason) == ("s", "Test")
        dead.complete_message(message)


def test_a_closed_session_counts_no_delivery(client, sessions):
    send(client, sessions, ("x", "s"))
    for _ in range(4):
        with client.get_queue_receiver(sessions, session_id="s") as receiver:
            (message,) = receive(receiver, 1)
            assert message.delivery_count == 0
    with client.get_queue_receiver(sessions, session_id="s") as receiver:
        (message,) = receive(receiver, 1)
        receiver.abandon_message(message)
        (message,) = receive(receiver, 1)
        assert message.delivery_count == 1
        receiver.complete_message(message)


def test_sessions_and_receivers_must_fit(client, sessions, queue):
    with pytest.raises(ServiceBusError):
        with client.get_queue_sender(sessions) as sender:
            sender.send_messages(ServiceBusMessage("without a session"))
    with pytest.raises(ServiceBusError):
        with client.get_queue_receiver(sessions) as receiver:
            receiver.receive_messages(max_wait_time=1)
    with pytest.raises(ServiceBusError):
        with client.get_queue_receiver(queue, session_id="s") as receiver:
            receiver.receive_messages(max_wait_time=1)


def test_a_subscription_can_have_sessions(client, admin, name):
    admin.create_topic(name)
    admin.create_subscription(name, "grouped", requires_session=True)
    with client.get_topic_sender(name) as sender:
        sender.send_messages(ServiceBusMessage("in", session_id="s"))
        sender.send_messages(ServiceBusMessage("out"))
    with client.get_subscription_receiver(name, "grouped", session_id="s") as receiver:
        (message,) = receive(receiver, 1)
        assert str(message) == "in"
        receiver.complete_message(message)
    with client.get_subscription_receiver(name, "grouped", sub_queue="deadletter") as dead:
        (message,) = receive(dead, 1)
        assert message.dead_letter_reason == "Session ID is null."
        dead.complete_message(message)
    admin.delete_topic(name)
