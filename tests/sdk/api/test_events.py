"""Every kind of event, as a running stack makes it and as the examples have it, against its JSON
Schema under docs/events."""

import copy
import json

import pytest
from azure.cosmos import CosmosClient
from conftest import REPOSITORY
from jsonschema import Draft202012Validator

EVENTS = REPOSITORY / "docs" / "events"
SCHEMAS = {path.name.removesuffix(".v1.json"): path for path in EVENTS.glob("*.v1.json")}
KINDS = sorted(SCHEMAS)


def validator(kind):
    schema = json.loads(SCHEMAS[kind].read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def example(kind):
    return json.loads((EVENTS / "examples" / f"{kind}.json").read_text())


def test_an_example_is_valid_and_may_have_more(kind, example):
    validator(kind).validate(example)
    example["tenant"] = "added later"
    example["data"]["giftWrap"] = True
    validator(kind).validate(example)


def test_whatever_is_missing_or_of_another_kind_shows(kind, example):
    schema = validator(kind).schema
    places = [((), schema), (("data",), schema["properties"]["data"])]
    for place, part in places:
        for name in part["properties"]:
            broken = copy.deepcopy(example)
            target = broken["data"] if place else broken
            if name in part["required"]:
                del target[name]
                assert not validator(kind).is_valid(broken), f"{name} is missing"
            target[name] = False
            assert not validator(kind).is_valid(broken), f"{name} is a boolean"
    another_version = example | {"schemaversion": 2}
    assert not validator(kind).is_valid(another_version)
    others = [other for other in KINDS if validator(other).is_valid(example)]
    assert others == [kind], "one event is of one kind"


def closed(order):
    return order["overall"] != "accepted"


def test_every_event_that_a_stack_makes_is_valid(stack):
    # Nobody sets out to charge for it while it waits here.
    stack.arm("billing.before-hand-over", "stall 1500")
    cancelled = stack.submit()
    stack.until(cancelled, "reserved", lambda order: order["status"]["inventory"] == "done")
    stack.request("POST", f"/api/orders/{cancelled}/cancel")
    endings = {
        stack.until(order_id, "closed", closed)["overall"]
        for order_id in (
            cancelled,
            stack.submit(),
            stack.submit(faults={"billing": "decline"}),
            stack.submit(sku="royal-jelly", quantity=6),
        )
    }
    assert endings == {"cancelled", "completed", "failed"}
    with CosmosClient(stack.cosmos, stack.cosmos_key) as client:
        orders = client.get_database_client("bulkhead").get_container_client("orders")
        query = "SELECT * FROM c WHERE c.type = 'event'"
        found = list(orders.query_items(query, enable_cross_partition_query=True))
    assert {event["eventType"] for event in found} == set(KINDS)
    for event in found:
        validator(event["eventType"]).validate(event["event"])
        assert event["messageId"] == event["event"]["id"] == event["id"]
