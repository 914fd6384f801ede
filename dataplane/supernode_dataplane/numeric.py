"""Arithmetic that takes numbers or arrays alike: one set of formulas serves one point and a million of them."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Number", "any_true", "at_least", "at_most", "choose", "exp", "log2"]

Number: TypeAlias = Any
"""A float, or a numpy array of them; results have the shape that the arguments broadcast to."""


def at_least(a: Number, b: Number) -> Number:
    """Return the larger of both, element by element."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.maximum(a, b)
    return a if a >= b else b


def at_most(a: Number, b: Number) -> Number:
    """Return the smaller of both, element by element."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.minimum(a, b)
    return a if a <= b else b


def choose(condition: Number, yes: Number, no: Number) -> Number:
    """Return ``yes`` where the condition holds, else ``no``."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, yes, no)
    return yes if condition else no


def exp(value: Number) -> Number:
    """Return e to the power."""
    return np.exp(value) if isinstance(value, np.ndarray) else math.exp(value)


def log2(value: Number) -> Number:
    """Return the logarithm to base 2."""
    return np.log2(value) if isinstance(value, np.ndarray) else math.log2(value)


def any_true(condition: Number) -> bool:
    """Return whether the condition holds anywhere."""
    return bool(np.any(condition))
