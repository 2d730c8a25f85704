"""Point operations, preconditions and their errors."""

import uuid

import pytest
from azure.core import MatchConditions
from azure.cosmos.partition_key import NonePartitionKeyValue
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)


def status(call):
    with pytest.raises(CosmosHttpResponseError) as refused:
        call()
    return refused.value.status_code, refused.value.sub_status or 0


def test_an_item_from_creation_to_deletion(items, pk):
    body = {"id": "ü 1+%", "pk": pk, "z": 1.5, "a": [1, {"b": None}], "big": 9007199254740993}
    created = items.create_item(body)
    assert {name: created[name] for name in body} == body
    assert created["_etag"].startswith('"') and created["_ts"] > 0 and created["_self"]
    read = items.read_item("ü 1+%", pk)
    assert read == created
    with pytest.raises(CosmosResourceExistsError):
        items.create_item(body)
    replaced = items.replace_item("ü 1+%", {**read, "z": 2})
    assert replaced["_rid"] == created["_rid"] and replaced["_etag"] != created["_etag"]
    upserted = items.upsert_item({"id": "ü 1+%", "pk": pk})
    assert "z" not in upserted and upserted["_rid"] == created["_rid"]
    assert items.upsert_item({"id": "other", "pk": pk})["id"] == "other"
    items.delete_item("ü 1+%", pk)
    with pytest.raises(CosmosResourceNotFoundError) as missing:
        items.read_item("ü 1+%", pk)
    assert (missing.value.sub_status or 0) == 0
    assert status(lambda: items.delete_item("ü 1+%", pk)) == (404, 0)
    assert status(lambda: items.replace_item("ü 1+%", body)) == (404, 0)


def test_the_same_id_lives_in_every_partition(items, pk):
    items.create_item({"id": "same", "pk": pk, "n": 1})
    items.create_item({"id": "same", "pk": pk + "2", "n": 2})
    assert items.read_item("same", pk + "2")["n"] == 2


@pytest.mark.parametrize("value", [None, True, 17, 1.5, "", "a\"b\\c/é"])
def test_every_scalar_can_be_a_partition_key(items, value):
    name = str(uuid.uuid4())
    items.create_item({"id": name, "pk": value})
    assert items.read_item(name, value)["pk"] == value
    found = items.query_items(
        "SELECT VALUE c.id FROM c WHERE c.id = @id",
        parameters=[{"name": "@id", "value": name}],
        # The SDK takes None for no partition at all.
        **({"enable_cross_partition_query": True} if value is None else {"partition_key": value}),
    )
    assert list(found) == [name]
    items.delete_item(name, value)


def test_an_absent_partition_key_is_a_partition(items):
    name = str(uuid.uuid4())
    items.create_item({"id": name})
    assert items.read_item(name, NonePartitionKeyValue)["id"] == name
    items.delete_item(name, NonePartitionKeyValue)


def test_etags_guard_every_write(items, pk):
    first = items.create_item({"id": "e", "pk": pk, "n": 1})
    guard = {"etag": first["_etag"], "match_condition": MatchConditions.IfNotModified}
    second = items.replace_item("e", {"id": "e", "pk": pk, "n": 2}, **guard)
    with pytest.raises(CosmosAccessConditionFailedError):
        items.replace_item("e", {"id": "e", "pk": pk, "n": 3}, **guard)
    with pytest.raises(CosmosAccessConditionFailedError):
        items.upsert_item({"id": "e", "pk": pk, "n": 3}, **guard)
    with pytest.raises(CosmosAccessConditionFailedError):
        items.patch_item("e", pk, [{"op": "set", "path": "/n", "value": 3}], **guard)
    with pytest.raises(CosmosAccessConditionFailedError):
        items.delete_item("e", pk, **guard)
    assert items.read_item("e", pk)["n"] == 2
    changed = {"etag": second["_etag"], "match_condition": MatchConditions.IfNotModified}
    items.delete_item("e", pk, **changed)


