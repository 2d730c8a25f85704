"""Keys with rights, tokens that end, and tokens that are renewed."""

import time

import pytest
from azure.core.credentials import AzureSasCredential
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus._pyamqp.utils import generate_sas_token
from azure.servicebus.exceptions import ServiceBusAuthorizationError, ServiceBusError
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
