"""What was made while the broker ran is there after SIGKILL, without having been asked for."""

import os
import signal

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusError
from azure.servicebus.management import (
    EntityStatus,
    ServiceBusAdministrationClient,
    SqlRuleFilter,
)

from conftest import connection_string_for, default_command, running
from helpers import receive, texts


@pytest.mark.skipif("BULKHEAD_BUS_COMMAND" in os.environ, reason="another broker's journal")
def test_entities_rules_and_sessions_survive(tmp_path):
    (tmp_path / "topology.json").write_text('{"serviceBus": {"queues": [{"name": "declared"}]}}')
    command = default_command().replace("--ephemeral", f"--data {tmp_path / 'data'}")
    start = lambda: running(tmp_path, command, tmp_path / "topology.json")  # noqa: E731

    def administer(said):
        return ServiceBusAdministrationClient.from_connection_string(
            connection_string_for(said["adminAddress"]),
            connection_verify=said["certificateAuthority"],
        )

    with start() as (said, process):
        admin = administer(said)
        admin.create_queue("grouped", requires_session=True)
        admin.create_queue("gone")
        queue = admin.create_queue("changed", max_delivery_count=3)
        admin.update_queue(queue, max_delivery_count=7, status=EntityStatus.SEND_DISABLED)
        admin.delete_queue("gone")
        admin.create_topic("topic")
        admin.create_subscription("topic", "sub")
        admin.create_rule("topic", "sub", "r", filter=SqlRuleFilter("a = @p", {"@p": 5}))
        admin.delete_rule("topic", "sub", "$Default")
        with ServiceBusClient.from_connection_string(said["connectionString"]) as client:
            with client.get_queue_sender("grouped") as sender:
                sender.send_messages([ServiceBusMessage(f"{n}", session_id="s") for n in range(3)])
            with client.get_queue_receiver("grouped", session_id="s") as receiver:
                first, second = receive(receiver, 2)
                receiver.session.set_state(b"after the first")
                receiver.complete_message(first)
                receiver.defer_message(second)
                (third,) = receive(receiver, 1)
                # The lock of the third is held when the broker dies.
                process.send_signal(signal.SIGKILL)
                process.wait(10)
    for _ in range(2):
        # The second time from a snapshot, because the first ended cleanly.
        with start() as (said, _):
            admin = administer(said)
            names = {queue.name for queue in admin.list_queues()}
            assert names == {"declared", "grouped", "changed"}
            changed = admin.get_queue("changed")
            assert changed.max_delivery_count == 7
            assert changed.status == EntityStatus.SEND_DISABLED
            with pytest.raises(ResourceNotFoundError):
                admin.get_queue("gone")
            (rule,) = admin.list_rules("topic", "sub")
            assert (rule.name, rule.filter.parameters) == ("r", {"@p": 5})
            with ServiceBusClient.from_connection_string(said["connectionString"]) as client:
                with client.get_queue_receiver("grouped", session_id="s") as receiver:
                    assert receiver.session.get_state() == b"after the first"
                    (message,) = receive(receiver, 1)
                    assert str(message) == str(third)
                    numbers = second.sequence_number
                    (deferred,) = receiver.receive_deferred_messages(numbers)
                    assert str(deferred) == "1"
                    receiver.abandon_message(deferred)


@pytest.mark.skipif("BULKHEAD_BUS_COMMAND" in os.environ, reason="another broker's journal")
def test_sigterm_answers_what_is_settled_and_closes(tmp_path):
    (tmp_path / "topology.json").write_text('{"serviceBus": {"queues": [{"name": "q"}]}}')
    command = default_command().replace("--ephemeral", f"--data {tmp_path / 'data'}")
    start = lambda: running(tmp_path, command, tmp_path / "topology.json")  # noqa: E731

    with start() as (said, process):
        with ServiceBusClient.from_connection_string(
            said["connectionString"], retry_total=0
        ) as client:
            with client.get_queue_sender("q") as sender, client.get_queue_receiver("q") as receiver:
                sender.send_messages([ServiceBusMessage(f"{n}") for n in range(3)])
                first, second = receive(receiver, 2)
                process.send_signal(signal.SIGTERM)
                # The answer comes although nothing new is handed out or taken any more.
                receiver.complete_message(first)
                assert process.wait(20) == 0
                with pytest.raises(ServiceBusError):
                    sender.send_messages(ServiceBusMessage("late"))
    with start() as (said, _):
        with ServiceBusClient.from_connection_string(said["connectionString"]) as client:
            with client.get_queue_receiver("q") as receiver:
                assert sorted(texts(receiver.peek_messages(10))) == ["1", "2"]
                assert str(second) == "1"
