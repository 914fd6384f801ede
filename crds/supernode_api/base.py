"""What every struct of the API is made of: the strict base model, and rules across fields.

Apart from :mod:`supernode_api.common`, so that who needs one part of the API does not build the models of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

__all__ = ["ApiModel", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One CEL rule (x-kubernetes-validations) with the message and the field that a person reads."""

    rule: str
    message: str
    field_path: str | None = field(default=None, kw_only=True)
    optional_old_self: bool = field(default=False, kw_only=True)

    def to_schema(self) -> dict[str, Any]:
        """Return the rule as it stands in a CRD."""
        schema: dict[str, Any] = {"rule": self.rule, "message": self.message}
        if self.field_path:
            schema["fieldPath"] = self.field_path
        if self.optional_old_self:
            schema["optionalOldSelf"] = True
        return schema


class ApiModel(BaseModel):
    """Base of all API structs: camelCase on the wire, snake_case in Python, unknown fields ignored as pruning does."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_enum_values=False,
        defer_build=True,  # a validator is built when its model is first used: most programs use a few of them
    )
    cel_rules: ClassVar[tuple[Rule, ...]] = ()
    atomic: ClassVar[bool] = False
    """Whether one field manager owns the whole struct (x-kubernetes-map-type: atomic)."""
