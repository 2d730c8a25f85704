"""Fan-out by rules, and rules changed over the management link."""

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusError

from helpers import receive

def bodies(client, topic, subscription):
    """What a subscription holds, without taking it."""
    with client.get_subscription_receiver(topic, subscription) as receiver:
        return [str(message) for message in receiver.peek_messages(max_message_count=50)]


def test_rules_decide_who_gets_a_copy(client):
    topic = "events"
    created = {"event_type": "order.created", "quantity": 12, "region": "eu"}
    with client.get_topic_sender(topic) as sender:
        sender.send_messages(
            [
                ServiceBusMessage("all", subject="order", application_properties=created),
                ServiceBusMessage(
                    "other target",
                    application_properties={"event_type": "order.created", "target": "else"},
                ),
                ServiceBusMessage(
                    "replay",
                    application_properties={"event_type": "order.created", "target": "billing-sub"},
                ),
                ServiceBusMessage("other type", application_properties={"event_type": "x"}),
                ServiceBusMessage("bare"),
                ServiceBusMessage(
                    "text quantity", subject="order", application_properties={"quantity": "12"}
                ),
            ]
        )
    assert bodies(client, topic, "everything") == [
        "all",
        "other target",
        "replay",
        "other type",
        "bare",
        "text quantity",
    ]
    assert bodies(client, topic, "billing-sub") == ["all", "replay"]
    assert bodies(client, topic, "large-orders") == ["all"]
    assert bodies(client, topic, "european") == ["all"]
    assert bodies(client, topic, "tagged") == []


def test_actions_change_the_copy(client):
    topic = "actions"
    properties = {"express": True, "kept": "yes"}
    with client.get_topic_sender(topic) as sender:
        sender.send_messages(ServiceBusMessage("go", application_properties=properties))
    with client.get_subscription_receiver(topic, "tagged") as receiver:
        (message,) = receive(receiver, 1)
        assert message.application_properties == {
            b"kept": b"yes",
            b"priority": b"high",
            b"RuleName": b"express",
        }
        receiver.complete_message(message)
    with client.get_subscription_receiver(topic, "everything") as receiver:
        (message,) = receive(receiver, 1)
        assert message.application_properties == {b"express": True, b"kept": b"yes"}
        receiver.complete_message(message)


def test_copies_are_settled_apart(client, unique):
    topic = "copies"
    with client.get_topic_sender(topic) as sender:
        message = ServiceBusMessage(
            "one", message_id=unique(), application_properties={"event_type": "order.created"}
        )
        sender.send_messages(message)
        sender.send_messages(message)
    with client.get_subscription_receiver(topic, "billing-sub") as receiver:
        (message,) = receive(receiver, 1)
        receiver.dead_letter_message(message, reason="Declined", error_description="no funds")
        assert receiver.peek_messages() == []
    assert bodies(client, topic, "everything") == ["one"]
    with client.get_subscription_receiver(
        topic, "billing-sub", sub_queue="deadletter"
    ) as receiver:
        (message,) = receive(receiver, 1)
        assert message.dead_letter_reason == "Declined"
        receiver.complete_message(message)


def test_only_the_right_end_of_a_topic_can_be_used(client):
    with pytest.raises(ServiceBusError):
        with client.get_queue_receiver("sides") as receiver:
            receiver.receive_messages(max_wait_time=1)
    with pytest.raises(ServiceBusError):
        with client.get_queue_sender("sides/Subscriptions/everything") as sender:
            sender.send_messages(ServiceBusMessage("no"))
