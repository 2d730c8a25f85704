"""Databases, containers, throughput, and who may touch them."""

import uuid

import pytest
from azure.cosmos import CosmosClient, PartitionKey
from azure.cosmos.exceptions import (
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)


def test_databases_live_and_die(client):
    name = f"db {uuid.uuid4()}"
    database = client.create_database(name)
    with pytest.raises(CosmosResourceExistsError):
        client.create_database(name)
    assert client.create_database_if_not_exists(name).read()["id"] == name
    assert name in [database["id"] for database in client.list_databases()]
    query = "SELECT * FROM root r WHERE r.id = @id"
    found = client.query_databases(query, parameters=[{"name": "@id", "value": name}])
    assert [database["id"] for database in found] == [name]
    client.delete_database(name)
    with pytest.raises(CosmosResourceNotFoundError):
        database.read()
    with pytest.raises(CosmosResourceNotFoundError):
        client.delete_database(name)


def test_containers_keep_what_they_were_given(database):
    name = f"c-{uuid.uuid4()}"
    policy = {
        "indexingMode": "consistent",
        "automatic": True,
        "includedPaths": [{"path": "/*"}],
        "excludedPaths": [{"path": "/big/*"}],
        "compositeIndexes": [[{"path": "/type"}, {"path": "/_ts", "order": "descending"}]],
    }
    container = database.create_container(
        name,
        PartitionKey(path="/a/b"),
        indexing_policy=policy,
        default_ttl=60,
        unique_key_policy={"uniqueKeys": [{"paths": ["/x"]}]},
        offer_throughput=1000,
    )
    read = container.read()
    assert read["partitionKey"] == {"paths": ["/a/b"], "kind": "Hash", "version": 2}
    assert read["indexingPolicy"]["compositeIndexes"] == policy["compositeIndexes"]
    assert read["defaultTtl"] == 60
    assert read["uniqueKeyPolicy"]["uniqueKeys"][0]["paths"] == ["/x"]
    assert read["conflictResolutionPolicy"]["mode"] == "LastWriterWins"
    assert container.get_throughput().offer_throughput == 1000
    container.replace_throughput(2000)
    assert container.get_throughput().offer_throughput == 2000
    with pytest.raises(CosmosResourceExistsError):
        database.create_container(name, PartitionKey(path="/a/b"))
    with pytest.raises(CosmosHttpResponseError) as refused:
        database.replace_container(container, PartitionKey(path="/other"))
    assert refused.value.status_code == 400
    assert name in [container["id"] for container in database.list_containers()]
    database.delete_container(name)
    with pytest.raises(CosmosResourceNotFoundError):
        container.read()


def test_bad_declarations_are_refused(database):
    for paths, kind in [(["pk"], "Hash"), (["/a", "/b", "/c", "/d"], "MultiHash")]:
        with pytest.raises(CosmosHttpResponseError) as refused:
            database.create_container(f"c-{uuid.uuid4()}", PartitionKey(path=paths, kind=kind))
        assert refused.value.status_code == 400
    with pytest.raises(CosmosHttpResponseError) as refused:
        database.create_container(f"c-{uuid.uuid4()}", PartitionKey(path="/pk"), default_ttl=0)
    assert refused.value.status_code == 400


def test_missing_container_is_told_from_missing_item(database):
    nowhere = database.get_container_client("nowhere")
    with pytest.raises(CosmosResourceNotFoundError) as missing:
        nowhere.query_items("SELECT * FROM c", partition_key="x").next()
    assert missing.value.status_code == 404


def test_only_the_right_key_gets_in(account):
    endpoint, _ = account
    other = "bm90IHRoZSBrZXk="
    with pytest.raises(CosmosHttpResponseError) as refused:
        CosmosClient(endpoint, other).get_database_client("sdk").read()
    assert refused.value.status_code == 401
