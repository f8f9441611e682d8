"""The optimizers: one row each, with everything that the program knows about it. A new optimizer is a row here.

`host/environment/requirements.lock` says where its package comes from; the engine creates it by module and class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

AUTO = "auto"  # the setting's value with which method, device and memory choose: EVERYWHERE, SMALL, or SMALLEST
EVERYWHERE, SMALL, SMALLEST = "adamw", "adamw8bit", "adafactor"


@dataclass(frozen=True)
class Elsewhere:
    """An optimizer's names in other trainers, in lower case and without separators, and how they use it."""

    names: tuple[str, ...] = ()
    same_steps: tuple[str, ...] = ()  # names of others, which take the same steps in another precision
    same_idea: tuple[str, ...] = ()  # parts of names of others, in whose place this one is taken
    defaults: Mapping[str, Any] = field(default_factory=dict)  # arguments that they fill in, and the library does not
    rate_switches: Mapping[str, bool] = field(default_factory=dict)  # with one of these on, it finds its own rate there
    arguments: tuple[str, ...] = ()  # all that it has, where those of others in `same_idea` may come along


@dataclass(frozen=True)
class OptimizerFacts:
    """Where an optimizer is found, its arguments, its memory, and how to use it."""

    package: str  # that brings it, as pip calls it
    module: str
    class_name: str
    defaults: Mapping[str, Any] = field(default_factory=dict)  # arguments, unless the user says otherwise
    # Arguments that would do nothing here, or break training: rates have their own settings, gradients go downhill.
    closed: frozenset[str] = frozenset()
    state_bytes: float = 8  # for each number that it trains
    copies: int = 0  # of the weights, in their own precision, that it keeps beside
    momentum_bytes: int = 0  # more, where it is given a momentum
    finds_rate: bool = False  # by itself: its learning rate is a factor near 1, the same for all that learns
    steps_alone: bool = True  # with each parameter by itself, and so within the backward pass, too
    # What is learned are averages: not the weights that it trains with, and in place of rates that fall
    averages: bool = False
    is_elementwise: bool = False  # each number is stepped by itself
    usual_rate: float = 1.0  # times AdamW's
    small_form_of: str = ""  # the optimizer that takes the same steps with a larger state
    is_factored: bool = False  # its state is rows and columns of matrices
    is_paged: bool = False  # its state moves between the card's memory and the computer's
    is_optional: bool = False  # the trainer's environment may lack its package
    needs_trial: bool = False  # a library that imports may have no code for the device: a step is tried
    elsewhere: Elsewhere = Elsewhere()


_TORCH = frozenset({"maximize", "capturable", "differentiable"})
_EIGHT_BIT = frozenset({"amsgrad", "optim_bits", "args", "is_paged"})
_PRODIGY = (
    *("betas", "beta3", "eps", "decouple", "use_bias_correction", "safeguard_warmup"),
    *("d0", "d_coef", "growth_rate", "slice_p"),
)
_PRODIGY_SCHEDULE_FREE = (
    *("betas", "beta3", "eps", "weight_decay_by_lr", "d0", "d_coef", "d_limiter", "prodigy_steps", "schedulefree_c"),
    *("split_groups", "split_groups_mean", "factored", "factored_fp32", "use_bias_correction", "use_stableadamw"),
    *("use_speed", "use_cautious", "use_grams", "use_adopt", "use_orthograd", "use_focus"),
)

