"""The official SDK publishes CloudEvents to the stand-in: alone, in batches, with each way in."""

import datetime

import pytest
from azure.core.credentials import AzureKeyCredential, AzureSasCredential
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent, EventGridPublisherClient, generate_sas
from conftest import KEY, ONCE


def event(subject, **more):
    values = {"type": "order.created", "data": {"n": 1}, "subject": subject, **more}
    return CloudEvent("/sdk/tests", **values)


def test_one_event_arrives_as_it_was_sent(publisher, subject, delivered):
    sent = event(
        subject,
        data={"text": "grüße", "list": [1, None, 2.5]},
        dataschema="https://example.com/schema",
        extensions={"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
    )
    publisher.send(sent)
    got = delivered(subject, 1)[sent.id]
    assert got["specversion"] == "1.0"
    assert got["source"] == "/sdk/tests"
    assert got["type"] == "order.created"
    assert got["data"] == {"text": "grüße", "list": [1, None, 2.5]}
    assert got["dataschema"] == "https://example.com/schema"
    assert got["traceparent"].startswith("00-4bf92f35")
    assert CloudEvent.from_dict(got).time == sent.time


def test_bytes_travel_as_base64(publisher, subject, delivered):
    sent = event(subject, data=b"\x00\xff")
    publisher.send(sent)
    got = delivered(subject, 1)[sent.id]
    assert CloudEvent.from_dict(got).data == b"\x00\xff"


def test_a_batch_is_delivered_one_by_one(publisher, subject, delivered):
    sent = [event(subject, data={"n": n}) for n in range(100)]
    publisher.send(sent)
    got = delivered(subject, 100)
    assert {e.id: e.data["n"] for e in sent} == {id: e["data"]["n"] for id, e in got.items()}


def test_dictionaries_do_as_well(publisher, subject, delivered):
    sent = {
        "specversion": "1.0",
        "id": subject,
        "source": "/sdk/tests",
        "type": "order.created",
        "subject": subject,
    }
    publisher.send(sent)
    assert delivered(subject, 1)[subject]["source"] == "/sdk/tests"


def test_a_signature_made_of_the_key_opens_as_well(endpoint, subject, delivered):
    expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    signature = generate_sas(endpoint, KEY, expires)
    with EventGridPublisherClient(endpoint, AzureSasCredential(signature), **ONCE) as publisher:
        sent = event(subject)
        publisher.send(sent)
    assert sent.id in delivered(subject, 1)


def test_another_key_opens_nothing(endpoint, subject):
    with EventGridPublisherClient(endpoint, AzureKeyCredential("d3Jvbmc="), **ONCE) as publisher:
        with pytest.raises(ClientAuthenticationError) as refused:
            publisher.send(event(subject))
    assert refused.value.status_code == 401


def test_a_signature_that_is_over_opens_nothing(endpoint, subject):
    expired = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    signature = generate_sas(endpoint, KEY, expired)
    with EventGridPublisherClient(endpoint, AzureSasCredential(signature), **ONCE) as publisher:
        with pytest.raises(ClientAuthenticationError):
            publisher.send(event(subject))


def test_a_topic_that_is_not_there_says_so(endpoint, subject):
    elsewhere = endpoint.replace("/orders/", "/nowhere/")
    with EventGridPublisherClient(elsewhere, AzureKeyCredential(KEY), **ONCE) as publisher:
        with pytest.raises(ResourceNotFoundError):
            publisher.send(event(subject))


def test_the_schema_of_event_grid_is_refused_by_a_topic_of_cloud_events(publisher, subject):
    other = EventGridEvent(subject, "order.created", {"n": 1}, "1.0")
    with pytest.raises(HttpResponseError) as refused:
        publisher.send(other)
    assert refused.value.status_code == 415


def test_one_bad_event_spoils_its_batch(publisher, subject, delivered):
    bad = {"specversion": "1.0", "id": "x", "source": "/sdk/tests", "subject": subject}
    with pytest.raises(HttpResponseError) as refused:
        publisher.send([{**bad, "id": "y", "type": "order.created"}, bad])
    assert refused.value.status_code == 400
    good = event(subject)
    publisher.send(good)
    assert list(delivered(subject, 1)) == [good.id]
