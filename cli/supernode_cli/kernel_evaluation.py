"""`evaluate_kernel`: a scenario's kernel, given as a plain document, to what it costs on a machine.

Pure but for packaged data, as :mod:`supernode_cli.evaluation` is. An impossible kernel raises ScenarioError with the
field and the remedy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from supernode_cli.defaults import on_machine
from supernode_cli.evaluation import ScenarioError, machine_profile, parse_scenario
from supernode_cli.scenario import Machine, Scenario
from supernode_cli.scenario_kernel import KernelKind, ScenarioKernel
from supernode_dataplane.changed_profile import changes
from supernode_dataplane.errors import ModelError
from supernode_dataplane.figures import decimal
from supernode_dataplane.hardware import Hardware, hardware_of
from supernode_dataplane.kernels import KernelFigures, KernelSpec, kernel_error_percent, kernel_figures
from supernode_dataplane.machine_defaults import default_format
from supernode_dataplane.profile import Profile
from supernode_dataplane.raw_fields import FieldError, read_model
from supernode_dataplane.solving import MODEL_VERSION
from supernode_dataplane.stacks import load_stack

__all__ = ["KERNEL_FIGURES", "KernelEvaluation", "evaluate_kernel"]

KERNEL_FIGURES: Final = (
    "timeSeconds",
    "gigabytesPerSecond",
    "busGigabytesPerSecond",
    "algorithm",
    "ringSeconds",
    "oneShotSeconds",
    "halvingDoublingSeconds",
    "bound",
    "payloadBytes",
    "sentBytes",
    "packageBytes",
    "serverBytes",
    "busBytes",
    "rdmaBytes",
    "expectedErrorPercent",
)
"""All figures that a kernel can have, in order; numbers, but for ``algorithm`` and ``bound``."""
_EXCHANGE: Final = frozenset({"ranks", "tokens", "form"})
_NEEDED: Final[Mapping[KernelKind, frozenset[str]]] = {
    KernelKind.DISPATCH: _EXCHANGE,
    KernelKind.COMBINE: _EXCHANGE,
    KernelKind.ALL_REDUCE: frozenset({"ranks", "bytes"}),
    KernelKind.POINT_TO_POINT: frozenset({"bytes", "cores"}),
}
_ALLOWED: Final[Mapping[KernelKind, frozenset[str]]] = {
    KernelKind.DISPATCH: frozenset({"format"}),
    KernelKind.ALL_REDUCE: frozenset({"algorithms"}),
}
_NOT_OF_KERNELS: Final = ("nodes", "dies", "supernodes", "oversubscription", "failed")


@dataclass(frozen=True, slots=True)
class KernelEvaluation:
    """One kernel on a machine."""

    scenario: Scenario
    """With the machine's stack where it was open."""
    given: Scenario
    """As written."""
    profile: Profile
    hardware: Hardware
    spec: KernelSpec
    figures: KernelFigures
    expected_error_percent: float
    model: str
    """Its name; empty where the kernel has none."""
    version: str

    @property
    def digest(self) -> str:
        """16 hex digits over all that the figures depend on."""
        profile = [self.profile.name, self.profile.version, changes(self.profile)]
        said = [*profile, self.scenario.stack, asdict(self.spec)]
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def performance(self) -> dict[str, str]:
        """The figures by their names in KERNEL_FIGURES; those that the kernel does not have are left out."""
        found, sent = self.figures, self.figures.sent_bytes
        values: dict[str, Any] = {
            "timeSeconds": found.seconds,
            "gigabytesPerSecond": found.bytes_per_second / 1e9,
            "busGigabytesPerSecond": None if found.bus_bytes_per_second is None else found.bus_bytes_per_second / 1e9,
            "ringSeconds": found.algorithms.get("Ring"),
            "oneShotSeconds": found.algorithms.get("OneShot"),
            "halvingDoublingSeconds": found.algorithms.get("HalvingDoubling"),
            "payloadBytes": found.payload_bytes,
            "sentBytes": sum(sent.values()),
            **{f"{way}Bytes": sent.get(way) for way in ("package", "server", "bus", "rdma")},
            "expectedErrorPercent": self.expected_error_percent,
        }
        words = {key: _text(key, value) for key, value in values.items() if value is not None}
        words |= {"algorithm": found.algorithm, "bound": found.bound}
        return {key: words[key] for key in KERNEL_FIGURES if key in words}


