"""The official SDK publishes in the schema of Event Grid itself, for a webhook and for a queue."""

import base64
import datetime
import json

import pytest
import requests
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent, EventGridPublisherClient
from azure.storage.queue import QueueClient
from conftest import ACCOUNT, ACCOUNT_KEY, KEY, ONCE, wait_for


@pytest.fixture
def plain(endpoint):
    """A publisher to the topic whose schema is that of Event Grid."""
    elsewhere = endpoint.replace("/orders/", "/plain/")
    with EventGridPublisherClient(elsewhere, AzureKeyCredential(KEY), **ONCE) as publisher:
        yield publisher


def event(subject, **data):
    return EventGridEvent(subject, "order.created", data, "2.1")


def test_one_event_arrives_in_the_schema_that_its_subscription_asks_for(plain, subject, delivered):
    sent = event(subject, text="grüße", list=[1, None, 2.5])
    plain.send(sent)
    got = CloudEvent.from_dict(delivered(subject, 1)[str(sent.id)])
    assert (got.type, got.subject, got.time) == ("order.created", subject, datetime.datetime.fromisoformat(sent.event_time))
    assert got.data == {"text": "grüße", "list": [1, None, 2.5]}


def test_a_list_is_delivered_one_by_one(plain, subject, delivered):
    sent = [event(subject, n=n) for n in range(10)]
    plain.send(sent)
    got = delivered(subject, 10)
    assert {str(e.id): e.data["n"] for e in sent} == {id: e["data"]["n"] for id, e in got.items()}


def test_a_queue_gets_what_fits_its_filter(plain, subject, queue, endpoint):
    sent = [event(subject, n=n) for n in (5, 11, 50)]
    plain.send(sent)
    url = f"http://{queue}/{ACCOUNT}"
    with QueueClient(url, "large", credential=ACCOUNT_KEY, **ONCE) as messages:

        def arrived():
            texts = [message.content for message in messages.peek_messages(max_messages=32)]
            events = [json.loads(base64.b64decode(text)) for text in texts]
            events = [EventGridEvent.from_dict(event) for event in events]
            events = [event for event in events if event.subject == subject]
            return events if len(events) == 2 else None

        events = wait_for(arrived, 30, "two events in the queue")
    assert {str(e.id): e.data["n"] for e in events} == {str(e.id): e.data["n"] for e in sent[1:]}
    assert {(e.event_type, e.data_version) for e in events} == {("order.created", "2.1")}
    assert all(e.topic for e in events)
    host = endpoint.split("/orders/")[0]

    def counted():
        metrics = requests.get(f"{host}/admin/metrics", timeout=10).json()["plain"]
        return metrics if metrics["subscriptions"]["large"]["DeliverySuccessCount"] >= 2 else None

    metrics = wait_for(counted, 30, "the count of deliveries")
    assert metrics["PublishSuccessCount"] >= 3


def test_an_event_without_a_version_of_its_data_is_refused(plain, subject):
    wrong = {"id": "1", "subject": subject, "eventType": "t", "eventTime": "2026-03-01T10:00:00Z"}
    with pytest.raises(HttpResponseError) as refused:
        plain.send([{**wrong, "data": {}, "eventType": ""}])
    assert refused.value.status_code == 400
