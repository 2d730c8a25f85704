"""Sending, receiving and settling on queues."""

import datetime
import threading
import uuid

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusMessageBatch, ServiceBusReceiveMode
from azure.servicebus import ServiceBusSubQueue
from azure.servicebus.exceptions import MessageSizeExceededError, ServiceBusError

from helpers import nothing, receive, texts


def send(client, queue, *messages):
    with client.get_queue_sender(queue) as sender:
        sender.send_messages(list(messages) if len(messages) > 1 else messages[0])


def test_send_receive_complete(client, queue):
    send(client, queue, ServiceBusMessage("one", message_id="id-1", subject="greeting"))
    with client.get_queue_receiver(queue) as receiver:
        (message,) = receive(receiver, 1)
        assert str(message) == "one"
        assert message.message_id == "id-1"
        assert message.subject == "greeting"
        assert message.delivery_count == 0
        assert message.sequence_number > 0
        assert message.enqueued_sequence_number == message.sequence_number
        assert isinstance(uuid.UUID(str(message.lock_token)), uuid.UUID)
        now = datetime.datetime.now(datetime.timezone.utc)
        assert abs((now - message.enqueued_time_utc).total_seconds()) < 5
        assert 20 < (message.locked_until_utc - now).total_seconds() <= 30
        receiver.complete_message(message)
        assert nothing(receiver)


def test_a_message_without_id_gets_one(client, queue):
    send(client, queue, ServiceBusMessage("anonymous", message_id=None))
    with client.get_queue_receiver(queue) as receiver:
        (message,) = receive(receiver, 1)
        assert len(message.message_id) >= 32
        receiver.complete_message(message)


def test_batches_and_lists(client, queue):
    with client.get_queue_sender(queue) as sender:
        batch = sender.create_message_batch()
        assert isinstance(batch, ServiceBusMessageBatch)
        assert batch.max_size_in_bytes == 1048576
        for n in range(50):
            batch.add_message(ServiceBusMessage(f"batch {n}"))
        sender.send_messages(batch)
        sender.send_messages([ServiceBusMessage(f"list {n}") for n in range(3)])
    with client.get_queue_receiver(queue, prefetch_count=20) as receiver:
        messages = receive(receiver, 53)
        assert texts(messages) == [f"batch {n}" for n in range(50)] + [
            f"list {n}" for n in range(3)
        ]
        numbers = [message.sequence_number for message in messages]
        assert numbers == sorted(set(numbers))
        for message in messages:
            receiver.complete_message(message)
        assert nothing(receiver)


def test_every_property_and_type_survives(client, queue):
    now = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.timezone.utc)
    properties = {
        "text": "zażółć gęślą jaźń 🚀",
        "empty": "",
        "int": 42,
        "negative": -7,
        "float": 3.25,
        "yes": True,
        "no": False,
        "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
        "when": now,
        "null": None,
    }
    sent = ServiceBusMessage(
        b"\x00body\xff",
        application_properties=properties,
        content_type="application/cloudevents+json",
        correlation_id="correlation",
        message_id="message",
        subject="subject",
        to="to",
        reply_to="reply-to",
        reply_to_session_id="reply-session",
        partition_key="partition",
        time_to_live=datetime.timedelta(minutes=5),
    )
    send(client, queue, sent)
    with client.get_queue_receiver(queue) as receiver:
        (message,) = receive(receiver, 1)
        assert b"".join(message.body) == b"\x00body\xff"
        # This SDK hands out strings as bytes, and timestamps as milliseconds.
        got = {
            key.decode(): value.decode() if isinstance(value, bytes) else value
            for key, value in message.application_properties.items()
        }
        assert got == properties | {"when": int(now.timestamp() * 1000)}
        assert message.content_type == "application/cloudevents+json"
        assert message.correlation_id == "correlation"
        assert message.message_id == "message"
        assert message.subject == "subject"
        assert message.to == "to"
        assert message.reply_to == "reply-to"
        assert message.reply_to_session_id == "reply-session"
        assert message.partition_key == "partition"
        assert message.time_to_live == datetime.timedelta(minutes=5)
        receiver.complete_message(message)


def test_abandon_counts_deliveries(client, queue):
    send(client, queue, ServiceBusMessage("again"))
    with client.get_queue_receiver(queue) as receiver:
        for count in range(3):
            (message,) = receive(receiver, 1)
            assert message.delivery_count == count
            receiver.abandon_message(message)
        (message,) = receive(receiver, 1)
        assert message.delivery_count == 3
        receiver.complete_message(message)


