"""Requests that are made up from the contract, good ones and bad ones, against a running stack:
no answer may be a defect of ours, and each must be one that the contract describes."""

import collections
import itertools
import json

import pytest
import requests
import schemathesis
from conftest import REPOSITORY
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

DOCUMENT = REPOSITORY / "docs" / "openapi.json"
REQUESTS_MIN = 2_000
# Requests that got as far as they can; the others end at one check or another.
ACCEPTED_MIN = 50
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Whoever asks: mostly a developer, who may do everything, so that most requests get far.
PRINCIPALS = itertools.cycle(
    [None, None, None, "c-contract", None, ";roles=ops.read", "c-other;roles=", ""]
)
schema = schemathesis.openapi.from_path(DOCUMENT)
made = collections.Counter()
statuses = collections.Counter()


def generated(count):
    """The same requests in every run, so that a failure is the code's doing and not luck's."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def session():
    with requests.Session() as session:
        yield session


@pytest.fixture(scope="module")
def known_order(stack):
    return stack.submit()


def check(case, stack, session):
    principal = next(PRINCIPALS)
    headers = {} if principal is None else {"X-Development-Principal": principal}
    response = case.call(base_url=stack.url, session=session, headers=headers)
    made[f"{case.method} {case.path}"] += 1
    statuses[response.status_code] += 1
    case.validate_response(response, checks=CHECKS)


def make_sellable(body):
    """Makes an order that is right in form one that can be bought."""
    try:
        for item in body["items"]:
            item["sku"] = "vitamin-c"
            item.pop("unitPriceMinor", None)
        body["currency"] = "EUR"
    except (AttributeError, KeyError, TypeError):
        pass  # Not right in form, which is what it was made up for.


@schema.include(path="/api/orders", method="POST").parametrize()
@generated(450)
def test_submitting(case, stack, session):
    if made.total() % 3 == 0:
        make_sellable(case.body)
    check(case, stack, session)


@schema.include(path="/api/orders", method="GET").parametrize()
@generated(400)
def test_listing(case, stack, session):
    check(case, stack, session)


@schema.include(path_regex="^/api/orders/").parametrize()
@generated(300)
def test_one_order(case, stack, session, known_order):
    if made.total() % 2 == 0:
        case.path_parameters["id"] = known_order
    check(case, stack, session)


@schema.exclude(path_regex="^/api/orders").parametrize()
@generated(100)
def test_everything_else(case, stack, session):
    check(case, stack, session)


def test_enough_was_asked_and_the_answers_were_of_every_kind():
    assert made.total() >= REQUESTS_MIN, made
    assert {200, 400, 401, 403, 404, 405, 415, 422} <= statuses.keys(), statuses
    assert statuses[202] >= ACCEPTED_MIN, statuses
    operations = {
        f"{method.upper()} {path}"
        for path, item in json.loads(DOCUMENT.read_text())["paths"].items()
        for method in item
    }
    # Methods that are not in the contract are tried as well.
    assert operations <= made.keys()
    print(f"{made.total()} requests: {dict(statuses)}")


def test_the_contract_that_is_served_is_the_one_that_is_committed(stack):
    committed = json.loads(DOCUMENT.read_text())
    assert stack.request("GET", "/api/openapi.json") == committed
    for component in committed["components"]["schemas"].values():
        Draft202012Validator.check_schema(component)
