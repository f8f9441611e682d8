"""Devices that something else than a training has for a while: no run starts on them meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...core.messages.message import Message
from ..errors import Refusal


@dataclass(frozen=True)
class Loan:
    """reason: why a run waits for the device. gives_way: called when one does; it may be called often."""

    device: str
    reason: Message
    gives_way: Callable[[], None] | None = None


class Loans:
    """The devices that are lent now. No lock of its own: the dispatcher's holds."""

    def __init__(self) -> None:
        self._by_device: dict[str, Loan] = {}

    def take(self, loan: Loan) -> None:
        """Raises a Refusal (409) if the device is lent already."""
        if loan.device in self._by_device:
            raise Refusal(409, "drawing.device_lent", "device", reason=self._by_device[loan.device].reason)
        self._by_device[loan.device] = loan

    def give_back(self, loan: Loan) -> None:
        if self._by_device.get(loan.device) is loan:
            del self._by_device[loan.device]

    def claimed(self, device: str) -> Message | str:
        """Why a run has to wait for the device, "" if it need not; who gives way is told that one waits."""
        loan = self._by_device.get(device)
        if loan is None:
            return ""
        if loan.gives_way:
            loan.gives_way()
        return loan.reason