OPTIMIZERS: dict[str, OptimizerFacts] = {
    "adamw": OptimizerFacts(
        "torch",
        "torch.optim",
        "AdamW",
        closed=_TORCH,
        is_elementwise=True,
        elsewhere=Elsewhere(("adamw", "torchadamw"), same_steps=("pagedadamw", "pagedadamw32bit")),
    ),
    "adamw8bit": OptimizerFacts(
        "bitsandbytes",
        "bitsandbytes.optim",
        "AdamW8bit",
        closed=_EIGHT_BIT,
        is_elementwise=True,
        state_bytes=2,
        small_form_of=EVERYWHERE,
        is_optional=True,
        needs_trial=True,
        elsewhere=Elsewhere(("adamw8bit", "8bitadamw", "8bitadam")),
    ),
    "paged_adamw8bit": OptimizerFacts(
        "bitsandbytes",
        "bitsandbytes.optim",
        "PagedAdamW8bit",
        closed=_EIGHT_BIT,
        state_bytes=2,
        small_form_of=EVERYWHERE,
        is_paged=True,
        is_optional=True,
        needs_trial=True,
        elsewhere=Elsewhere(("pagedadamw8bit", "paged8bitadamw")),
    ),
    "lion": OptimizerFacts(
        "lion-pytorch",
        "lion_pytorch",
        "Lion",
        closed=frozenset({"use_triton"}),
        state_bytes=4,
        is_elementwise=True,
        usual_rate=0.3,  # its authors take a third to a tenth
        elsewhere=Elsewhere(("lion",), same_steps=("lion8bit", "pagedlion8bit", "8bitlion", "paged8bitlion")),
    ),
    "adafactor": OptimizerFacts(
        "transformers",
        "transformers.optimization",
        "Adafactor",
        defaults={"scale_parameter": False, "relative_step": False},
        closed=frozenset({"relative_step", "warmup_init"}),
        state_bytes=0,  # a number for each row and column of a matrix
        is_factored=True,
        elsewhere=Elsewhere(("adafactor",), rate_switches={"relative_step": True, "warmup_init": False}),
    ),
    "came": OptimizerFacts(
        "came-pytorch",
        "came_pytorch",
        "CAME",
        state_bytes=4,  # momentum, and for each row and column of a matrix two numbers
        usual_rate=0.5,  # its authors take AdamW's down to a third of it
        is_factored=True,
        elsewhere=Elsewhere(("came",), same_steps=("came8bit", "cameeightbit")),
    ),
    "prodigy": OptimizerFacts(
        "prodigyopt",
        "prodigyopt",
        "Prodigy",
        # As Prodigy's authors advise for diffusion models, https://github.com/konstmish/prodigy
        defaults={"decouple": True, "use_bias_correction": True, "safeguard_warmup": True},
        closed=frozenset({"fsdp_in_use"}),
        state_bytes=16,
        finds_rate=True,
        steps_alone=False,  # one rate for all
        elsewhere=Elsewhere(
            ("prodigy",),
            same_idea=("dadapt", "prodigy"),
            arguments=_PRODIGY,
        ),
    ),
    "prodigy_schedulefree": OptimizerFacts(
        "prodigy-plus-schedule-free",
        "prodigyplus",
        "ProdigyPlusScheduleFree",
        # Without averages it is another optimizer; when it steps and what it rounds is for the training loop to say.
        closed=frozenset({"use_schedulefree", "fused_back_pass", "stochastic_rounding"}),
        state_bytes=0.4,  # of every 11th number two more in bfloat16; the second moment is rows and columns
        copies=1,
        finds_rate=True,  # from all gradients, but for the next step
        averages=True,
        elsewhere=Elsewhere(
            ("prodigyplusschedulefree", "prodigyplus", "prodigyschedulefree"), arguments=_PRODIGY_SCHEDULE_FREE
        ),
    ),
    "sgd": OptimizerFacts(
        "torch",
        "torch.optim",
        "SGD",
        closed=_TORCH,
        state_bytes=0,
        momentum_bytes=4,
        is_elementwise=True,
        usual_rate=1e5,  # it does not divide by the gradients' size
        elsewhere=Elsewhere(
            ("sgdnesterov",), same_steps=("sgdnesterov8bit",), defaults={"momentum": 0.9, "nesterov": True}
        ),
    ),
}


def optimizer_facts(name: str) -> OptimizerFacts:
    """The facts for a value of the setting `optimizer`. "auto" has AdamW's: it becomes AdamW or its 8-bit form."""
    return OPTIMIZERS[_row(name)]


def state_bytes(name: str, arguments: Mapping[str, Any], weight: int = 4) -> float:
    """Bytes of state that an optimizer with these arguments keeps for each trained number. weight: bytes of that."""
    facts = optimizer_facts(name)
    return facts.state_bytes + facts.copies * weight + (facts.momentum_bytes if arguments.get("momentum") else 0)


def names_with(fact: str) -> list[str]:
    """The optimizers for which a fact is true, such as "finds_rate"."""
    return [name for name, facts in OPTIMIZERS.items() if getattr(facts, fact)]


def small_forms(name: str) -> list[str]:
    """The optimizers that take the same steps as this one with a smaller state."""
    return [other for other, facts in OPTIMIZERS.items() if facts.small_form_of and facts.small_form_of == _row(name)]


def _row(name: str) -> str:
    return name if name in OPTIMIZERS else EVERYWHERE