def test_malformed_items_are_refused_and_leave_nothing(items, pk):
    assert status(lambda: items.create_item({"id": "x" * 1024, "pk": pk}))[0] == 400
    assert status(lambda: items.create_item({"id": "t", "pk": pk, "ttl": 0}))[0] == 400
    assert status(lambda: items.create_item({"id": "t", "pk": pk, "ttl": "1"}))[0] == 400
    assert status(lambda: items.create_item({"id": "p", "pk": {"an": "object"}}))[0] == 400
    large = {"id": "large", "pk": pk, "text": "x" * (2 * 1024 * 1024)}
    assert status(lambda: items.create_item(large))[0] == 413
    fits = {"id": "fits", "pk": pk, "text": "x" * (2 * 1024 * 1024 - 1000)}
    assert items.create_item(fits)["id"] == "fits"
    items.delete_item("fits", pk)
    items.create_item({"id": "mine", "pk": pk})
    other = {"id": "other", "pk": pk}
    assert status(lambda: items.replace_item("mine", other))[0] == 400
    assert [item["id"] for item in items.read_all_items() if item.get("pk") == pk] == ["mine"]


def test_unique_keys_hold_within_a_partition(database, pk):
    people = database.get_container_client("people")
    name = {"first": "Ada", "last": "L"}
    people.create_item({"id": "1", "pk": pk, "email": "a@x", "name": name})
    clash = {"id": "2", "pk": pk, "email": "a@x", "name": {"first": "B", "last": "L"}}
    assert status(lambda: people.create_item(clash))[0] == 409
    assert status(lambda: people.upsert_item({**clash, "email": "b@x", "name": name}))[0] == 409
    people.create_item({**clash, "pk": pk + "2"})
    people.create_item({**clash, "email": "b@x"})
    rename = [{"op": "set", "path": "/email", "value": "a@x"}]
    assert status(lambda: people.patch_item("2", pk, rename))[0] == 409
    people.patch_item("1", pk, [{"op": "set", "path": "/email", "value": "c@x"}])
    assert people.patch_item("2", pk, rename)["email"] == "a@x", "a given-up value is free again"
    people.create_item({"id": "3", "pk": pk})
    assert status(lambda: people.create_item({"id": "4", "pk": pk}))[0] == 409, "missing is null"


def test_session_tokens_are_honoured(items, pk):
    seen = {}
    items.create_item({"id": "s", "pk": pk}, response_hook=lambda headers, _: seen.update(headers))
    token = seen["x-ms-session-token"]
    assert items.read_item("s", pk, session_token=token)["id"] == "s"
    prefix, lsn = token.rsplit("#", 1)
    future = f"{prefix}#{int(lsn) + 1_000_000}"
    assert status(lambda: items.read_item("s", pk, session_token=future)) == (404, 1002)


def test_responses_carry_what_clients_account_for(items, pk):
    seen = {}
    hook = lambda headers, _: seen.update(headers)
    created = items.create_item({"id": "h", "pk": pk}, response_hook=hook)
    assert seen["etag"] == created["_etag"]
    assert 1 < float(seen["x-ms-request-charge"]) < 20
    assert seen["x-ms-activity-id"] and int(seen["lsn"]) > 0
    quiet = items.upsert_item({"id": "h", "pk": pk, "n": 1}, no_response=True)
    assert not quiet, "return=minimal leaves the body out"
    assert items.read_item("h", pk)["n"] == 1


def test_hierarchical_keys(database):
    tenants = database.get_container_client("tenants")
    tenant = f"t-{uuid.uuid4()}"
    for user in ["u1", "u2"]:
        for session in [1, 2]:
            body = {"id": f"{user}-{session}", "tenant": tenant, "user": user, "session": session}
            tenants.create_item(body)
    tenants.create_item({"id": "elsewhere", "tenant": tenant + "x", "user": "u1", "session": 1})
    assert tenants.read_item("u1-2", [tenant, "u1", 2])["session"] == 2
    query = "SELECT VALUE c.id FROM c ORDER BY c.id"
    assert list(tenants.query_items(query, partition_key=[tenant, "u1", 2])) == ["u1-2"]
    assert list(tenants.query_items(query, partition_key=[tenant, "u2"])) == ["u2-1", "u2-2"]
    assert len(list(tenants.query_items(query, partition_key=[tenant]))) == 4
    assert status(lambda: tenants.read_item("u1-2", [tenant, "u1"]))[0] == 400
    moved = [{"op": "set", "path": "/user", "value": "u9"}]
    assert status(lambda: tenants.patch_item("u1-1", [tenant, "u1", 1], moved))[0] == 400
