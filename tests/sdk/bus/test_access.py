"""Who may connect, what is not there, and settling from elsewhere."""

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
)

from helpers import nothing, receive


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("SharedAccessKey=SAS_KEY_VALUE", "SharedAccessKey=another-key"),
        ("SharedAccessKeyName=RootManageSharedAccessKey", "SharedAccessKeyName=Nobody"),
    ],
)
def test_a_wrong_key_is_refused(connection_string, right, wrong):
    assert right in connection_string
    wrong_string = connection_string.replace(right, wrong)
    with ServiceBusClient.from_connection_string(wrong_string, retry_total=0) as client:
        with pytest.raises((ServiceBusAuthenticationError, ServiceBusAuthorizationError)):
            with client.get_queue_sender("names-are-case-insensitive") as sender:
                sender.send_messages(ServiceBusMessage("no"))


def test_what_is_not_declared_is_not_found(client):
    with pytest.raises(MessagingEntityNotFoundError):
        with client.get_queue_sender("no-such-queue") as sender:
            sender.send_messages(ServiceBusMessage("no"))
    with pytest.raises(MessagingEntityNotFoundError):
        with client.get_subscription_receiver("events", "no-such-sub") as receiver:
            receiver.receive_messages(max_wait_time=1)


def test_names_are_case_insensitive(client, queue):
    with client.get_queue_sender(queue.upper()) as sender:
        sender.send_messages(ServiceBusMessage("x"))
    with client.get_queue_receiver(queue.title()) as receiver:
        (message,) = receive(receiver, 1)
        receiver.complete_message(message)


@pytest.mark.parametrize("settlement", ["complete", "abandon", "deadletter", "defer"])
def test_another_connection_settles_by_lock_token(connection_string, client, queue, settlement):
    with client.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage("handed over"))
    with client.get_queue_receiver(queue) as receiver:
        (message,) = receive(receiver, 1)
        with ServiceBusClient.from_connection_string(connection_string) as other_client:
            with other_client.get_queue_receiver(queue) as other:
                # The other connection knows nothing but the lock token.
                other._open()  # noqa: SLF001
                dispositions = {
                    "complete": "completed",
                    "abandon": "abandoned",
                    "deadletter": "suspended",
                    "defer": "defered",
                }
                details = (
                    {"deadletter-reason": "Elsewhere", "deadletter-description": "by token"}
                    if settlement == "deadletter"
                    else None
                )
                by_token = other._settle_message_via_mgmt_link  # noqa: SLF001
                by_token(dispositions[settlement], [message.lock_token], details)
                with pytest.raises(MessageLockLostError):
                    by_token("completed", [message.lock_token])
        with pytest.raises(MessageLockLostError):
            receiver.complete_message(message)
        if settlement == "abandon":
            (again,) = receive(receiver, 1)
            assert again.delivery_count == 1
            receiver.complete_message(again)
        elif settlement == "defer":
            (deferred,) = receiver.receive_deferred_messages(message.sequence_number)
            receiver.complete_message(deferred)
        else:
            assert nothing(receiver)
    with client.get_queue_receiver(queue, sub_queue="deadletter") as dead:
        reasons = [message.dead_letter_reason for message in dead.peek_messages(5)]
        assert reasons == (["Elsewhere"] if settlement == "deadletter" else [])
