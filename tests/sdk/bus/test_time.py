"""Everything that happens by itself: lock expiry, time to live, schedules, duplicate windows."""

import datetime
import time

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.exceptions import MessageLockLostError, ServiceBusError

from helpers import nothing, receive


def send(client, queue, *messages):
    with client.get_queue_sender(queue) as sender:
        for message in messages:
            sender.send_messages(message)


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def test_an_expired_lock_is_lost_and_the_message_comes_again(client, queue):
    send(client, queue, ServiceBusMessage("slow"))
    with client.get_queue_receiver(queue) as first, client.get_queue_receiver(queue) as second:
        (message,) = receive(first, 1)
        assert message.delivery_count == 0
        # Nothing comes before the lock is over.
        (again,) = receive(second, 1)
        assert now() >= message.locked_until_utc
        assert again.delivery_count == 1
        assert again.lock_token != message.lock_token
        with pytest.raises(MessageLockLostError):
            first.complete_message(message)
        second.complete_message(again)
        assert nothing(second)


def test_locks_that_expire_too_often_dead_letter(client, queue):
    send(client, queue, ServiceBusMessage("slow"))
    with client.get_queue_receiver(queue) as receiver:
        receive(receiver, 1)
        receive(receiver, 1)
    with client.get_queue_receiver(queue, sub_queue="deadletter") as dead:
        (message,) = receive(dead, 1)
        assert message.dead_letter_reason == "MaxDeliveryCountExceeded"
        dead.complete_message(message)


def test_a_renewed_lock_lasts(client, queue):
    send(client, queue, ServiceBusMessage("patient"))
    with client.get_queue_receiver(queue) as receiver, client.get_queue_receiver(queue) as other:
        (message,) = receive(receiver, 1)
        first_end = message.locked_until_utc
        while now() < first_end + datetime.timedelta(seconds=0.5):
            until = receiver.renew_message_lock(message)
            assert until >= first_end
            time.sleep(0.1)
        assert nothing(other)
        receiver.complete_message(message)
        with pytest.raises((MessageLockLostError, ServiceBusError, ValueError)):
            receiver.renew_message_lock(message)


def test_the_lock_of_a_settled_message_is_lost(client, queue, connection_string):
    send(client, queue, ServiceBusMessage("gone"))
    with client.get_queue_receiver(queue) as receiver, client.get_queue_receiver(queue) as other:
        (message,) = receive(receiver, 1)
        (again,) = receive(other, 1)
        other.complete_message(again)
        with pytest.raises(MessageLockLostError):
            receiver.renew_message_lock(message)


def test_expired_messages_are_dead_lettered(client, queue):
    ttl = datetime.timedelta(milliseconds=300)
    send(client, queue, ServiceBusMessage("old", time_to_live=ttl))
    with client.get_queue_receiver(queue, sub_queue="deadletter") as dead:
        (message,) = receive(dead, 1)
        assert message.dead_letter_reason == "TTLExpiredException"
        assert message.dead_letter_error_description == "The message expired and was dead lettered."
        dead.complete_message(message)
    with client.get_queue_receiver(queue) as receiver:
        assert receiver.peek_messages() == []


def test_expired_messages_vanish_where_nobody_keeps_them(client, queue):
    with client.get_queue_receiver(queue) as receiver:
        assert receiver.peek_messages() == []
        send(client, queue, ServiceBusMessage("brief", time_to_live=datetime.timedelta(days=1)))
        (peeked,) = receiver.peek_messages()
        # The queue's own limit is shorter than the sender's.
        assert peeked.time_to_live == datetime.timedelta(seconds=3)
        deadline = time.monotonic() + 10
        # Without a number the SDK would go on after the last message it has peeked.
        while receiver.peek_messages(sequence_number=1):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert now() >= peeked.enqueued_time_utc + datetime.timedelta(seconds=3)
    with client.get_queue_receiver(queue, sub_queue="deadletter") as dead:
        assert dead.peek_messages() == []


def test_scheduled_messages_wait_for_their_time(client, queue):
    with client.get_queue_receiver(queue) as receiver, client.get_queue_sender(queue) as sender:
        assert receiver.peek_messages() == []
        due = now() + datetime.timedelta(seconds=2)
        (number,) = sender.schedule_messages(ServiceBusMessage("scheduled"), due)
        assert number > 0
        (peeked,) = receiver.peek_messages()
        assert peeked.sequence_number == number
        assert peeked.state.name == "SCHEDULED"
        assert abs((peeked.scheduled_enqueue_time_utc - due).total_seconds()) < 0.01
        (message,) = receive(receiver, 1)
        assert now() >= due - datetime.timedelta(milliseconds=5)
        assert message.enqueued_sequence_number == number
        assert message.sequence_number > number
        receiver.complete_message(message)


def test_a_plain_send_can_schedule_too(client, queue):
    due = now() + datetime.timedelta(seconds=2)
    send(client, queue, ServiceBusMessage("later", scheduled_enqueue_time_utc=due))
    with client.get_queue_receiver(queue) as receiver:
        (message,) = receive(receiver, 1)
        assert now() >= due - datetime.timedelta(milliseconds=5)
        receiver.complete_message(message)


def test_cancelled_messages_never_come(client, queue):
    due = now() + datetime.timedelta(minutes=5)
    with client.get_queue_sender(queue) as sender:
        numbers = sender.schedule_messages([ServiceBusMessage("a"), ServiceBusMessage("b")], due)
        sender.cancel_scheduled_messages(numbers)
        with pytest.raises(ServiceBusError):
            sender.cancel_scheduled_messages(numbers[0])
    with client.get_queue_receiver(queue) as receiver:
        assert receiver.peek_messages() == []


def test_duplicates_are_accepted_and_dropped_within_the_window(client, queue, unique):
    same = unique()
    first = time.monotonic()
    send(client, queue, *[ServiceBusMessage(f"{n}", message_id=same) for n in range(3)])
    with client.get_queue_sender(queue) as sender:
        other = unique()
        sender.send_messages([ServiceBusMessage(f"o{n}", message_id=other) for n in range(2)])
    with client.get_queue_receiver(queue) as receiver:
        messages = receive(receiver, 2)
        assert [str(message) for message in messages] == ["0", "o0"]
        for message in messages:
            receiver.complete_message(message)
        # Completing does not forget the id; time does, after four seconds.
        received = []
        with client.get_queue_sender(queue) as sender:
            while not received:
                assert time.monotonic() - first < 15
                sender.send_messages(ServiceBusMessage("anew", message_id=same))
                received = receiver.receive_messages(1, max_wait_time=0.2)
        assert time.monotonic() - first >= 4
        receiver.complete_message(received[0])
