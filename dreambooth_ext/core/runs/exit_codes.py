"""What the exit status of a process means, in words."""

from __future__ import annotations

import signal

from ..messages.message import Message

WINDOWS_CODES = {
    0xC0000005: "queue.access_violation",
    0xC0000017: "queue.no_memory",
    0xC000001D: "queue.instruction",
    0xC00000FD: "queue.stack_overflow",
    0xC0000135: "queue.library_missing",
    0xC0000142: "queue.library_not_started",
    0xC0000374: "queue.damaged_heap",
    0xC0000409: "queue.damaged_stack",
    0xC000012D: "queue.paging_file",
    0xC000013A: "queue.console_closed",
    0x40010004: "queue.shut_down",
}
CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")


def in_words(code: int | None) -> Message:
    """An exit status in words; POSIX signals are negative."""
    if code is None:
        return Message("queue.killed_or_down")
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        if name == "SIGKILL":
            return Message("queue.killed")
        if name in CRASHES:
            return Message("queue.crashed", number=-code, name=name)
        return Message("queue.signal", number=-code, name=name)
    shown = f"0x{code:08X}" if code > 0xFFFF else str(code)
    return Message(WINDOWS_CODES.get(code, "queue.exit_code"), code=shown)
