"""The devices that the settings `device` and `processes` mean together: one for each process of a run."""

from __future__ import annotations

CARD = "cuda:"


def plain(name: str) -> str:
    """A device as torch names it, with its number if it is a card."""
    name = name.strip().lower()
    return f"{CARD}0" if name == "cuda" else name


def listed(device: str) -> list[str]:
    """The cards of a setting that chooses several, "cuda:0,2"; otherwise the one name."""
    first, *rest = [part for part in device.split(",") if part.strip()] or [""]
    return [plain(first), *(f"{CARD}{part.strip()}" if part.strip().isdigit() else plain(part) for part in rest)]


def processes(device: str, wanted: int) -> int:
    """How many processes train a run: one for each card that is chosen, or as many as are wanted."""
    return max(wanted, len(listed(device)))


def of_processes(device: str, wanted: int) -> list[str]:
    """The devices that a run takes: those chosen, or from the one card on as many as there are processes. Apart from
    cards, all processes share one device."""
    known = listed(device)
    number = known[0].removeprefix(CARD)
    if len(known) > 1 or not known[0].startswith(CARD) or not number.isdigit():
        return known
    return [f"{CARD}{int(number) + place}" for place in range(max(1, wanted))]


def is_sound(device: str) -> bool:
    """Whether a setting that chooses several names cards only, and each once."""
    known = listed(device)
    if len(known) < 2:
        return "," not in device
    numbers = [name.removeprefix(CARD) if name.startswith(CARD) else "" for name in known]
    return len({*numbers}) == len(numbers) and all(map(str.isdigit, numbers))
