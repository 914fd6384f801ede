"""The training part of a SuperNodeWorkload, and how long a model's config may be."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field

from supernode_api.base import ApiModel, Rule

__all__ = ["MAX_CONFIG_CHARACTERS", "Parallelism", "Training"]

MAX_CONFIG_CHARACTERS: Final = 16384
"""Of a model's config.json as text."""


class Parallelism(ApiModel):
    """How the model is split over dies: tensor x pipeline x data = dies; experts are spread over data."""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.data) || self.data % self.expert == 0",
            "expert must divide data: so many data parallel replicas share the experts",
            field_path=".expert",
        ),
    )
    tensor: int = Field(default=1, ge=1, le=4096, description="Tensor parallel degree.")
    pipeline: int = Field(default=1, ge=1, le=4096, description="Pipeline stages.")
    virtual_pipeline: int = Field(default=1, ge=1, le=256, description="Interleaved chunks of layers for each stage.")
    data: int | None = Field(
        default=None, ge=1, le=65536, description="Data parallel degree; absent: dies / (tensor x pipeline)."
    )
    expert: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Expert parallel degree: consecutive data parallel replicas that share a model's routed experts.",
    )


class Training(ApiModel):
    """A training run; endless without tokens and steps."""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!(has(self.tokens) && has(self.steps))", "training takes tokens or steps, not both", field_path=".steps"),
    )
    sequence_length: int = Field(ge=1, le=16777216, description="Tokens of one sample.")
    global_batch_size: int = Field(ge=1, le=1048576, description="Samples of one optimizer step.")
    micro_batch_size: int = Field(default=1, ge=1, le=4096, description="Samples of one micro-batch.")
    parallelism: Parallelism = Field(default_factory=Parallelism, description="How the model is split.")
    tokens: int | None = Field(default=None, ge=1, le=9007199254740991, description="Complete after so many tokens.")
    steps: int | None = Field(default=None, ge=1, le=9007199254740991, description="Complete after so many steps.")
