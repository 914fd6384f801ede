"""Pieces that every kind shares: metadata, conditions, selectors and bounded scalars."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, GetJsonSchemaHandler, StringConstraints
from pydantic_core import CoreSchema

from supernode_api.base import ApiModel, Rule

__all__ = [
    "ApiModel",
    "Condition",
    "DecimalString",
    "Kind",
    "LabelKey",
    "LabelSelector",
    "LabelSelectorRequirement",
    "LabelValue",
    "ListMap",
    "Metadata",
    "ModelStamp",
    "PrinterColumn",
    "RangeString",
    "Rule",
    "Timestamp",
]


@dataclass(frozen=True, slots=True)
class ListMap:
    """Annotation: this list is a map keyed by these fields (x-kubernetes-list-type: map).

    Two field managers can then own different entries of one list.
    """

    keys: tuple[str, ...]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the keys to the list's schema; pydantic calls this."""
        return {
            **handler(core),
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": list(self.keys),
        }


@dataclass(frozen=True, slots=True)
class PrinterColumn:
    """One column of ``kubectl get``; ``wide`` ones show with ``-o wide`` only."""

    name: str
    json_path: str
    description: str
    type: str = "string"
    wide: bool = field(default=False, kw_only=True)


class Metadata(ApiModel):
    """The parts of metav1.ObjectMeta that we read."""

    name: str
    namespace: str | None = None
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: list[str] = Field(default_factory=list)


class Kind(ApiModel):
    """Base of the kinds themselves; class variables say what the CRD needs beyond the schema."""

    kind_name: ClassVar[str]
    plural: ClassVar[str]
    short_name: ClassVar[str]
    namespaced: ClassVar[bool] = False
    columns: ClassVar[tuple[PrinterColumn, ...]] = ()
    selectable: ClassVar[tuple[str, ...]] = ()
    description: ClassVar[str]

    metadata: Metadata


DecimalString = Annotated[str, StringConstraints(max_length=24, pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
"""A decimal number as text (the API has no floats); rates have four significant digits."""
Timestamp = Annotated[str, StringConstraints(max_length=40), Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339."""
RangeString = Annotated[
    str, StringConstraints(max_length=4608, pattern=r"^(all|([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?)$")
]
"""Sorted ranges such as ``0-3,8``; see supernode_api.ranges. The bound is every other link of 64 dies x 32 planes."""
LabelKey = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=317,
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    ),
]
"""A label's key: an optional DNS prefix and a name."""
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
"""A label's value."""


class Condition(ApiModel):
    """An observation of the object's state, exactly as metav1.Condition."""

    type: Annotated[str, StringConstraints(max_length=64)] = Field(description="Kind of the condition, in CamelCase.")
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="Stable CamelCase reason of the last transition; listed in docs/conditions.md."
    )
    message: Annotated[str, StringConstraints(max_length=1024)] = Field(
        default="", description="What a person needs to know and can do."
    )
    last_transition_time: Timestamp = Field(description="When the status last changed.")
    observed_generation: int = Field(default=0, ge=0, description="metadata.generation that this was computed from.")


class LabelSelectorRequirement(ApiModel):
    """One term of a label selector: a key, an operator and, for In and NotIn, values."""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
            "values are needed with In and NotIn, and not allowed with Exists and DoesNotExist",
            field_path=".values",
        ),
    )
    key: LabelKey = Field(description="Label key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="In, NotIn, Exists or DoesNotExist.")
    values: Annotated[list[LabelValue], Field(max_length=64)] = Field(
        default_factory=list, description="Values for In and NotIn."
    )


class LabelSelector(ApiModel):
    """A label selector, as everywhere in Kubernetes; at least one term."""

    atomic: ClassVar[bool] = True
    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.matchLabels) && self.matchLabels.size() > 0) || "
            "(has(self.matchExpressions) && self.matchExpressions.size() > 0)",
            "selector needs at least one term in matchLabels or matchExpressions",
        ),
        Rule(
            "!has(self.matchLabels) || self.matchLabels.all(key, key.size() <= 317 && "
            "key.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$'))",
            "matchLabels has a key that is no label key",
            field_path=".matchLabels",
        ),
    )
    match_labels: Annotated[dict[str, LabelValue], Field(max_length=16)] = Field(
        default_factory=dict, description="Labels that must all have these values."
    )
    match_expressions: Annotated[list[LabelSelectorRequirement], Field(max_length=16)] = Field(
        default_factory=list, description="Terms that must all hold."
    )


class ModelStamp(ApiModel):
    """Which inputs and which version of the model the figures come from; equal digests mean equal figures."""

    digest: Annotated[str, StringConstraints(max_length=64)] = Field(description="Digest of the model's inputs.")
    version: Annotated[str, StringConstraints(max_length=32)] = Field(description="Version of the model.")
