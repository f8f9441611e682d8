"""The WebUI's prompt syntax; tests/webui draws with it and compares."""

from __future__ import annotations

import pytest
import torch

from dreambooth_ext.engine.conditioning.prompt_syntax import chunks, emphasised, parse

PARSED = {
    "a red cat": [("a red cat", 1)],
    "": [("", 1)],
    "a (red) cat": [("a ", 1), ("red", 1.1), (" cat", 1)],
    "((red)) [[blue]]": [("red", 1.21), (" ", 1), ("blue", 1 / 1.21)],
    "(red:1.5), (blue : 0.3 ), (not:-1)": [("red", 1.5), (", ", 1), ("blue ", 0.3), (", ", 1), ("not", -1)],
    "(a [b] (c:2))": [("a ", 1.1), ("b", 1.0), (" ", 1.1), ("c", 2.2)],
    "(one)(two)": [("onetwo", 1.1)],
    r"zkz \(dog\) \[x\] \\ end\ ": [("zkz (dog) [x] \\ end ", 1)],
    "(never closed": [("never closed", 1.1)],
    "[never closed": [("never closed", 1 / 1.1)],
    "never) opened] a:1.2) b: c": [("never) opened] a:1.2) b: c", 1)],
    "(a:1.2.3) b": [("a:1.2.3) b", 1.1)],
    "(a:b:1.3)": [("a:b", 1.3)],
    "one BREAK two": [("one", 1), ("BREAK", -1), ("two", 1)],
    "one\nBREAK": [("one", 1), ("BREAK", -1), ("", 1)],
    "BREAKFAST": [("BREAKFAST", 1)],
    "(one BREAK two)": [("one", 1.1), ("BREAK", -1.1), ("two", 1.1)],
}


@pytest.mark.parametrize("prompt", PARSED)
def test_parts_and_their_weights(prompt):
    found = parse(prompt)
    assert [text for text, _ in found] == [text for text, _ in PARSED[prompt]]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in PARSED[prompt]])


COMMA = 0


def lengths(*parts: list[int] | None) -> list[int]:
    return [len(chunk) for chunk in chunks([(part, 1.0) for part in parts], COMMA)]


def test_chunks():
    assert lengths([]) == [0] and lengths([1] * 75) == [75] and lengths([1] * 76) == [75, 1]
    assert lengths([1] * 3, None, [1] * 2) == [3, 2]
    assert lengths([1] * 3, None, []) == [3] and lengths([], None, [1]) == [0, 1]
    assert lengths([1] * 3, None, None, [1]) == [3, 0, 1]
    assert [weight for _, weight in chunks([([1], 2.0), ([5], 0.5)], COMMA)[0]] == [2.0, 0.5]


def test_a_chunk_ends_at_a_comma_that_is_near():
    near, far = [1] * 60 + [COMMA] + [1] * 20, [1] * 40 + [COMMA] + [1] * 40
    assert lengths(near) == [61, 20] and lengths(far) == [75, 6]
    assert lengths([1] * 55 + [COMMA] + [1] * 25) == [56, 25] and lengths([1] * 54 + [COMMA] + [1] * 25) == [75, 5]
    assert lengths([1] * 75 + [COMMA] + [1] * 80) == [75, 75, 6]  # a comma that begins a chunk is none to end it at
    assert lengths([1] * 74 + [COMMA] + [1]) == [75, 1]


def test_weights_change_the_output_and_not_its_mean():
    torch.manual_seed(0)
    states = torch.randn(2, 77, 8) + 0.3
    weights = torch.ones(2, 77)
    weights[1, 5] = 1.5
    found = emphasised(states, weights)
    assert torch.equal(found[0], states[0])
    torch.testing.assert_close(found[1].mean(), states[1].mean())
    ratio = found[1] / states[1]
    torch.testing.assert_close(ratio[5] / ratio[6], torch.full((8,), 1.5))
    short = states.bfloat16()  # of frozen encoders that stay: a mean of them has three digits
    assert torch.equal(emphasised(short, weights), emphasised(short.float(), weights).bfloat16())
    assert torch.equal(emphasised(torch.zeros(1, 77, 8), torch.ones(1, 77)), torch.zeros(1, 77, 8))  # no 0 / 0
