"""The formats that a Hugging Face ``quantization_config`` states: what a deployment uses where it says nothing itself.

    fp8                        weights and activations fp8 (per block of weights or per tensor)
    w8a8_int8                  weights and activations int8
    awq, gptq                  weights int4 or int8 as ``bits`` says, activations bf16
    compressed-tensors         groups of layers: weights int4, int8 or fp8; activations, caches as given, else bf16

Attention, routed experts and the other weights may have formats of their own; what a list leaves out stays bf16. A
group or list that parts such a class is refused by its name, and so is any method that is not above. Scales and zero
points are left out: at most a thirtieth of the weights. Training computes in BF16, whatever a checkpoint's format.
Source: the quantisation configs of Hugging Face transformers, of compressed-tensors and of published checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from supernode_dataplane.deployment import WeightClass
from supernode_dataplane.errors import InvalidModelError
from supernode_dataplane.hardware import Format
from supernode_dataplane.layer_patterns import NAMES, PatternError, is_small, names_matched

__all__ = ["Quantization", "quantization_of", "read_quantization"]

_PATH: Final = "model.config.quantization_config"
_METHODS: Final = ("awq", "compressed-tensors", "fp8", "gptq", "w8a8_int8")
_BITS: Final[Mapping[int, Format]] = {4: "int4", 8: "int8"}
_LEFT_OUT: Final = ("ignore", "ignored_layers", "modules_to_not_convert")
_ALL: Final = frozenset(name for names in NAMES.values() for name in names)
_OWN: Final[tuple[WeightClass, WeightClass]] = ("attention", "experts")
_WORDS: Final[dict[WeightClass, str]] = {
    "attention": "attention's weights",
    "experts": "routed experts",
    "others": "dense blocks and shared experts",
}
_REMEDY: Final = "leave quantization_config out and say precision beside the model"


@dataclass(frozen=True, slots=True)
class Quantization:
    """The format of each class of tensors; None: not said, for ``attention`` and ``experts`` that of ``weights``."""

    weights: Format
    activations: Format
    kv_cache: Format | None = None
    head: Format | None = None
    attention: Format | None = None
    experts: Format | None = None


@lru_cache(maxsize=256)
def quantization_of(text: str) -> Quantization | None:
    """Return what a config.json that :func:`~supernode_dataplane.model_config.parse_config` takes says, if anything."""
    given = json.loads(text).get("quantization_config")
    return None if given is None else read_quantization(given)


def read_quantization(given: Any) -> Quantization:
    """Return the formats of a ``quantization_config``; InvalidModelError names what is not understood."""
    if not isinstance(given, Mapping):
        raise InvalidModelError(f"{_PATH} must be an object with quant_method")
    method = given.get("quant_method")
    if method not in _METHODS:
        shown = "is missing" if method is None else f"{str(method)[:40]!r} is not understood"
        raise InvalidModelError(
            f"{_PATH}.quant_method {shown}; known: {', '.join(_METHODS)}; or leave quantization_config out and say "
            "precision beside the model"
        )
    out = frozenset[str]().union(*(_left_out(key, given.get(key)) for key in _LEFT_OUT))
    if method == "compressed-tensors":
        return _compressed(given, out)
    if method == "fp8":
        _check_choice(given, "activation_scheme", ("dynamic", "static"))
        return _by_class(dict.fromkeys(_ALL - out, "fp8"), "fp8")
    if method == "w8a8_int8":
        return _by_class(dict.fromkeys(_ALL - out, "int8"), "int8")
    weights = _bits(given.get("bits", given.get("w_bit")), f"{_PATH}.bits")
    head = given.get("lm_head")
    if head and weights == "int4":
        raise InvalidModelError(f"{_PATH}.lm_head: a head of 4 bits is not modelled; leave lm_head out")
    return replace(_by_class(dict.fromkeys(_ALL - out, weights), "bf16"), head=weights if head else None)


def _compressed(given: Mapping[str, Any], out: frozenset[str]) -> Quantization:
    groups, path = given.get("config_groups"), f"{_PATH}.config_groups"
    if not isinstance(groups, Mapping) or not groups:
        raise InvalidModelError(f"{path} must be an object with a group of layers at least")
    cache = given.get("kv_cache_scheme")
    kv_cache = None if cache is None else _eight(cache, f"{_PATH}.kv_cache_scheme")
    read = {str(name)[:40]: _group(group, f"{path}.{str(name)[:40]}") for name, group in groups.items()}
    activations = {group.activations for group in read.values()}
    if len(activations) > 1:
        said = ", ".join(f"{name} {group.activations}" for name, group in read.items())
        raise InvalidModelError(f"{path}: activations of several formats ({said[:200]}) are not modelled; {_REMEDY}")
    # A group that names layers goes before one that means all of their kind.
    named = _joined({name: group.layers for name, group in read.items()}, read)
    others = _joined({name: _ALL for name, group in read.items() if group.everything}, read)
    formats = {layer: kind for layer, kind in {**others, **named}.items() if layer not in out}
    return replace(_by_class(formats, activations.pop()), kv_cache=kv_cache)


def _joined(layers: Mapping[str, frozenset[str]], groups: Mapping[str, _Group]) -> dict[str, Format]:
    """Return the format of each layer that groups mean; two groups must not say different ones."""
    found: dict[str, str] = {}
    for name, meant in layers.items():
        for layer in sorted(meant):
            first = found.setdefault(layer, name)
            if groups[first].weights != groups[name].weights:
                said = f"{first} ({groups[first].weights}) and {name} ({groups[name].weights})"
                raise InvalidModelError(f"{_PATH}.config_groups: {said} mean the same layers; {_REMEDY}")
    return {layer: groups[name].weights for layer, name in found.items()}


@dataclass(frozen=True, slots=True)
class _Group:
    weights: Format
    activations: Format
    layers: frozenset[str]
    everything: bool


def _group(group: Any, path: str) -> _Group:
    if not isinstance(group, Mapping):
        raise InvalidModelError(f"{path} must be an object with weights")
    activations, targets = group.get("input_activations"), group.get("targets", ["Linear"])
    kinds = ("Linear", "FusedMoE")
    return _Group(
        _number(group.get("weights"), f"{path}.weights"),
        "bf16" if activations is None else _eight(activations, f"{path}.input_activations"),
        _layers([item for item in _names(targets, f"{path}.targets") if item not in kinds], f"{path}.targets"),
        any(item in kinds for item in targets),
    )


def _by_class(formats: Mapping[str, Format], activations: Format) -> Quantization:
    """Return the formats by class from those of the names that stand for them; what has none is bf16."""
    found: dict[WeightClass, Format] = {}
    for kind, names in NAMES.items():
        said = {formats.get(name, "bf16") for name in names}
        if len(said) > 1:
            words = " and ".join(sorted(said))
            raise InvalidModelError(f"{_PATH}: {_WORDS[kind]} in {words} at once are not modelled; {_REMEDY}")
        found[kind] = said.pop()
    weights = found["others"]
    attention, experts = (None if found[kind] == weights else found[kind] for kind in _OWN)
    return Quantization(weights, activations, attention=attention, experts=experts)


def _number(given: Any, path: str) -> Format:
    """Return the format of ``num_bits`` and ``type``."""
    if not isinstance(given, Mapping):
        raise InvalidModelError(f"{path} must be an object with num_bits and type")
    bits, kind = given.get("num_bits"), given.get("type", "int")
    if kind == "float" and bits == 8:
        return "fp8"
    if kind != "int":
        raise InvalidModelError(f"{path}: {str(bits)[:20]} bits of type {str(kind)[:20]!r} are not modelled")
    return _bits(bits, f"{path}.num_bits")


def _eight(given: Any, path: str) -> Format:
    found = _number(given, path)
    if found == "int4":
        raise InvalidModelError(f"{path}: 4 bits are modelled for weights only")
    return found


def _bits(value: Any, path: str) -> Format:
    found = None if isinstance(value, bool) or not isinstance(value, int) else _BITS.get(value)
    if found is None:
        shown = "is missing" if value is None else f"{str(value)[:20]} is not modelled"
        raise InvalidModelError(f"{path} {shown}; give 4 or 8")
    return found


def _check_choice(given: Mapping[str, Any], key: str, known: tuple[str, ...]) -> None:
    value = given.get(key)
    if value is not None and value not in known:
        raise InvalidModelError(f"{_PATH}.{key} {str(value)[:40]!r} is not understood; known: {', '.join(known)}")


def _names(given: Any, path: str) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise InvalidModelError(f"{path} must be a list of layer names")
    return given


def _left_out(key: str, given: Any) -> frozenset[str]:
    """Return the layers that a list leaves out, apart from those that are too small to matter."""
    path = f"{_PATH}.{key}"
    return frozenset() if given is None else _layers([x for x in _names(given, path) if not is_small(x)], path)


def _layers(patterns: list[str], path: str) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for pattern in patterns:
        try:
            found |= names_matched(pattern)
        except PatternError as error:
            raise InvalidModelError(f"{path}: {pattern[:64]!r} {error}; {_REMEDY}") from None
    return found
