"""The administration client, unmodified: entities, rules, counts, and what is refused."""

import datetime

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.servicebus import ServiceBusMessage
from azure.servicebus.exceptions import MessagingEntityDisabledError, ServiceBusError
from azure.servicebus.management import (
    AccessRights,
    AuthorizationRule,
    CorrelationRuleFilter,
    EntityStatus,
    FalseRuleFilter,
    ServiceBusAdministrationClient,
    SqlRuleAction,
    SqlRuleFilter,
    TrueRuleFilter,
)

from conftest import connection_string_for
from helpers import receive, texts

MINUTE = datetime.timedelta(minutes=1)
# Entries on a page, as in the service.
PAGE_ENTRIES = 100


def test_more_queues_than_are_on_a_page_are_all_listed(admin, name):
    names = {f"{name}-{number}" for number in range(PAGE_ENTRIES + 1)}
    for each in names:
        admin.create_queue(each)
    listed = [queue.name for queue in admin.list_queues()]
    assert len(listed) == len(set(listed))
    assert names <= set(listed)
    for each in names:
        admin.delete_queue(each)


def test_a_queue_is_created_changed_and_deleted(admin, name):
    target = f"{name}-target"
    admin.create_queue(target)
    queue = admin.create_queue(
        name,
        lock_duration=datetime.timedelta(seconds=30),
        max_delivery_count=4,
        requires_duplicate_detection=True,
        duplicate_detection_history_time_window=5 * MINUTE,
        default_message_time_to_live=MINUTE,
        dead_lettering_on_message_expiration=True,
        auto_delete_on_idle=10 * MINUTE,
        forward_dead_lettered_messages_to=target,
        user_metadata="a <note> & more",
        enable_partitioning=True,
    )
    assert queue.lock_duration == datetime.timedelta(seconds=30)
    assert (queue.max_delivery_count, queue.requires_duplicate_detection) == (4, True)
    assert queue.default_message_time_to_live == MINUTE
    assert queue.auto_delete_on_idle == 10 * MINUTE
    assert queue.forward_dead_lettered_messages_to.endswith(f"/{target}")
    assert queue.user_metadata == "a <note> & more"
    assert queue.status == EntityStatus.ACTIVE
    with pytest.raises(ResourceExistsError):
        admin.create_queue(name)
    queue.max_delivery_count = 9
    queue.user_metadata = "changed"
    admin.update_queue(queue)
    again = admin.get_queue(name)
    assert (again.max_delivery_count, again.user_metadata) == (9, "changed")
    assert again.lock_duration == datetime.timedelta(seconds=30)
    assert name in [queue.name for queue in admin.list_queues()]
    for bad in ({"lock_duration": 10 * MINUTE}, {"max_delivery_count": 0}):
        with pytest.raises(HttpResponseError):
            admin.update_queue(again, **bad)
    admin.delete_queue(name)
    with pytest.raises(ResourceNotFoundError):
        admin.get_queue(name)
    with pytest.raises(ResourceNotFoundError):
        admin.delete_queue(name)
    admin.delete_queue(target)


def test_a_topic_with_subscriptions_and_their_counts(admin, client, name):
    topic = admin.create_topic(name, max_size_in_megabytes=2048)
    assert (topic.name, topic.max_size_in_megabytes) == (name, 2048)
    admin.create_subscription(name, "all")
    admin.create_subscription(name, "few", max_delivery_count=1)
    assert [one.name for one in admin.list_subscriptions(name)] == ["all", "few"]
    with client.get_topic_sender(name) as sender:
        sender.send_messages([ServiceBusMessage(f"{n}") for n in range(3)])
        due = datetime.datetime.now(datetime.timezone.utc) + 5 * MINUTE
        sender.schedule_messages(ServiceBusMessage("later"), due)
    with client.get_subscription_receiver(name, "few") as receiver:
        (message,) = receive(receiver, 1)
        receiver.abandon_message(message)
    counts = admin.get_subscription_runtime_properties(name, "few")
    assert (counts.active_message_count, counts.dead_letter_message_count) == (2, 1)
    assert counts.total_message_count == 3
    counts = admin.get_topic_runtime_properties(name)
    assert (counts.subscription_count, counts.scheduled_message_count) == (2, 1)
    assert counts.size_in_bytes > 0
    assert {one.name for one in admin.list_subscriptions_runtime_properties(name)} == {
        "all",
        "few",
    }
    admin.delete_subscription(name, "few")
    with pytest.raises(ResourceNotFoundError):
        admin.get_subscription(name, "few")
    admin.delete_topic(name)
    assert name not in [topic.name for topic in admin.list_topics()]


