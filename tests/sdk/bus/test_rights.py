"""Keys with rights, tokens that end, and tokens that are renewed."""

import time

import pytest
from azure.core.credentials import AccessToken, AzureSasCredential
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus._pyamqp.utils import generate_sas_token
from azure.servicebus.exceptions import (
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusError,
)
from azure.servicebus.management import AccessRights, AuthorizationRule

from conftest import connection_string_for
from helpers import receive


def rule(name, *rights):
    return AuthorizationRule(
        claim_type="SharedAccessKey",
        claim_value="None",
        rights=list(rights),
        key_name=name,
        primary_key=f"{name}-1",
        secondary_key=f"{name}-2",
    )


def test_a_key_of_an_entity_allows_what_it_says(ready, admin, name):
    admin.create_queue(
        name,
        authorization_rules=[
            rule("sends", AccessRights.SEND),
            rule("listens", AccessRights.LISTEN),
        ],
    )
    other = f"{name}-other"
    admin.create_queue(other)

    def client(key_name, key):
        text = connection_string_for(ready["address"], key_name, key) + f"EntityPath={name}"
        return ServiceBusClient.from_connection_string(text, retry_total=0)

    with client("sends", "sends-2") as sends, client("listens", "listens-1") as listens:
        with sends.get_queue_sender(name) as sender:
            sender.send_messages(ServiceBusMessage("x"))
        with listens.get_queue_receiver(name) as receiver:
            (message,) = receive(receiver, 1)
            receiver.complete_message(message)
        with pytest.raises(ServiceBusError):
            with sends.get_queue_receiver(name) as receiver:
                receiver.receive_messages(max_wait_time=2)
        with pytest.raises(ServiceBusError):
            with listens.get_queue_sender(name) as sender:
                sender.send_messages(ServiceBusMessage("no"))
    for queue in (name, other):
        admin.delete_queue(queue)


def test_a_link_ends_with_its_token(ready, queue):
    if "address" not in ready:
        pytest.skip("the broker says nothing of its address")
    until = int(time.time()) + 3
    text = generate_sas_token(
        f"sb://{ready['address']}/{queue}", "RootManageSharedAccessKey", "SAS_KEY_VALUE", until
    )
    with ServiceBusClient(
        ready["address"], AzureSasCredential(text), retry_total=0, use_tls=False
    ) as client:
        with client.get_queue_sender(queue) as sender:
            sender.send_messages(ServiceBusMessage("in time"))
            deadline = time.monotonic() + 30
            with pytest.raises((ServiceBusAuthorizationError, ServiceBusError)):
                while time.monotonic() < deadline:
                    sender.send_messages(ServiceBusMessage("x"))
                    time.sleep(0.1)
            assert time.time() >= until


# The SDK renews in the last tenth of what it is told of a token's life; the broker ends it later.
TOLD_SECONDS = 20
LIFE_SECONDS = 22


class ShortLived:
    """Tokens of a few seconds, each signed with the next of the keys, the last one again."""

    token_type = b"servicebus.windows.net:sastoken"

    def __init__(self, *keys):
        self.keys = list(keys)
        self.given = []

    def get_token(self, resource, **_):
        key = self.keys[min(len(self.given), len(self.keys) - 1)]
        now = int(time.time())
        until = now + LIFE_SECONDS
        token = generate_sas_token(resource, "RootManageSharedAccessKey", key, until)
        self.given.append(until)
        return AccessToken(token, now + TOLD_SECONDS)


def send_beyond(credential, ready, queue):
    """Sends on one link until the first token is over by some seconds; the connections it used."""
    connections = set()
    with ServiceBusClient(ready["address"], credential, retry_total=0, use_tls=False) as client:
        with client.get_queue_sender(queue) as sender:
            sender.send_messages(ServiceBusMessage("first"))
            while time.time() < credential.given[0] + 3:
                sender.send_messages(ServiceBusMessage("x"))
                connections.add(sender._handler._connection)  # noqa: SLF001
                time.sleep(0.1)
    return connections


def test_a_renewed_token_keeps_the_link(ready, queue):
    if "address" not in ready:
        pytest.skip("the broker says nothing of its address")
    credential = ShortLived("SAS_KEY_VALUE")
    assert len(send_beyond(credential, ready, queue)) == 1
    assert len(credential.given) == 2


def test_a_failed_renewal_ends_the_link(ready, queue):
    if "address" not in ready:
        pytest.skip("the broker says nothing of its address")
    credential = ShortLived("SAS_KEY_VALUE", "revoked")
    with pytest.raises((ServiceBusAuthenticationError, ServiceBusAuthorizationError)):
        send_beyond(credential, ready, queue)
    assert len(credential.given) == 2
    assert time.time() >= credential.given[0] - LIFE_SECONDS + 0.8 * TOLD_SECONDS
