"""Records are the standard library's dataclasses in everything but what they cost to define."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernode_dataplane import records

BOTH = [dataclasses.dataclass, records.dataclass]
KINDS = [{}, {"kw_only": True}, {"eq": False}, {"kw_only": True, "eq": False}]


def defined(decorator: Any, options: dict[str, Any]) -> tuple[type[Any], type[Any]]:
    @decorator(frozen=True, slots=True, **options)
    class Base:
        """One."""

        count: int
        name: str = "none"
        parts: list[int] = dataclasses.field(default_factory=list, compare=False)
        unit: ClassVar[str] = "s"

    @decorator(frozen=True, slots=True, kw_only=True, eq=options.get("eq", True))
    class Special(Base):
        """Another, with what is computed."""

        weight: float = dataclasses.field(repr=False)
        twice: float = dataclasses.field(init=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "twice", 2 * self.weight)

        @property
        def half(self) -> float:
            return self.weight / 2

    return Base, Special


def seen(make: Any) -> Any:
    """Return what comes of it: a value, or the kind of the error."""
    try:
        return make()
    except (TypeError, ValueError, AttributeError) as error:
        return type(error)


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "count": st.integers(0, 2),
        "name": st.sampled_from(["a", "b"]),
        "parts": st.lists(st.integers(0, 1), max_size=2),
        "weight": st.sampled_from([0.5, float("nan")]),
        "twice": st.just(1.0),
    },
)


@pytest.mark.parametrize("options", KINDS, ids=str)
@given(one=VALUES, other=VALUES, positional=st.integers(0, 3))
def test_what_is_made_of_arguments_looks_compares_and_hashes_alike(
    options: dict[str, Any], one: dict[str, Any], other: dict[str, Any], positional: int
) -> None:
    answers = []
    for decorator in BOTH:
        said: list[Any] = []
        for cls in defined(decorator, options):
            first = list(one.values())[:positional]
            a, b = seen(lambda c=cls, f=first: c(*f, **one)), seen(lambda c=cls: c(**other))
            c = seen(lambda c=cls: c(*list(one.values())[:positional]))
            said += [x if isinstance(x, type) else repr(x) for x in (a, b, c)]
            if isinstance(b, cls):
                said += [dataclasses.asdict(b), repr(dataclasses.replace(b, name="c")), copy.copy(b).count]
                said += [seen(lambda b=b: dataclasses.replace(b, nothing=1)), b == copy.copy(b), b == 1]
                said += [b.__getstate__(), getattr(b, "half", None), hash(b) == hash(copy.copy(b))]
                with pytest.raises(dataclasses.FrozenInstanceError, match="count"):
                    b.count = 3
                with pytest.raises(dataclasses.FrozenInstanceError, match="count"):
                    del b.count
        answers.append(said)
    assert repr(answers[0]) == repr(answers[1])


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_class_says_the_same_of_its_fields(options: dict[str, Any]) -> None:
    (base, special), (own_base, own_special) = (defined(decorator, options) for decorator in BOTH)
    for theirs, ours in ((base, own_base), (special, own_special)):
        assert repr(dataclasses.fields(theirs)) == repr(dataclasses.fields(ours))
        assert theirs.__match_args__ == ours.__match_args__
        assert theirs.__slots__ == ours.__slots__
        assert theirs.__doc__ == ours.__doc__
        assert theirs.__qualname__ == ours.__qualname__
        assert not hasattr(ours, "__dict__") or "__dict__" not in dir(ours(**_least(ours)))
    assert repr(own_special(count=1, weight=1.0)) == repr(special(count=1, weight=1.0))


def _least(cls: type[Any]) -> dict[str, Any]:
    return {"count": 1, **({"weight": 1.0} if "weight" in cls.__dataclass_fields__ else {})}


@records.dataclass(frozen=True, slots=True)
class Kept:
    """One that can be found by its name."""

    values: tuple[int, ...]
    left: int = 0

    def __hash__(self) -> int:
        return 7


def test_a_record_survives_pickling_and_keeps_a_hash_of_its_own() -> None:
    one = Kept((1, 2), left=3)
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(one) == 7
    assert Kept((1, 2)) != one


def test_what_is_not_frozen_or_shares_a_default_is_as_in_the_standard_library() -> None:
    for decorator in BOTH:

        @decorator(slots=True)
        class Loose:
            value: int = 1

        kind: Any = Loose
        loose = kind()
        loose.value = 2
        assert loose == kind(2)
        with pytest.raises(ValueError, match="mutable default"):

            @decorator(frozen=True, slots=True)
            class Shared:
                values: list[int] = []  # noqa: RUF012


def test_matching_takes_a_record_apart() -> None:
    match Kept((1,), 2):
        case Kept(values, left):
            assert (values, left) == ((1,), 2)
        case _:
            pytest.fail("no match")