def test_rules_of_every_kind_come_back_as_they_were_sent(admin, name):
    admin.create_topic(name)
    admin.create_subscription(name, "s")
    assert [rule.name for rule in admin.list_rules(name, "s")] == ["$Default"]
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    filters = {
        "sql": SqlRuleFilter("a = @p AND b < @q", parameters={"@p": 5, "@q": "x"}),
        "correlation": CorrelationRuleFilter(
            correlation_id="c",
            label="l",
            properties={"t": "x", "n": 3, "f": 1.5, "b": True, "d": when},
        ),
        "true": TrueRuleFilter(),
        "false": FalseRuleFilter(),
    }
    for rule, wanted in filters.items():
        admin.create_rule(name, "s", rule, filter=wanted)
    for rule, wanted in filters.items():
        found = admin.get_rule(name, "s", rule).filter
        assert type(found) is type(wanted)
    assert admin.get_rule(name, "s", "sql").filter.parameters == {"@p": 5, "@q": "x"}
    assert admin.get_rule(name, "s", "correlation").filter.properties["n"] == 3
    rule = admin.get_rule(name, "s", "sql")
    rule.filter = SqlRuleFilter("c = 1")
    rule.action = SqlRuleAction("SET c = 2")
    admin.update_rule(name, "s", rule)
    changed = admin.get_rule(name, "s", "sql")
    assert changed.filter.sql_expression == "c = 1"
    assert changed.action.sql_expression == "SET c = 2"
    with pytest.raises(ResourceExistsError):
        admin.create_rule(name, "s", "sql", filter=TrueRuleFilter())
    with pytest.raises(HttpResponseError):
        admin.create_rule(name, "s", "bad", filter=SqlRuleFilter("a = "))
    admin.delete_rule(name, "s", "sql")
    with pytest.raises(ResourceNotFoundError):
        admin.get_rule(name, "s", "sql")
    admin.delete_topic(name)


def matching(admin, client, topic, conditions, messages):
    """Which of the messages each condition lets through."""
    admin.create_topic(topic)
    for at, condition in enumerate(conditions):
        admin.create_subscription(topic, f"s{at}")
        admin.delete_rule(topic, f"s{at}", "$Default")
        rule = condition if not isinstance(condition, str) else SqlRuleFilter(condition)
        admin.create_rule(topic, f"s{at}", "r", filter=rule)
    with client.get_topic_sender(topic) as sender:
        sender.send_messages(messages)
    found = []
    for at, _ in enumerate(conditions):
        with client.get_subscription_receiver(topic, f"s{at}") as receiver:
            found.append("".join(texts(receiver.peek_messages(max_message_count=50))))
    admin.delete_topic(topic)
    return found


def test_the_filter_language(admin, client, name):
    messages = [
        ServiceBusMessage(
            "a",
            subject="order",
            message_id="m-1",
            correlation_id="c-1",
            application_properties={"n": 10, "price": 2.5, "region": "eu-west", "flag": True},
        ),
        ServiceBusMessage(
            "b", subject="invoice", application_properties={"n": 3, "region": "50%_off"}
        ),
        ServiceBusMessage("c", application_properties={"region": "it's"}),
    ]
    expected = {
        "n = 10": "a",
        "n <> 10": "b",
        "n != 10 OR n >= 10": "ab",
        "NOT (n > 5)": "b",
        "n IN (1, 2, 3)": "b",
        "n NOT IN (1, 2, 3)": "a",
        "region LIKE 'eu-%'": "a",
        "region LIKE '50!%!_%' ESCAPE '!'": "b",
        "region NOT LIKE 'eu%'": "bc",
        "region = 'it''s'": "c",
        "n IS NULL": "c",
        "n IS NOT NULL": "ab",
        "EXISTS(flag)": "a",
        "NOT EXISTS(n)": "c",
        "n * 2 + 1 = 21": "a",
        "n % 2 = 1": "b",
        "-n < 0 AND (n - 1) / 3 = 3": "a",
        "price > 2 AND price < 3e0": "a",
        "flag = TRUE": "a",
        "flag": "a",
        "sys.Label = 'order'": "a",
        "sys.Label IN ('order', 'invoice')": "ab",
        "sys.MessageId = 'm-1' AND sys.CorrelationId LIKE 'c%'": "a",
        "user.n = 3": "b",
        "[region] = 'it''s'": "c",
        "property('n') = 3": "b",
        "1 = 1": "abc",
        "1 = 0": "",
        "newid() IS NOT NULL": "abc",
        "sys.SequenceNumber > 0": "abc",
        "sys.PartitionKey IS NULL": "abc",
    }
    found = matching(admin, client, name, list(expected), messages)
    assert dict(zip(expected, found)) == expected
    conditions = [
        SqlRuleFilter("n > @low AND region LIKE @what", parameters={"@low": 5, "@what": "eu%"}),
        CorrelationRuleFilter(label="order", properties={"n": 10, "flag": True}),
        CorrelationRuleFilter(label="order", properties={"n": "10"}),
        TrueRuleFilter(),
        FalseRuleFilter(),
    ]
    assert matching(admin, client, f"{name}-2", conditions, messages) == [
        "a",
        "a",
        "",
        "abc",
        "",
    ]


