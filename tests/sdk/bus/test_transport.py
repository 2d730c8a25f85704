"""The other ways to the broker: TLS, WebSockets with and without it, and large messages."""

import urllib.request

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage, TransportType

from helpers import receive


def round_trip(client, queue):
    body = b"x" * 100_000
    with client.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage(body))
    with client.get_queue_receiver(queue) as receiver:
        (message,) = receive(receiver, 1)
        assert b"".join(message.body) == body
        until = receiver.renew_message_lock(message)
        assert until >= message.enqueued_time_utc
        receiver.complete_message(message)
        assert receiver.peek_messages() == []


@pytest.fixture
def secure(ready, connection_string):
    """The connection string of the cloud: no mention of an emulator, and no port."""
    return connection_string.replace("UseDevelopmentEmulator=true;", "").replace(
        ready.get("address", ""), "localhost"
    )


@pytest.mark.parametrize("transport", ["Amqp", "AmqpOverWebsocket"])
def test_within_tls(ready, authority, secure, queue, transport):
    with ServiceBusClient.from_connection_string(
        secure,
        custom_endpoint_address=f"sb://localhost:{ready['tlsAddress'].rpartition(':')[2]}",
        connection_verify=authority,
        transport_type=TransportType[transport],
        retry_total=0,
    ) as client:
        round_trip(client, queue)


def test_a_certificate_that_is_not_trusted_is_not_taken(ready, authority, secure, queue):
    with ServiceBusClient.from_connection_string(
        secure,
        custom_endpoint_address=f"sb://localhost:{ready['tlsAddress'].rpartition(':')[2]}",
        retry_total=0,
    ) as client:
        with pytest.raises(Exception, match="(?i)certificate"):
            with client.get_queue_sender(queue) as sender:
                sender.send_messages(ServiceBusMessage("no"))


def test_websockets_without_tls(connection_string, ready, queue):
    with ServiceBusClient.from_connection_string(
        connection_string,
        transport_type=TransportType.AmqpOverWebsocket,
        custom_endpoint_address=f"sb://{ready['address']}" if "address" in ready else None,
        retry_total=0,
    ) as client:
        round_trip(client, queue)


def test_a_message_of_almost_a_mebibyte(client, queue):
    body = bytes(1_040_000)
    with client.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage(body))
    with client.get_queue_receiver(queue) as receiver:
        (message,) = receive(receiver, 1)
        assert b"".join(message.body) == body
        receiver.complete_message(message)


def test_the_health_of_the_emulator(ready):
    if "adminAddress" not in ready:
        pytest.skip("the broker says nothing of its address")
    with urllib.request.urlopen(f"http://{ready['adminAddress']}/health", timeout=10) as answer:
        assert answer.status == 200
        assert b'"healthy"' in answer.read()