def test_max_delivery_count_dead_letters(client, queue):
    send(client, queue, ServiceBusMessage("poison", message_id="p"))
    with client.get_queue_receiver(queue) as receiver:
        for _ in range(3):
            (message,) = receive(receiver, 1)
            receiver.abandon_message(message)
        assert nothing(receiver)
    with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        (message,) = receive(receiver, 1)
        assert message.message_id == "p"
        assert message.dead_letter_reason == "MaxDeliveryCountExceeded"
        assert message.dead_letter_error_description
        receiver.complete_message(message)


def test_dead_letter_with_reason(client, queue):
    send(client, queue, ServiceBusMessage("bad", application_properties={"kept": 1}))
    with client.get_queue_receiver(queue) as receiver:
        (message,) = receive(receiver, 1)
        receiver.dead_letter_message(message, reason="Unreadable", error_description="not JSON")
        assert nothing(receiver)
    with client.get_queue_receiver(queue, sub_queue="deadletter") as receiver:
        (peeked,) = receiver.peek_messages()
        assert str(peeked) == "bad"
        (message,) = receive(receiver, 1)
        assert message.dead_letter_reason == "Unreadable"
        assert message.dead_letter_error_description == "not JSON"
        assert message.application_properties[b"kept"] == 1
        receiver.complete_message(message)
        assert receiver.peek_messages() == []


def test_defer_and_receive_by_number(client, queue):
    send(client, queue, ServiceBusMessage("later"))
    with client.get_queue_receiver(queue) as receiver:
        (message,) = receive(receiver, 1)
        number = message.sequence_number
        receiver.defer_message(message)
        assert nothing(receiver)
        (deferred,) = receiver.receive_deferred_messages(number)
        assert str(deferred) == "later"
        assert deferred.delivery_count == 1
        receiver.complete_message(deferred)
        with pytest.raises(ServiceBusError):
            receiver.receive_deferred_messages(number)


def test_receive_and_delete(client, queue):
    send(client, queue, *[ServiceBusMessage(f"{n}") for n in range(5)])
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    with client.get_queue_receiver(queue, receive_mode=mode) as receiver:
        messages = receive(receiver, 5)
        assert texts(messages) == ["0", "1", "2", "3", "4"]
        assert messages[0].lock_token is None
    with client.get_queue_receiver(queue) as receiver:
        assert receiver.peek_messages(max_message_count=5) == []


def test_peek_does_not_touch(client, queue):
    send(client, queue, *[ServiceBusMessage(f"{n}") for n in range(10)])
    with client.get_queue_receiver(queue) as receiver:
        peeked = receiver.peek_messages(max_message_count=4)
        assert texts(peeked) == ["0", "1", "2", "3"]
        rest = receiver.peek_messages(20, sequence_number=peeked[-1].sequence_number + 1)
        assert texts(rest) == [str(n) for n in range(4, 10)]
        messages = receive(receiver, 10)
        assert all(message.delivery_count == 0 for message in messages)
        for message in messages:
            receiver.complete_message(message)


def test_two_receivers_share_the_work(client, connection_string, queue):
    total, seen, lock = 60, [], threading.Lock()
    everything = threading.Event()

    def work():
        with client.get_queue_receiver(queue) as receiver:
            while not everything.is_set():
                for message in receiver.receive_messages(5, max_wait_time=0.3):
                    receiver.complete_message(message)
                    with lock:
                        seen.append(str(message))
                        if len(seen) >= total:
                            everything.set()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    send(client, queue, *[ServiceBusMessage(f"{n}") for n in range(total)])
    assert everything.wait(20), f"{len(seen)} of {total}"
    for worker in workers:
        worker.join(10)
    assert sorted(seen, key=int) == [str(n) for n in range(total)]


@pytest.mark.parametrize("size", [65_000, 200_000])
def test_messages_of_several_frames(client, queue, size):
    body = bytes(n % 251 for n in range(size))
    send(client, queue, ServiceBusMessage(body))
    with client.get_queue_receiver(queue) as receiver:
        (message,) = receive(receiver, 1)
        assert b"".join(message.body) == body
        receiver.complete_message(message)


def test_oversize_is_refused_and_the_sender_lives_on(client, queue):
    with client.get_queue_sender(queue) as sender:
        with pytest.raises(MessageSizeExceededError):
            sender.send_messages(ServiceBusMessage(b"x" * 1_100_000))
        sender.send_messages(ServiceBusMessage("small"))
    with client.get_queue_receiver(queue) as receiver:
        (message,) = receive(receiver, 1)
        assert str(message) == "small"
        receiver.complete_message(message)


def test_a_closed_receiver_leaves_messages_to_others(client, queue):
    send(client, queue, ServiceBusMessage("mine"))
    with client.get_queue_receiver(queue) as first:
        (message,) = receive(first, 1)
        with client.get_queue_receiver(queue) as second:
            assert nothing(second)
        first.abandon_message(message)
    with client.get_queue_receiver(queue) as third:
        (message,) = receive(third, 1)
        third.complete_message(message)
