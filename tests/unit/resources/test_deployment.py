"""The types refuse what the rules of the CRD refuse, and accept YAML as people write it."""

from typing import Any

import pytest
from pydantic import ValidationError

from layerwise.models.blocks import blocks_of
from layerwise.planning.request import request_from_spec
from layerwise.resources.deployment import DeploymentSpec
from layerwise.resources.schema import structural_schema

MODEL = {"volume": {"claimName": "models"}}
DENSE = {"architecture": "Dense", "layers": 2, "heads": 4, "headSize": 8, "mlpHiddenSize": 64}
EXPERTS = {**DENSE, "architecture": "MixtureOfExperts", "experts": 8, "expertsPerToken": 2}


def spec(**fields: Any) -> DeploymentSpec:
    return DeploymentSpec.model_validate({"model": MODEL, **fields})


def test_only_the_model_must_be_given() -> None:
    assert spec().strategy.cache_fit.value == "Preferred"
    with pytest.raises(ValidationError, match="model"):
        DeploymentSpec.model_validate({})


def test_defaults_of_the_types_are_those_of_the_schema() -> None:
    filled = with_defaults(structural_schema(DeploymentSpec), {"model": MODEL})
    assert DeploymentSpec.model_validate(filled) == spec()
    assert filled["worker"]["sharedMemory"] == "1Gi"
    assert filled["serving"]["port"] == 8000


def with_defaults(schema: dict[str, Any], value: Any) -> Any:
    """What an API server does to an object."""
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for name, inner in schema.get("properties", {}).items():
        if name not in filled and "default" in inner:
            filled[name] = inner["default"]
        if name in filled:
            filled[name] = with_defaults(inner, filled[name])
    return filled


def test_the_papers_layers_are_a_model() -> None:
    paper = {"layers": 16, "heads": 16, "headSize": 512, "mlpHiddenSize": 32768}
    dense = spec(model={"synthetic": {"architecture": "Dense", **paper}}).model.synthetic
    assert dense is not None
    block = blocks_of(dense.to_architecture())[1]
    assert block.weights == 4 * 8192**2 + 2 * 8192 * 32768 + 2 * 8192


def test_a_benchmark_needs_no_limits_of_a_front() -> None:
    workload = {"promptTokens": 100_000, "outputTokens": 100_000}
    asked = spec(mode="Benchmark", workload=workload)
    assert request_from_spec(asked).max_lane_tokens == 200_000


def test_whole_numbers_are_quantities() -> None:
    resources = spec(worker={"resources": {"requests": {"cpu": 2, "memory": "4Gi"}}}).worker.resources
    assert resources.requests == {"cpu": "2", "memory": "4Gi"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"workload": {"concurrency": 4, "microBatchSize": 5}}, "microBatchSize 5 exceeds concurrency 4"),
        ({"strategy": {"stages": 3, "layerRanges": ["0-1"]}}, "layerRanges names 1 stages and stages says 3"),
        ({"strategy": {"layerRanges": ["0..3"]}}, "pattern"),
        ({"strategy": {"tensorParallelSize": 2}}, "belong to type TensorPipeline, and type is LayerWise"),
        ({"strategy": {"type": "Auto", "pipelineParallelSize": 2}}, "belong to type TensorPipeline"),
        ({"strategy": {"type": "TensorPipeline"}}, "needs tensorParallelSize"),
        (
            {"strategy": {"type": "TensorPipeline", "tensorParallelSize": 2, "stages": 2}},
            "pipelineParallelSize for stages",
        ),
        (
            {
                "strategy": {
                    "type": "TensorPipeline",
                    "tensorParallelSize": 2,
                    "pipelineParallelSize": 3,
                    "layerRanges": ["0-1", "2"],
                }
            },
            "layerRanges names 2 stages and pipelineParallelSize says 3",
        ),
        ({"strategy": {"type": "TensorPipeline", "tensorParallelSize": 1}}, "greater than or equal to 2"),
        ({"worker": {"podGranularity": "Rack"}}, "'Accelerator' or 'Node'"),
        ({"workload": {"promptTokens": 2000}}, "exceeds serving.maxPromptTokens 1024"),
        ({"workload": {"outputTokens": 2000}}, "exceeds serving.maxOutputTokens 512"),
        ({"worker": {"env": [{"name": "LAYERWISE_RANK"}]}}, "is set by Layerwise"),
        ({"worker": {"env": [{"name": "A"}, {"name": "A", "value": "1"}]}}, "env names the name A twice"),
        ({"worker": {"imagePullSecrets": [{"name": "a"}] * 2}}, "imagePullSecrets names the name a twice"),
        ({"worker": {"labels": {"layerwise.dev/replica": "1"}}}, "is set by Layerwise"),
        ({"worker": {"tolerations": [{"operator": "Exists", "value": "x"}]}}, "takes no value"),
        ({"worker": {"tolerations": [{"value": "x"}]}}, "needs a key"),
        ({"worker": {"resources": {"limits": {"nvidia.com/gpu": "8"}}}}, "'cpu', 'memory'"),
        ({"worker": {"hostNetwork": True}}, "Extra inputs"),
        ({"model": {"volume": {"claimName": "m", "directory": "../x"}}}, "pattern"),
        ({"model": {}}, "exactly one source of the model is needed, neither given"),
        ({"model": {**MODEL, "synthetic": DENSE}}, "exactly one source of the model is needed, both given"),
        ({"model": {"synthetic": {**DENSE, "experts": 8}}}, "experts is 8, and architecture is Dense"),
        ({"model": {"synthetic": {**DENSE, "headSize": 3}}}, "headSize is 3: it must be even"),
        ({"model": {"synthetic": {**DENSE, "keyValueHeads": 3}}}, "no multiple of keyValueHeads 3"),
        ({"model": {"synthetic": {**EXPERTS, "expertsPerToken": None}}}, "needs expertsPerToken"),
        ({"model": {"synthetic": {**EXPERTS, "expertsPerToken": 9}}}, "it must be 1 to 8"),
        ({"benchmark": {}}, "benchmark belongs to mode Benchmark, and mode is Serve"),
        ({"mode": "Benchmark", "benchmark": {"repetitions": 0}}, "greater than or equal to 1"),
        ({"replicas": -1}, "greater than or equal to 0"),
        ({"replicas": True}, "valid integer"),
    ],
)
def test_what_cannot_be_honoured_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**fields)
    assert said in str(caught.value)