def evaluate_kernel(document: Mapping[str, Any]) -> KernelEvaluation:
    """Return what a scenario's kernel costs on its machine; ScenarioError when it cannot run there."""
    given = parse_scenario(document)
    kernel = given.kernel
    if kernel is None:
        raise ScenarioError("kernel", "is missing")
    _check_fields(kernel)
    _check_machine(given.machine)
    profile = machine_profile(given.machine)
    scenario, hardware = on_machine(given, profile), hardware_of(profile)
    _check_links(kernel, profile, hardware)
    spec, name = _spec(kernel, scenario, profile)
    stack = load_stack(str(scenario.stack))
    figures, error = kernel_figures(hardware, stack, spec), kernel_error_percent(hardware, stack, spec)
    return KernelEvaluation(scenario, given, profile, hardware, spec, figures, error, name, MODEL_VERSION)


def _text(key: str, value: float) -> str:
    """Return a figure as text: bytes that are whole without rounding, others with four significant digits."""
    return f"{value:.0f}" if key.endswith("Bytes") else decimal(value)


def _check_fields(kernel: ScenarioKernel) -> None:
    kind = kernel.kind
    given = {name for name, value in kernel if value is not None and name != "kind"}
    missing = sorted(_NEEDED[kind] - given)
    if missing:
        raise ScenarioError(f"kernel.{missing[0]}", f"is missing: {kind} needs {' and '.join(sorted(_NEEDED[kind]))}")
    foreign = sorted(given - _NEEDED[kind] - _ALLOWED.get(kind, frozenset()))
    if foreign:
        raise ScenarioError(f"kernel.{foreign[0]}", f"is not for {kind}: leave it out")


def _check_machine(machine: Machine) -> None:
    for name in _NOT_OF_KERNELS:
        if name in machine.model_fields_set and getattr(machine, name) != Machine.model_fields[name].get_default(
            call_default_factory=True
        ):
            raise ScenarioError(
                f"machine.{name}", "a kernel runs on the first dies of one healthy machine, kernel.ranks: leave it out"
            )


def _check_links(kernel: ScenarioKernel, profile: Profile, hardware: Hardware) -> None:
    if kernel.ranks is not None and kernel.ranks > profile.dies:
        remedy = f"give at most {profile.dies}, or another machine with figures.servers"
        message = f"{kernel.ranks} is more than the {profile.dies} dies of {profile.name}: {remedy}"
        raise ScenarioError("kernel.ranks", message)
    if kernel.kind is KernelKind.POINT_TO_POINT and (not hardware.pod_bytes_per_second or profile.servers < 2):
        message = f"PointToPoint copies over a bus between servers, and {profile.name} has none"
        raise ScenarioError("kernel.kind", f"{message}; give another machine")


def _spec(kernel: ScenarioKernel, scenario: Scenario, profile: Profile) -> tuple[KernelSpec, str]:
    """Return what runs, and the name of the model that says its sizes."""
    if kernel.kind in (KernelKind.ALL_REDUCE, KernelKind.POINT_TO_POINT):
        if "model" in scenario.model_fields_set:
            raise ScenarioError("model", f"is not for {kernel.kind}, whose size is kernel.bytes: leave it out")
        values: dict[str, Any] = {"kind": kernel.kind.value, "ranks": kernel.ranks or 2, "size_bytes": kernel.bytes}
        if kernel.cores is not None:
            values["cores"] = kernel.cores
        if kernel.algorithms is not None:
            values["algorithms"] = tuple(dict.fromkeys(algorithm.value for algorithm in kernel.algorithms))
        return KernelSpec(**values), ""
    if "model" not in scenario.model_fields_set:
        raise ScenarioError("model", f"is missing: {kernel.kind} has its hidden size and experts of a token from it")
    try:
        model = read_model(scenario.workload_spec()["model"])
    except ModelError as error:
        raise ScenarioError(error.field.removeprefix("spec."), error.of_spec) from None
    except FieldError as error:
        raise ScenarioError(
            error.problem.field.removeprefix("spec."), error.problem.message.removeprefix("spec.")
        ) from None
    blocks = [kind.feed_forward for kind in model.kinds if kind.feed_forward.is_moe]
    if not blocks:
        raise ScenarioError("model", f"{model.name} has no experts to exchange tokens with; give one that has")
    form, said = kernel.form, default_format(profile) if kernel.format is None else kernel.format.value
    values = {
        "kind": kernel.kind.value,
        "ranks": kernel.ranks,
        "tokens": kernel.tokens,
        "copies": blocks[0].top_k,
        "hidden": model.hidden,
        "form": None if form is None else form.value,
        "format": "bf16" if kernel.kind is KernelKind.COMBINE else said,
    }
    return KernelSpec(**values), scenario.model.name or "own config"
