"""Tells Schemathesis the ids of the things in the shop, and checks the form of problems."""

import json
import os
import uuid

import schemathesis
from schemathesis.generation.meta import TestPhase
from schemathesis.generation.modes import GenerationMode

# Ids of what is there, and values that a field of this name takes, by name.
THERE = json.loads(os.environ["STEPWISE_THERE"])

# Codes of a request whose form is wrong. A request that the document allows must not be refused with one of them.
FORM = {
    "bad_request",
    "duplicate_key",
    "invalid_format",
    "invalid_parameter",
    "invalid_value",
    "malformed_json",
    "method_not_allowed",
    "not_found",
    "out_of_range",
    "too_deep",
    "too_many_values",
    "unknown_field",
    "unknown_parameter",
    "unsupported_media_type",
    "wrong_type",
}

# The beginning of refusals that say more than Schemathesis reads in the document: it sends `If-Match: 0`, which the pattern of that
# header forbids.
UNREAD = "If-Match must be"

FIELDS = {"type", "title", "status", "code", "detail", "instance", "requestId"}


def is_id(value):
    try:
        return str(uuid.UUID(value)) == value
    except (AttributeError, TypeError, ValueError):
        return False


def put_there(values, is_valid):
    """Puts in what is there, in three of four cases. A value that is wrong on purpose stays."""
    for name, value in values.items():
        known = THERE.get(name)
        if known is None or not (is_id(value) or is_valid):
            continue
        number = uuid.UUID(value).int if is_id(value) else len(str(value))
        if number % 4:
            values[name] = known[number % len(known)]


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or case.meta.phase.name == TestPhase.STATEFUL:
        # Its ids are those of what the requests before have made.
        return
    is_valid = case.meta.generation.mode == GenerationMode.POSITIVE
    put_there(case.path_parameters, is_valid)
    if isinstance(case.body, dict):
        put_there(case.body, is_valid)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Whether valid data must be accepted is decidable only as far as its form goes: a shop may still have no such order."""
    if type(failure).__name__ == "RejectedPositiveData":
        return value(response, "code") in FORM and not value(response, "detail").startswith(UNREAD)
    return True


def value(response, name):
    try:
        return response.json().get(name, "")
    except (AttributeError, ValueError):
        return ""


@schemathesis.check
def a_failure_is_a_whole_problem(ctx, response, case):
    """RFC 9457, with a code, and nothing that only a program's author understands."""
    if response.status_code < 400:
        return
    kind = response.headers.get("content-type", [""])[0]
    assert kind == "application/problem+json", f"the content type is {kind}"
    problem = response.json()
    assert FIELDS <= problem.keys(), f"it has only {sorted(problem)}"
    assert problem["status"] == response.status_code
    for word in ("panicked", "sqlx", "PgDatabaseError", ".rs:"):
        assert word not in response.text, f"it shows {word}"
