"""Queues, the account, and who may use them."""

import datetime
import urllib.error
import urllib.request

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.storage.queue import (
    AccessPolicy,
    AccountSasPermissions,
    CorsRule,
    QueueClient,
    QueueSasPermissions,
    QueueServiceClient,
    ResourceTypes,
    generate_account_sas,
    generate_queue_sas,
)
from conftest import ACCOUNT, IS_AZURITE, KEY, ONCE


HOUR = datetime.timedelta(hours=1)


def in_an_hour():
    return datetime.datetime.now(datetime.timezone.utc) + HOUR


def account_of(service):
    return f"http://{service.primary_hostname}"


def test_declared_queues_are_there(service):
    names = [queue.name for queue in service.list_queues(name_starts_with="declared")]
    assert names == ["declared", "declared-poison"]


def test_a_queue_is_created_once(service, name):
    queue = service.create_queue(name, metadata={"owner": "a", "second_part": "x y"})
    assert queue.get_queue_properties().metadata == {"owner": "a", "second_part": "x y"}
    # The SDK takes 204, which the service answers when the metadata are the same, for a conflict.
    for owner, status in [("a", 204), ("b", 409)]:
        with pytest.raises(ResourceExistsError) as caught:
            service.create_queue(name, metadata={"owner": owner, "second_part": "x y"})
        assert caught.value.response.status_code == status
        assert caught.value.error_code == "QueueAlreadyExists"
    queue.set_queue_metadata({"owner": "b"})
    assert queue.get_queue_properties().metadata == {"owner": "b"}
    service.delete_queue(name)
    with pytest.raises(ResourceNotFoundError) as caught:
        queue.send_message("x")
    assert caught.value.error_code == "QueueNotFound"


@pytest.mark.parametrize(
    "wrong, code",
    [("Upper-Case", "InvalidResourceName"), ("a--b", "InvalidResourceName"), ("ab", "OutOfRangeInput")],
)
def test_names_that_are_none(service, wrong, code):
    with pytest.raises(HttpResponseError) as caught:
        service.create_queue(wrong)
    assert (caught.value.status_code, caught.value.error_code) == (400, code)


def test_listings_come_in_pages(service, name):
    names = [f"{name}-{number}" for number in range(5)]
    for each in names:
        service.create_queue(each, metadata={"n": each})
    pages = service.list_queues(
        name_starts_with=name, include_metadata=True, results_per_page=2
    ).by_page()
    found = [[(queue.name, queue.metadata["n"]) for queue in page] for page in pages]
    assert [len(page) for page in found] == [2, 2, 1]
    assert sum(found, []) == [(each, each) for each in names]
    for each in names:
        service.delete_queue(each)


def test_settings_are_given_back(service):
    rule = CorsRule(["https://example.org"], ["GET"], max_age_in_seconds=5)
    service.set_service_properties(cors=[rule])
    found = service.get_service_properties()
    assert found["cors"][0].allowed_origins == "https://example.org"
    assert found["hour_metrics"].enabled is False
    service.set_service_properties(cors=[])
    assert service.get_service_properties()["cors"] == []


def test_policies_and_the_signatures_that_refer_to_them(service, queue):
    queue.send_message("x")
    sas = generate_queue_sas(ACCOUNT, queue.queue_name, KEY, policy_id="readers")
    reader = QueueClient(account_of(service), queue.queue_name, credential=sas, **ONCE)
    with pytest.raises(ClientAuthenticationError):
        reader.peek_messages()
    policy = AccessPolicy(
        permission=QueueSasPermissions(read=True), expiry=in_an_hour(), start=in_an_hour() - 2 * HOUR
    )
    queue.set_queue_access_policy({"readers": policy})
    assert queue.get_queue_access_policy()["readers"].permission == "r"
    assert [message.content for message in reader.peek_messages()] == ["x"]
    with pytest.raises(HttpResponseError) as caught:
        reader.receive_message()
    assert caught.value.error_code == "AuthorizationPermissionMismatch"
    queue.set_queue_access_policy({})
    with pytest.raises(ClientAuthenticationError):
        reader.peek_messages()


def test_signatures_for_a_queue_and_for_the_account(service, queue):
    permission = QueueSasPermissions(add=True, process=True, update=True)
    sas = generate_queue_sas(ACCOUNT, queue.queue_name, KEY, permission, in_an_hour())
    worker = QueueClient(account_of(service), queue.queue_name, credential=sas, **ONCE)
    worker.send_message("x")
    message = worker.receive_message()
    worker.delete_message(worker.update_message(message, visibility_timeout=1))
    with pytest.raises(HttpResponseError) as caught:
        worker.clear_messages()
    assert caught.value.error_code == "AuthorizationPermissionMismatch"

    sas = generate_account_sas(
        ACCOUNT, KEY, ResourceTypes(service=True), AccountSasPermissions(list=True), in_an_hour()
    )
    with QueueServiceClient(account_of(service), credential=sas, **ONCE) as lister:
        found = [each.name for each in lister.list_queues(name_starts_with=queue.queue_name)]
        assert found == [queue.queue_name]
        with pytest.raises(HttpResponseError) as caught:
            lister.delete_queue(queue.queue_name)
        assert caught.value.error_code == "AuthorizationResourceTypeMismatch"


def test_a_wrong_key_opens_nothing(connection_string, service):
    wrong = connection_string.replace(KEY, "bm90IHRoZSBrZXk=")
    with QueueServiceClient.from_connection_string(wrong, **ONCE) as stranger:
        with pytest.raises(ClientAuthenticationError) as caught:
            list(stranger.list_queues())
    assert (caught.value.status_code, caught.value.error_code) == (403, "AuthenticationFailed")
    assert KEY not in str(caught.value)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{account_of(service)}/declared/messages", timeout=10)
    # Azurite answers as Azure did before 2019.
    expected = (403, "AuthenticationFailed") if IS_AZURITE else (401, "NoAuthenticationInformation")
    assert (caught.value.status, caught.value.headers["x-ms-error-code"]) == expected
