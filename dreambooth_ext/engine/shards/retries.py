"""How long a reader waits before it asks again for what it did not get."""

from __future__ import annotations

from collections.abc import Callable

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds between tries; any byte that arrives begins anew
Rest = Callable[[float], None]  # waits so many seconds; may raise to end the tries
