"""Arithmetic that takes numbers or arrays alike: one set of formulas serves one point and a million of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

__all__ = [
    "Number",
    "any_true",
    "at_least",
    "at_most",
    "choose",
    "element",
    "exp",
    "hypot",
    "index_of_largest",
    "is_finite",
    "key_of_largest",
    "log",
    "log2",
    "of_each",
    "square_root",
]

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


def element(value: Number, point: int) -> Number:
    """Return the value at one of the points, of which a number has the same everywhere."""
    return value[point] if isinstance(value, np.ndarray) else value


def exp(value: Number) -> Number:
    """Return e to the power."""
    return np.exp(value) if isinstance(value, np.ndarray) else math.exp(value)


def log(value: Number) -> Number:
    """Return the natural logarithm."""
    return np.log(value) if isinstance(value, np.ndarray) else math.log(value)


def log2(value: Number) -> Number:
    """Return the logarithm to base 2."""
    return np.log2(value) if isinstance(value, np.ndarray) else math.log2(value)


def square_root(value: Number) -> Number:
    """Return the square root."""
    return np.sqrt(value) if isinstance(value, np.ndarray) else math.sqrt(value)


def hypot(a: Number, b: Number) -> Number:
    """Return the root of the sum of both squares."""
    return np.hypot(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else math.hypot(a, b)


def is_finite(value: Number) -> Number:
    """Return whether it is neither infinite nor nan."""
    return np.isfinite(value) if isinstance(value, np.ndarray) else math.isfinite(value)


def any_true(condition: Number) -> bool:
    """Return whether the condition holds anywhere."""
    return bool(condition.any() if isinstance(condition, np.ndarray) else condition)


def index_of_largest(values: Sequence[Number]) -> Number:
    """Return which of several is the largest, element by element: a number from 0, the first of equal ones."""
    if any(isinstance(value, np.ndarray) for value in values):
        return np.argmax(np.broadcast_arrays(*values), axis=0)
    return max(range(len(values)), key=values.__getitem__)


def key_of_largest(values: Mapping[Any, Number]) -> Any:
    """Return the key of the largest value, element by element as an array of keys; the first of equal ones."""
    keys, index = tuple(values), index_of_largest(tuple(values.values()))
    return np.array(keys)[index] if isinstance(index, np.ndarray) else keys[index]


def of_each(index: Number, value_of: Callable[[int], Number]) -> Number:
    """Return ``value_of(i)`` where the index is i; of an array, shape (points,), only what occurs is asked for."""
    if not isinstance(index, np.ndarray):
        return value_of(index)
    first, *others = np.flatnonzero(np.bincount(index)).tolist()
    found = value_of(first)
    for other in others:
        found = np.where(index == other, value_of(other), found)
    return found
