"""AcceleratorProfile: what no node label carries, namely caches, bandwidths, arithmetic and links.

All figures are achievable ones, as measured or taken from a published measurement, not peaks, except
`compute.peak`, which exists to catch an achievable figure that cannot be right.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from layerwise.resources.base import (
    Decimal,
    PositiveQuantity,
    Quantity,
    Resource,
    Share,
    ShortText,
    list_map,
    rule,
    rules,
)
from layerwise.resources.deployment import Dtype
from layerwise.resources.quantity import parse_quantity


def _compared(one: str, relation: str, other: str) -> str:
    """CEL that compares two quantities, each written as text or as a number."""
    return f"quantity(string({one})).compareTo(quantity(string({other}))) {relation} 0"


Glob = Annotated[str, Field(min_length=1, max_length=128)]


class ProfileSource(StrEnum):
    """Where the figures come from."""

    DATASHEET = "Datasheet"
    MEASURED = "Measured"


class Match(Resource):
    """Which products the profile describes."""

    product_labels: Annotated[tuple[Glob, ...], Field(min_length=1, max_length=32)] = Field(
        description="Open globs against the product label of a node (nvidia.com/gpu.product, "
        "amd.com/gpu.product-name or layerwise.dev/accelerator), such as NVIDIA-H100-80GB-HBM3*."
    )


class MemoryProfile(Resource):
    """The accelerator's main memory."""

    capacity: PositiveQuantity = Field(description="Bytes, such as 80Gi.")
    bandwidth: PositiveQuantity = Field(description="Achievable bytes per second when reading, such as 3.0T.")
    attention_bandwidth: PositiveQuantity | None = Field(
        default=None,
        description="Achievable bytes per second at which attention goes through keys and values. "
        "Default: bandwidth.",
    )


class CacheProfile(Resource):
    """The last level of on-chip cache."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *(
                rule(
                    f"!has(self.{name}) || {_compared(f'self.{name}', '<=', 'self.capacity')}",
                    f"{name} cannot exceed capacity",
                )
                for name in ("effectiveCapacity", "pinnable")
            )
        )
    )

    name: ShortText = Field(description="Name, such as L2.")
    capacity: PositiveQuantity = Field(description="Bytes.")
    effective_capacity: Quantity | None = Field(
        default=None, description="Bytes that stay resident from step to step. Default: capacity."
    )
    bandwidth: PositiveQuantity = Field(description="Achievable bytes per second when reading.")
    pinnable: Quantity | None = Field(
        default=None,
        description="Bytes that can be set aside; the weights of a resident stage never exceed it. "
        "Default: the effective capacity.",
    )

    @model_validator(mode="after")
    def _within_capacity(self) -> Self:
        for name, text in (("effectiveCapacity", self.effective_capacity), ("pinnable", self.pinnable)):
            if text is not None and parse_quantity(text) > parse_quantity(self.capacity):
                raise ValueError(f"{name} {text} exceeds capacity {self.capacity} of cache {self.name}")
        return self


class ComputeProfile(Resource):
    """Dense matrix products in one number format."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"!has(self.peak) || {_compared('self.achievable', '<=', 'self.peak')}",
                "achievable cannot exceed peak",
            )
        )
    )

    dtype: Dtype = Field(description="Number format.")
    peak: Quantity | None = Field(
        default=None, description="Datasheet's floating point operations per second; bounds achievable."
    )
    achievable: PositiveQuantity = Field(
        description="Floating point operations per second of large products."
    )
    held_as: Dtype | None = Field(
        default=None,
        description="Number format in which weights, keys and activations are held where the accelerator "
        "has no instructions for this one, such as Float32 on many CPUs. Default: the format itself.",
    )
    weights_held_as: Dtype | None = Field(
        default=None,
        description="Number format in which weights are held where that is not heldAs: kernels may widen "
        "16-bit weights as they read them. Default: heldAs.",
    )

    @model_validator(mode="after")
    def _below_peak(self) -> Self:
        if self.peak is not None and parse_quantity(self.achievable) > parse_quantity(self.peak):
            raise ValueError(f"achievable {self.achievable} exceeds peak {self.peak} for {self.dtype.value}")
        return self


class LinkProfile(Resource):
    """One way between two accelerators: a message takes latency + bytes / bandwidth."""

    latency_microseconds: Decimal = Field(description="Time of an empty message.")
    bandwidth: PositiveQuantity = Field(description="Achievable bytes per second, one direction.")


class Links(Resource):
    """The ways between accelerators."""

    peer: LinkProfile = Field(description="Within a node, between processes that see each other's device.")
    network: LinkProfile = Field(description="Between nodes, and between ordinary pods.")


class ProfileSpec(Resource):
    """The spec of an AcceleratorProfile."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.caches) || self.caches.all(cache, "
                f"{_compared('cache.bandwidth', '>=', 'self.memory.bandwidth')})",
                "a cache whose bandwidth is below the memory's helps nothing: leave it out",
            )
        )
    )

    match: Match = Field(description="Which products the profile describes.")
    memory: MemoryProfile = Field(description="The accelerator's main memory.")
    caches: Annotated[tuple[CacheProfile, ...], Field(max_length=1)] = Field(
        default=(),
        description="The on-chip cache that weights can stay in; at most one. Default: none.",
        json_schema_extra=list_map("name"),
    )
    compute: Annotated[tuple[ComputeProfile, ...], Field(min_length=1, max_length=8)] = Field(
        description="One row a number format that the accelerator computes in.",
        json_schema_extra=list_map("dtype"),
    )
    kernel_overhead_microseconds: Decimal = Field(description="Time that each kernel costs beyond its work.")
    overlap: Share = Field(
        default="1",
        description="Share of the shorter of computing and reading that hides behind the longer: from 1, "
        "where copies run beside products, to 0, where a core does one after the other.",
    )
    links: Links = Field(description="The ways between accelerators.")
    source: ProfileSource = Field(
        default=ProfileSource.DATASHEET,
        description="Datasheet (and published measurements) or Measured here.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for cache in self.caches:
            if parse_quantity(cache.bandwidth) < parse_quantity(self.memory.bandwidth):
                raise ValueError(
                    f"cache {cache.name} has bandwidth {cache.bandwidth}, below the memory's "
                    f"{self.memory.bandwidth}: such a cache helps nothing, leave it out"
                )
        return self