def test_a_status_stops_senders_or_receivers(admin, client, name):
    queue = admin.create_queue(name)
    with client.get_queue_sender(name) as sender:
        sender.send_messages(ServiceBusMessage("x"))
    admin.update_queue(queue, status=EntityStatus.SEND_DISABLED)
    with pytest.raises(MessagingEntityDisabledError):
        with client.get_queue_sender(name) as sender:
            sender.send_messages(ServiceBusMessage("no"))
    with client.get_queue_receiver(name) as receiver:
        (message,) = receive(receiver, 1)
        receiver.complete_message(message)
        admin.update_queue(queue, status=EntityStatus.RECEIVE_DISABLED)
        with pytest.raises(MessagingEntityDisabledError):
            receiver.receive_messages(max_wait_time=5)
    admin.update_queue(queue, status=EntityStatus.ACTIVE)
    with client.get_queue_sender(name) as sender:
        sender.send_messages(ServiceBusMessage("y"))
    with client.get_queue_receiver(name) as receiver:
        (message,) = receive(receiver, 1)
        admin.delete_queue(name)
        with pytest.raises(ServiceBusError):
            receiver.complete_message(message)


def test_messages_are_forwarded(admin, client, name):
    source, target, dead = name, f"{name}-to", f"{name}-dead"
    admin.create_queue(dead)
    admin.create_queue(
        target, forward_dead_lettered_messages_to=dead, max_delivery_count=1
    )
    admin.create_queue(source, forward_to=target)
    with client.get_queue_sender(source) as sender:
        sender.send_messages(ServiceBusMessage("on its way", message_id="m"))
    with client.get_queue_receiver(target) as receiver:
        (message,) = receive(receiver, 1)
        assert (str(message), message.message_id) == ("on its way", "m")
        receiver.dead_letter_message(message, reason="Test")
    with client.get_queue_receiver(dead) as receiver:
        (message,) = receive(receiver, 1)
        assert message.dead_letter_reason == "Test"
        assert message.dead_letter_source == target
        receiver.complete_message(message)
    with pytest.raises(ServiceBusError):
        with client.get_queue_receiver(source) as receiver:
            receiver.receive_messages(max_wait_time=1)
    # Without its target, a message waits in the transfer dead-letter sub-queue.
    admin.delete_queue(target)
    with client.get_queue_sender(source) as sender:
        sender.send_messages(ServiceBusMessage("stuck"))
    assert admin.get_queue_runtime_properties(source).transfer_dead_letter_message_count == 1
    with client.get_queue_receiver(source, sub_queue="transferdeadletter") as receiver:
        (message,) = receive(receiver, 1)
        assert (str(message), message.dead_letter_reason) == ("stuck", "MessagingEntityNotFound")
        receiver.complete_message(message)
    for queue in (source, dead):
        admin.delete_queue(queue)


def test_an_unused_queue_goes_away(admin, name):
    import time

    admin.create_queue(name, auto_delete_on_idle=datetime.timedelta(seconds=1))
    deadline = time.monotonic() + 30
    while name in [queue.name for queue in admin.list_queues()]:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_namespace_introduces_itself(admin):
    namespace = admin.get_namespace_properties()
    assert namespace.name and namespace.messaging_sku


def test_only_who_may_manage_is_let_in(ready, authority, admin, name):
    def client(key_name, key):
        return ServiceBusAdministrationClient.from_connection_string(
            connection_string_for(ready["adminAddress"], key_name, key),
            connection_verify=authority,
        )

    rule = AuthorizationRule(
        claim_type="SharedAccessKey",
        claim_value="None",
        rights=[AccessRights.SEND, AccessRights.LISTEN],
        key_name="worker",
        primary_key="p1",
        secondary_key="p2",
    )
    queue = admin.create_queue(name, authorization_rules=[rule])
    assert queue.authorization_rules[0].key_name == "worker"
    for key_name, key in [("RootManageSharedAccessKey", "wrong"), ("worker", "p1")]:
        with client(key_name, key) as other, pytest.raises(ClientAuthenticationError):
            other.get_queue(name)
    admin.delete_queue(name)
