"""Devices that are lent: no run begins on them, and no device is lent that a run has or waits for."""

from __future__ import annotations

import pytest

from dreambooth_ext.core.messages.message import Message
from dreambooth_ext.host.errors import Refusal
from dreambooth_ext.host.jobs.loans import Loan
from tests.waiting import until

from .test_dispatcher import Place, ended

REASON = Message("drawing.going_on_compare")


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.end()


def code_of(dispatcher, device: str = "cpu") -> str:
    with pytest.raises(Refusal) as caught:
        dispatcher.lend(Loan(device, REASON))
    assert caught.value.status == 409
    return caught.value.problem.code


def test_a_run_waits_for_a_device_that_is_lent_and_says_why(place):
    dispatcher = place.dispatcher()
    until(lambda: dispatcher.leads)
    wanted: list[str] = []
    loan = Loan("cpu", REASON, lambda: wanted.append("cpu"))
    dispatcher.lend(loan)
    run = place.submit(dispatcher)
    until(lambda: dispatcher.waiting == str(REASON))
    assert wanted and run.state()["status"] == "queued" and not dispatcher.running
    dispatcher.give_back(loan)
    ended(run)
    until(lambda: lent(dispatcher, loan))  # free again


def test_what_a_run_has_or_waits_for_is_not_lent(place):
    dispatcher = place.dispatcher()
    until(lambda: dispatcher.leads)
    run = place.submit(dispatcher)
    until(lambda: dispatcher.running)
    assert code_of(dispatcher) == "drawing.run_trains"
    dispatcher.lend(Loan("cuda:1", REASON))  # another one
    assert code_of(dispatcher, "cuda:1") == "drawing.device_lent"
    ended(run)
    dispatcher.pause(True)
    place.submit(dispatcher)
    loan = Loan("cpu", REASON)
    until(lambda: not dispatcher.running)
    until(lambda: lent(dispatcher, loan))  # the queue is paused
    dispatcher.give_back(loan)
    dispatcher.close()
    dispatcher.pause(False)
    assert code_of(dispatcher) == "drawing.run_waits"


def lent(dispatcher, loan) -> bool:
    """The host's models may not be back yet."""
    try:
        dispatcher.lend(loan)
    except Refusal:
        return False
    return True


def test_only_the_leading_host_lends(place):
    first = place.dispatcher()
    until(lambda: first.leads)
    assert code_of(place.dispatcher()) == "drawing.other_host"
