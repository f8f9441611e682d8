"""Families are compared by name nowhere but in their own rows, and a row names all of a family's parts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreambooth_ext.engine.models.architecture import shipped
from dreambooth_ext.engine.models.families import FAMILIES, PIXELS, SD1, SD2, SDXL
from dreambooth_ext.engine.training.noise_processes import NOISE_PROCESSES

PACKAGE = Path(__file__).parents[3] / "dreambooth_ext"
ROWS = PACKAGE / "engine" / "models" / "families.py"
MARKS = PACKAGE / "core" / "facts" / "family_marks.py"  # rows of the same families, for what has no PyTorch
WORDS = {word for family in FAMILIES.values() for word in (family.name, family.title)} | {PIXELS.title}
CONSTANTS = {"SD1", "SD2", "SDXL", "PIXELS", "FAMILIES"}


def names_a_family(node: ast.AST) -> bool:
    """Whether an operand is a family's name, row or title, or all of them."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(map(names_a_family, node.elts))
    if isinstance(node, ast.Constant):
        return node.value in WORDS if isinstance(node.value, str) else False
    if isinstance(node, ast.Name):
        return node.id in CONSTANTS
    if isinstance(node, ast.Attribute):
        is_family = isinstance(node.value, ast.Attribute) and node.value.attr == "family"
        is_family = is_family or (isinstance(node.value, ast.Name) and node.value.id == "family")
        return node.attr in CONSTANTS or (is_family and node.attr in ("name", "title"))
    return False


def comparisons(tree: ast.AST) -> Iterator[int]:
    """Lines that tell families apart by their names: compared, matched, as keys of a table, or asked "is it SDXL?"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            found = any(map(names_a_family, (node.left, *node.comparators)))
        elif isinstance(node, ast.Dict):
            found = any(key is not None and names_a_family(key) for key in node.keys)
        elif isinstance(node, ast.MatchValue):
            found = names_a_family(node.value)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            found = called in ("startswith", "endswith") and any(map(names_a_family, node.args))
        elif isinstance(node, ast.Name | ast.Attribute | ast.FunctionDef):
            name = (
                node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else node.name
            )
            found = name.lower() in {f"{verb}_{family}" for verb in ("is", "has") for family in (*FAMILIES, "xl")}
        else:
            found = False
        if found:
            yield node.lineno


@pytest.mark.parametrize(
    "path", sorted(set(PACKAGE.rglob("*.py")) - {ROWS, MARKS}), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_no_family_is_compared_by_name(path):
    assert list(comparisons(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "source",
    [
        "base.family.name == 'sdxl'",
        "if family is SDXL: pass",
        "kind in ('sd1', 'sd2')",
        "base.family.name not in FAMILIES",
        "family.name == other",
        "{'sd1': 1, 'sd2': 2}[family.name]",
        "{families.SDXL: 1}",
        "plan['family'] == 'Stable Diffusion XL'",
        "title.startswith('sdxl')",
        "match name:\n    case 'sdxl': pass",
        "is_sdxl = len(layers) > 2",
        "text.is_sdxl",
    ],
)
def test_every_comparison_is_noticed(source):
    assert list(comparisons(ast.parse(source)))


@pytest.mark.parametrize("family", [*FAMILIES.values(), PIXELS], ids=lambda family: family.name)
def test_a_row_names_its_parts(family):
    assert family.noise in NOISE_PROCESSES
    if family is not PIXELS:
        assert len(shipped(family.name).text_encoders) == len(family.text.slots)
        assert family.pipeline and family.software in ("ldm", "sgm") and family.usual_bytes
        assert family.names("epsilon").kohya and family.denoiser.work


def test_what_other_tools_call_them():
    """kohya's `ss_base_model_version` and sai_model_spec's architecture."""
    assert (SD1.names("epsilon").kohya, SD1.names("v_prediction").kohya) == ("sd_v1", "sd_v1")
    assert (SD2.names("epsilon").kohya, SD2.names("v_prediction").kohya) == ("sd_v2", "sd_v2_768_v")
    assert (SDXL.names("epsilon").kohya, SDXL.names("v_prediction").kohya) == ("sdxl_base_v1-0", "sdxl_base_v1-0")
    assert SD2.names("v_prediction").modelspec == "stable-diffusion-v2-768-v"
    assert SDXL.names("v_prediction").modelspec == "stable-diffusion-xl-v1-base"
