"""Which build of torch is installed, by card, driver and system, and what pip is asked for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth_ext.commands import env
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.messages.message import Message
from dreambooth_ext.core.system.terminal import silent
from dreambooth_ext.host.environment import builder as build
from dreambooth_ext.host.environment import environment as making
from dreambooth_ext.host.environment.gpu_probe import Card, Machine, kfd_targets, read_cards
from dreambooth_ext.host.environment.lock_file import Row
from dreambooth_ext.host.environment.maintenance import Maintenance
from dreambooth_ext.host.environment.pip_runner import Cancelled, Pip, Runner, Window, interpreter_of
from dreambooth_ext.host.environment.torch_build import AUTOMATIC, BUILDS, INDEX, builds_for, choose
from dreambooth_ext.host.environment.uv_runner import Uv
from tests.host.environment.small_wheels import TORCH, virtual_environment, wheel


def nvidia(driver: int, *cards: tuple[str, float | None], system: str = "Linux", processor: str = "x86_64") -> Machine:
    return Machine(system, processor, driver, tuple(Card(*card) for card in cards))


RTX_3060, RTX_5090, GTX_1080 = ("RTX 3060", 8.6), ("RTX 5090", 12.0), ("GTX 1080", 6.1)
WINDOWS_572 = nvidia(572, RTX_5090, system="Windows")
TABLE = {
    # NVIDIA: the newest CUDA that card and driver allow
    "RTX 30": (nvidia(580, RTX_3060), "cu130", None, "torch_cuda_13"),
    "RTX 30, Windows": (nvidia(581, RTX_3060, system="Windows", processor="AMD64"), "cu130", "cu130", "torch_cuda_13"),
    "RTX 50": (nvidia(595, RTX_5090), "cu130", None, "torch_cuda_13"),
    "RTX 20": (nvidia(580, ("RTX 2070", 7.5)), "cu130", None, "torch_cuda_13"),
    "H200, ARM": (nvidia(580, ("GH200", 9.0), processor="aarch64"), "cu130", None, "torch_cuda_13"),
    "GTX 10": (nvidia(580, GTX_1080), "cu126", "cu126", "torch_cards_12"),
    "GTX 10, Windows": (nvidia(560, GTX_1080, system="Windows"), "cu126", "cu126", "torch_cards_12"),
    "V100": (nvidia(570, ("Tesla V100-SXM2-16GB", 7.0)), "cu126", "cu126", "torch_cards_12"),
    "GTX 9": (nvidia(550, ("GTX 970", 5.2)), "cu126", "cu126", "torch_cards_12"),
    "RTX 40, older driver": (nvidia(551, ("RTX 4090", 8.9)), "cu126", "cu126", "torch_driver_12"),
    "RTX 50, older driver": (nvidia(572, RTX_5090), "cu130", None, "torch_driver_too_old"),
    "RTX 50, older driver, Windows": (WINDOWS_572, "cu130", "cu130", "torch_driver_too_old"),
    "RTX 30, old driver": (nvidia(470, ("GeForce RTX 3060", None)), "cu126", "cu126", "torch_driver_too_old"),
    "GTX 10, old driver": (nvidia(470, ("GeForce GTX 1080", None)), "cu126", "cu126", "torch_driver_too_old"),
    "GTX 10, that does not say so": (nvidia(580, ("GeForce GTX 1080 Ti", None)), "cu126", "cu126", "torch_cards_12"),
    "GTX 16, that does not say so": (nvidia(580, ("GeForce GTX 1660", None)), "cu130", None, "torch_cuda_13"),
    "Kepler": (nvidia(470, ("Tesla K80", 3.7)), "cpu", "cpu", "torch_card_too_old"),
    "old and new": (nvidia(580, GTX_1080, RTX_5090), "cu130", None, "torch_cuda_13"),
    "two old, one new": (nvidia(580, GTX_1080, ("V100", 7.0), RTX_5090), "cu126", "cu126", "torch_cards_12"),
    "old and middle": (nvidia(580, GTX_1080, RTX_3060), "cu126", "cu126", "torch_cards_12"),
    "both makers": (Machine(driver=580, cards=(Card("A10", 8.6),), amd=("gfx1036",)), "cu130", None, "torch_cuda_13"),
    # AMD
    "RX 7900": (Machine(amd=("gfx1100",)), "rocm", "rocm7.2", "torch_rocm"),
    "RX 6800 beside a processor's": (Machine(amd=("gfx1036", "gfx1030")), "rocm", "rocm7.2", "torch_rocm"),
    "RX 6700 XT": (Machine(amd=("gfx1031",)), "rocm", "rocm7.2", "torch_rocm_like"),
    "Ryzen's own": (Machine(amd=("gfx1036",)), "cpu", "cpu", "torch_amd_unknown"),
    "RX 7900, Windows": (Machine("Windows", "AMD64", amd=("Radeon RX 7900",)), "cpu", None, "torch_amd_windows"),
    # neither
    "Linux": (Machine(), "cpu", "cpu", "torch_cpu"),
    "Windows": (Machine("Windows", "AMD64"), "cpu", None, "torch_cpu"),
    "Apple": (Machine("Darwin", "arm64"), "mps", None, "torch_mps"),
    "Apple, Intel": (Machine("Darwin", "x86_64"), "cpu", None, "torch_intel_mac"),
}  # fmt: skip


@pytest.mark.parametrize(("machine", "name", "index", "code"), TABLE.values(), ids=TABLE)
def test_the_build_of_torch_fits_the_machine_and_says_why(machine, name, index, code):
    found = choose(machine)
    assert (found.name, found.index, found.reason.code) == (name, index and INDEX + index, f"environment.{code}")
    assert "{" not in found.reason  # every value is there


def test_cards_that_a_build_does_not_know_are_not_named_as_its_reason():
    assert "GTX 1080" not in choose(TABLE["old and new"][0]).reason
    assert "GTX 1080, RTX 3060" in choose(TABLE["old and middle"][0]).reason


def test_own_sources_decide_without_a_card():
    assert choose(Machine(), own_sources=True).index is None
    assert choose(nvidia(580, GTX_1080), own_sources=True).index == INDEX + "cu126"


def test_what_is_asked_for_is_taken_where_it_exists():
    assert choose(nvidia(580, RTX_3060), "cu126").index == INDEX + "cu126"
    assert choose(Machine(), "rocm").index == INDEX + "rocm7.2"
    for system, processor, names in (
        ("Linux", "x86_64", ("cu130", "cu126", "rocm", "cpu")),
        ("Windows", "AMD64", ("cu130", "cu126", "cpu")),
        ("Darwin", "arm64", ("mps",)),
    ):
        machine = Machine(system, processor)
        assert builds_for(machine) == names
        for name in set(BUILDS) - set(names):
            with pytest.raises(UserError, match=rf"no torch {name} for {system}.* one of: auto, {names[0]}"):
                choose(machine, name)


def test_the_drivers_answer_is_read():
    two = "580.95.05, NVIDIA GeForce RTX 3060, 8.6\n580.95.05, NVIDIA GeForce GTX 1080, 6.1\n"
    assert read_cards(two) == (580, (Card("NVIDIA GeForce RTX 3060", 8.6), Card("NVIDIA GeForce GTX 1080", 6.1)))
    assert read_cards("470.82.01, NVIDIA GeForce GTX 970\n") == (470, (Card("NVIDIA GeForce GTX 970"),))
    assert read_cards("580.95, NVIDIA H200 MIG, [N/A]\n") == (580, (Card("NVIDIA H200 MIG"),))
    assert read_cards("NVIDIA-SMI has failed because it could not communicate with the driver\n") == (None, ())


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("NVIDIA GeForce GTX 1080 Ti", True), ("GeForce GTX 1050", True), ("GeForce GT 1030", True),
        ("GeForce GTX 980", True), ("NVIDIA TITAN Xp", True), ("TITAN V", True), ("Tesla P40", True),
        ("Tesla V100-PCIE-32GB", True), ("Quadro P4000", True), ("Tesla M40", True), ("GeForce MX150", True),
        ("GeForce GTX 1650", False), ("GeForce RTX 2080", False), ("NVIDIA TITAN RTX", False), ("Tesla T4", False),
        ("Quadro RTX 4000", False), ("NVIDIA A100-SXM4", False), ("NVIDIA RTX A4000", False), ("NVIDIA L40", False),
    ],
)  # fmt: skip
def test_old_cards_are_known_by_their_names(name, old):
    assert Card(name).is_before_turing is old


def test_amds_cards_are_read_from_the_systems_list(tmp_path):
    for number, version in enumerate(["0", "90010", "100300", "110001"]):
        node = tmp_path / str(number)
        node.mkdir()
        (node / "properties").write_text(f"cpu_cores_count 0\ngfx_target_version {version}\nvendor_id 4098\n")
    (tmp_path / "4").mkdir()
    assert kfd_targets(tmp_path) == ("gfx90a", "gfx1030", "gfx1101")
    assert kfd_targets(tmp_path / "nowhere") == ()


def test_pip_is_asked_for_the_build_at_its_index_and_the_usual_one_is_no_way_out(environment, tmp_path, monkeypatch):
    """On a machine with a GTX 1080 and a Python without torch, where that index cannot be reached."""
    asked: list[list[str]] = []
    said: list[str] = []
    really = Runner.run

    def run(self, command, stage, window, steps=0):
        if "install" not in command:
            return really(self, command, stage, window, steps)
        asked.append(command)
        raise UserError("environment.no_network", "environment", stage=stage, log=self.log)

    monkeypatch.setattr(Runner, "run", run)
    monkeypatch.setattr(build, "this_machine", lambda: nvidia(580, GTX_1080))
    with pytest.raises(UserError, match=r"torch cu126 could not be installed from .*/cu126\..* env --torch cpu"):
        environment.build(lambda share, text: said.append(text), host_python=virtual_environment(tmp_path / "bare"))
    assert any(getattr(text, "code", "") == "environment.torch_cards_12" for text in said)
    assert [command[-3:] for command in asked] == [["--extra-index-url", INDEX + "cu126", "torch==2.13.0+cu126"]]
    monkeypatch.setattr(build, "this_machine", lambda: Machine())
    with pytest.raises(UserError, match="network"):  # the CPU's is only smaller than the usual one
        environment.build(host_python=interpreter_of(tmp_path / "bare"))
    assert [command[-3:] for command in asked[1:]] == [
        ["--extra-index-url", INDEX + "cpu", "torch==2.13.0+cpu"],
        ["--constraint", str(environment.constraints), "torch==2.13.0"],
    ]


def test_what_is_no_fault_of_the_index_ends_the_set_up_as_what_it_is(environment, tmp_path, monkeypatch):
    bare = virtual_environment(tmp_path / "bare")
    full = UserError("environment.disk_full", "environment", stage="torch", log="log")
    for machine in (nvidia(580, GTX_1080), Machine()):
        for fault in (Cancelled(), full):
            runner = FailingRunner(fault)
            monkeypatch.setattr(build, "Runner", lambda *arguments, runner=runner: runner)
            monkeypatch.setattr(build, "this_machine", lambda machine=machine: machine)
            monkeypatch.setattr(build, "make_venv", lambda *arguments: None)
            monkeypatch.setattr(build, "pip_command", lambda *arguments: ["pip"])
            monkeypatch.setattr(build.Builder, "_seen", lambda *arguments: {})
            with pytest.raises(UserError) as raised:
                environment.build(host_python=bare)
            assert raised.value is fault and len(runner.commands) == 1
            assert environment.last_failure() == fault.problem


def test_what_is_cancelled_under_uv_is_not_tried_with_pip(environment, tmp_path):
    maintenance = Maintenance(environment)
    maintenance._cancelled.set()
    with pytest.raises(Cancelled):
        maintenance._progress(0.5, "packages")
    runner = FailingRunner(Cancelled())
    uv = Uv(runner, tmp_path / "constraints", None, None, tmp_path / "uv", tmp_path / "python", pytest.fail)
    with pytest.raises(Cancelled):
        uv.install(["alpha==1"], "packages", Window(0, 1))
    assert len(runner.commands) == 1


def test_the_usual_server_s_torch_is_named_where_it_was_taken(environment, monkeypatch):
    monkeypatch.setattr(build, "this_machine", Machine)
    monkeypatch.setattr(build.Builder, "_seen", lambda *arguments: {})
    environment.folder.mkdir()
    with environment.only_builder(silent) as (lock, _):
        made = build.Builder(environment, silent, None, None, lock)
        rows, no_pip = [Row("torch", "2.13.0")], UserError("environment.no_pip")
        pip = Pip(FailingRunner(no_pip, times=1), environment.constraints, None, None, ["pip"], "24.1")
        assert made._install_torch(pip, environment.tree, rows, choose(Machine())).name == "cu130"
        pip = Pip(FailingRunner(no_pip, times=0), environment.constraints, None, None, ["pip"], "24.1")
        assert made._install_torch(pip, environment.tree, rows, choose(Machine())) == choose(Machine())
        monkeypatch.setattr(build.Builder, "_seen", lambda *arguments: {"torch": "2.13.0+cpu"})
        assert made._install_torch(pip, environment.tree, rows, choose(Machine())) is None


class FailingRunner(Runner):
    """Whose first commands fail."""

    def __init__(self, fault: UserError, times: int = 9):
        super().__init__(Path("log"), silent)
        self.__dict__.update(fault=fault, times=times, commands=[])

    def run(self, command, stage, window, steps=0):
        self.commands.append(command)
        if len(self.commands) <= self.times:
            raise self.fault
        return []


def test_torch_that_is_asked_for_is_installed_over_a_host_that_has_one_until_auto(environment, host, wheels):
    wheel(wheels, "torch", "2.13.0+cpu", TORCH | {"torch/__init__.py": "__version__ = '2.13.0+cpu'\n"})
    wheel(wheels, "numpy", "2.4.6")
    status = environment.build(wheels=wheels, host_python=host, torch="cpu")
    assert (status.kind, status.torch) == ("full", "2.13.0+cpu")
    assert Message("environment.torch_asked", name="cpu") in status.torch_reason
    assert "torch cpu, as asked for" in "\n".join(env.describe(status))
    witness = environment.tree / "witness"
    witness.touch()
    lock = environment.recipe.lock
    lock.write_text(lock.read_text(encoding="utf-8") + "delta==1.0\n", encoding="utf-8")
    wheel(wheels, "delta", "1.0")
    updated = environment.build(wheels=wheels)
    assert witness.exists() and (updated.kind, updated.torch_reason) == ("full", status.torch_reason)
    with pytest.raises(UserError, match="no torch mps"):
        environment.build(wheels=wheels, torch="mps" if "mps" not in builds_for(making.this_machine()) else "cu126")
    assert environment.asked_torch() == "cpu"
    again = environment.build(wheels=wheels, torch=AUTOMATIC)
    assert (again.kind, again.torch_reason.code) == ("overlay", "environment.torch_of_host")
