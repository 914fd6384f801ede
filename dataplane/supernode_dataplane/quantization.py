"""The formats that a Hugging Face ``quantization_config`` states: what a deployment uses where it says nothing itself.

    fp8                        weights and activations fp8 (per block of weights or per tensor)
    w8a8_int8                  weights and activations int8
    awq, gptq                  weights int4 or int8 as ``bits`` says, activations bf16
    compressed-tensors         groups of one format: weights int4, int8 or fp8; activations, caches as given, else bf16

Scales and zero points are left out: at most a thirtieth of the weights. Training computes in BF16, whatever the format
of a checkpoint. Anything else is refused by its name, and so is a list of layers left out that takes more than heads,
routers, norms and embeddings out: one format for all weights would be wrong for them.
Source: the quantisation configs of Hugging Face transformers, of compressed-tensors and of published checkpoints.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from supernode_dataplane.errors import InvalidModelError
from supernode_dataplane.hardware import Format

__all__ = ["Quantization", "quantization_of", "read_quantization"]

_PATH: Final = "model.config.quantization_config"
_METHODS: Final = ("awq", "compressed-tensors", "fp8", "gptq", "w8a8_int8")
_BITS: Final[Mapping[int, Format]] = {4: "int4", 8: "int8"}
_LEFT_OUT: Final = ("ignore", "ignored_layers", "modules_to_not_convert")
_SMALL: Final = re.compile(
    r"lm_head|embed|norm|router|mlp\.gate$|\.gate$|shared_expert_gate|eh_proj|shared_head|visual|vision|bias"
)
"""What may stay as it is without changing a layer's bytes by more than a rounding."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """The format of each class of tensors; None: not said."""

    weights: Format
    activations: Format
    kv_cache: Format | None = None
    head: Format | None = None


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
    for key in _LEFT_OUT:
        _check_left_out(key, given.get(key))
    if method == "fp8":
        _check_choice(given, "activation_scheme", ("dynamic", "static"))
        return Quantization("fp8", "fp8")
    if method == "w8a8_int8":
        return Quantization("int8", "int8")
    if method == "compressed-tensors":
        return _compressed(given)
    weights = _bits(given.get("bits", given.get("w_bit")), f"{_PATH}.bits")
    head = given.get("lm_head")
    if head and weights == "int4":
        raise InvalidModelError(f"{_PATH}.lm_head: a head of 4 bits is not modelled; leave lm_head out")
    return Quantization(weights, "bf16", head=weights if head else None)


def _compressed(given: Mapping[str, Any]) -> Quantization:
    groups = given.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise InvalidModelError(f"{_PATH}.config_groups must be an object with a group of layers at least")
    cache = given.get("kv_cache_scheme")
    kv_cache = None if cache is None else _eight(cache, f"{_PATH}.kv_cache_scheme")
    found = [_group(group, f"{_PATH}.config_groups.{str(name)[:40]}", kv_cache) for name, group in groups.items()]
    if len(set(found)) > 1:
        said = ", ".join(f"{str(name)[:40]} {kind.weights}" for name, kind in zip(groups, found, strict=True))
        raise InvalidModelError(
            f"{_PATH}.config_groups must have one format ({said[:200]}): weights of several formats are not modelled; "
            "leave quantization_config out and give inference.precision that of most weights"
        )
    return found[0]


def _group(group: Any, path: str, kv_cache: Format | None) -> Quantization:
    if not isinstance(group, Mapping):
        raise InvalidModelError(f"{path} must be an object with weights")
    activations = group.get("input_activations")
    return Quantization(
        _number(group.get("weights"), f"{path}.weights"),
        "bf16" if activations is None else _eight(activations, f"{path}.input_activations"),
        kv_cache,
    )


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


def _check_left_out(key: str, given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise InvalidModelError(f"{_PATH}.{key} must be a list of layer names")
    for item in given:
        if not _SMALL.search(item):
            raise InvalidModelError(
                f"{_PATH}.{key}: {item[:64]!r} leaves large weights in another format, which is not modelled; leave "
                "quantization_config out and say precision beside the model"
            )
