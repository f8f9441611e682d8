"""Tensors packed into one piece of memory, so that one copy takes all of them to the card or back."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ALIGNMENT = 256  # bytes: where a card's own allocations begin, too
PAGE = 4096  # bytes


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a piece of memory, and its form."""

    start: int  # bytes
    length: int  # bytes
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def in_bytes(self, part: Tensor) -> Tensor:
        """Return the tensor of this form in `length` bytes of memory."""
        return part.view(self.dtype).as_strided(self.size, self.stride)


class Packing:
    """An order of tensors in memory. Each keeps its strides, without gaps."""

    def __init__(self, tensors: Sequence[Tensor]):
        self.places: list[Place] = []
        end = 0
        for tensor in tensors:
            stride = torch.empty_like(tensor, device="meta").stride()
            length = tensor.numel() * tensor.element_size()
            self.places.append(Place(end, length, tensor.dtype, tuple(tensor.shape), tuple(stride)))
            end += math.ceil(length / ALIGNMENT) * ALIGNMENT
        self.bytes = end

    def fits(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these tensors have the forms of those that were packed."""
        return len(tensors) == len(self.places) and all(
            tensor.dtype == place.dtype and tuple(tensor.shape) == place.size
            for tensor, place in zip(tensors, self.places, strict=True)
        )

    def views(self, memory: Tensor) -> list[Tensor]:
        """Return the tensors in memory of at least `bytes`, uint8; they share its storage."""
        return [place.in_bytes(memory[place.start : place.start + place.length]) for place in self.places]

    def pieces(self, memory: Tensor) -> list[Tensor]:
        """Return the tensors in the computer's memory, each with a storage of its own, as files of tensors need them:
        a shared one would be written whole for each, and not at all with several types in it."""
        numbers = memory.numpy()
        return [
            place.in_bytes(torch.from_numpy(numbers[place.start : place.start + place.length])) for place in self.places
        ]


def memory_beside(device: torch.device, size: int) -> Tensor:
    """Return `size` bytes of the computer's memory, uint8, from which copies to the device can run by themselves.

    For that a card needs it locked. PyTorch's own locked memory comes in powers of two, up to twice as much; so this
    is locked where it lies. Where the system does not allow it, copies are slower, and the same otherwise.
    """
    length = math.ceil(size / PAGE) * PAGE
    whole = torch.empty(length + PAGE, dtype=torch.uint8)
    start = -whole.data_ptr() % PAGE
    memory = whole[start : start + size]
    if device.type == "cuda" and length:
        address, runtime = memory.data_ptr(), torch.cuda.cudart()
        if int(runtime.cudaHostRegister(address, length, 0)) == 0:
            weakref.finalize(memory, runtime.cudaHostUnregister, address).atexit = False
    return memory
