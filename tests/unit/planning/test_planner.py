"""Whole plans: what they say, why there is none, and properties that any sound prediction has."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.errors import InvalidInput, NoPlan
from layerwise.hardware.accelerator import Accelerator, accelerator_from_profile
from layerwise.hardware.catalogue import shipped_profiles
from layerwise.models.architecture import Architecture
from layerwise.models.blocks import blocks_of
from layerwise.models.synthetic import synthetic
from layerwise.planning.arrangement import fixed_order
from layerwise.planning.cost import Load, slice_costs
from layerwise.planning.partition import Partition
from layerwise.planning.plan import Plan, Residency
from layerwise.planning.planner import plan
from layerwise.planning.request import AcceleratorGroup, PlanRequest, input_hash, request_from_spec
from layerwise.resources.deployment import CacheFit, DeploymentSpec, Dtype
from layerwise.resources.profile import ProfileSpec

SMOLLM2 = Architecture("llama", 30, 576, 9, 3, 64, 1536, 49152, tied_embeddings=True, max_positions=8192)
QWEN3 = Architecture(
    "qwen3",
    28,
    1024,
    16,
    8,
    128,
    3072,
    151936,
    tied_embeddings=True,
    query_key_norm=True,
    max_positions=40960,
)
LLAMA_70B = Architecture(
    "llama", 80, 8192, 64, 8, 128, 28672, 128256, tied_embeddings=False, max_positions=131072
)
PAPER = synthetic(layers=16, heads=16, head_size=512, mlp_hidden_size=32768)


def device(name: str) -> Accelerator:
    return accelerator_from_profile(name, shipped_profiles()[name])


H100 = device("h100-sxm5-80gb")
A100 = device("a100-sxm4-80gb")


def group(count: int, accelerator: Accelerator = H100) -> AcceleratorGroup:
    return AcceleratorGroup(accelerator, count)


def refusal(architecture: Architecture, request: PlanRequest, *groups: AcceleratorGroup) -> NoPlan:
    with pytest.raises(NoPlan) as caught:
        plan(architecture, request, groups)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("stages", [1, 2, 3, 5, 31, 32])
def test_every_layer_is_in_exactly_one_stage_and_none_is_empty(stages: int) -> None:
    made = plan(SMOLLM2, PlanRequest(stages=stages), [group(32)])
    assert [layer for stage in made.stages for layer in stage.layers] == list(range(30))
    assert [stage.has_embedding for stage in made.stages] == [True, *([False] * (stages - 1))]
    assert [stage.has_head for stage in made.stages] == [*([False] * (stages - 1)), True]
    assert all(stage.layers or stage.has_embedding or stage.has_head for stage in made.stages)
    assert [stage.index for stage in made.stages] == list(range(stages))


def test_a_tied_head_on_another_stage_holds_its_own_copy() -> None:
    table = 49152 * 576 * 2
    whole = plan(SMOLLM2, PlanRequest(stages=1), [group(1)])
    halves = plan(SMOLLM2, PlanRequest(stages=2), [group(2)])
    assert sum(stage.weight_bytes for stage in halves.stages) == whole.stages[0].weight_bytes + table


def test_a_plan_survives_json_and_equal_plans_are_equal_bytes() -> None:
    made = plan(SMOLLM2, PlanRequest(stages=32), [group(32)])
    assert Plan.from_json(json.loads(made.dumps())) == made
    assert plan(SMOLLM2, PlanRequest(stages=32), [group(32)]).dumps() == made.dumps()


def test_tokens_a_second_times_time_per_token_is_the_sequences_in_flight() -> None:
    predicted = plan(LLAMA_70B, PlanRequest(concurrency=100), [group(16)]).predicted
    product = predicted.tokens_per_second * predicted.time_per_output_token_milliseconds / 1000
    assert product == pytest.approx(100)
    assert predicted.system_time_per_token_milliseconds == pytest.approx(1000 / predicted.tokens_per_second)


def test_lanes_and_their_length_come_from_the_share_of_the_concurrency_and_the_model() -> None:
    made = plan(SMOLLM2, PlanRequest(concurrency=9, replicas=2, stages=2, max_lane_tokens=10**6), [group(4)])
    assert (made.num_lanes, made.lane_tokens) == (5, 8192)


def test_a_given_micro_batch_size_is_kept() -> None:
    predicted = plan(SMOLLM2, PlanRequest(stages=2, micro_batch_size=2), [group(2)]).predicted
    assert (predicted.micro_batch_size, predicted.micro_batches_in_flight) == (2, 4)


def test_manual_ranges_are_taken_as_they_are() -> None:
    made = plan(SMOLLM2, PlanRequest(layer_ranges=("0-3", "4", "5-29")), [group(3)])
    assert [stage.layers for stage in made.stages] == [range(4), range(4, 5), range(5, 30)]


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        (("0-3", "5-29"), "expected it to start with layer 4"),
        (("0-3", "3-29"), "expected it to start with layer 4"),
        (("0-3",), "end with layer 3, but the last of the model's 30 layers is 29"),
        (("0-30",), "the last of the model's 30 layers is 29"),
        (("1-29",), "expected it to start with layer 0"),
        (("0-9", "10-4"), "expected it to start with layer 10"),
        (("a-b",), "write ranges such as"),
    ],
)
def test_manual_ranges_that_leave_gaps_are_refused(ranges: tuple[str, ...], said: str) -> None:
    refused = refusal(SMOLLM2, PlanRequest(layer_ranges=ranges), group(8))
    assert refused.reason == "InvalidLayerRanges"
    assert said in str(refused)


def test_more_stages_than_blocks_are_refused_with_the_most_there_can_be() -> None:
    refused = refusal(SMOLLM2, PlanRequest(stages=33), group(64))
    assert refused.reason == "TooManyStages"
    assert "only 32 blocks (embedding, 30 layers, head)" in str(refused)


def test_too_few_accelerators_are_refused_with_have_and_need() -> None:
    refused = refusal(SMOLLM2, PlanRequest(stages=3, replicas=2), group(5))
    assert refused.reason == "InsufficientAccelerators"
    assert "have 5 accelerators, need 6 (2 pipelines of 3 stages)" in str(refused)
    assert refusal(SMOLLM2, PlanRequest()).reason == "InsufficientAccelerators"


def test_the_papers_model_is_refused_on_chip_with_the_arithmetic_per_layer() -> None:
    request = PlanRequest(
        dtype=Dtype.FLOAT16, concurrency=16, prompt_tokens=32, output_tokens=32, cache_fit=CacheFit.REQUIRED
    )
    refused = refusal(PAPER, request, group(16))
    assert refused.reason == "CacheFitRequired"
    assert "weights 1.61 GB" in str(refused)
    assert "keeps 32.5 MB in its L2" in str(refused)
    preferred = plan(PAPER, replace(request, cache_fit=CacheFit.PREFERRED), [group(16)])
    assert {stage.residency for stage in preferred.stages} == {Residency.MEMORY}


def test_smollm2_is_accepted_on_chip_where_its_head_fits() -> None:
    request = PlanRequest(cache_fit=CacheFit.REQUIRED)
    made = plan(SMOLLM2, request, [group(16, device("l40s-48gb"))])
    assert {stage.residency for stage in made.stages} == {Residency.L2}
    refused = refusal(SMOLLM2, request, group(16))
    assert "the head needs 56.7 MB" in str(refused)
    assert "layer 0" not in str(refused)


def test_one_layer_of_qwen3_stays_in_the_l2_of_an_h100() -> None:
    made = plan(QWEN3, PlanRequest(stages=30, concurrency=30), [group(30)])
    residency = {stage.residency for stage in made.stages if not stage.has_head}
    assert residency == {Residency.L2}
    assert made.stages[-1].residency is Residency.MEMORY


def test_too_few_stages_for_the_cache_are_refused_with_the_number_it_takes() -> None:
    refused = refusal(SMOLLM2, PlanRequest(cache_fit=CacheFit.REQUIRED), group(4, device("l40s-48gb")))
    assert "it takes at least 5 stages" in str(refused)


def test_ignored_caches_are_never_counted_on() -> None:
    made = plan(QWEN3, PlanRequest(stages=30, cache_fit=CacheFit.IGNORED), [group(30)])
    assert {stage.residency for stage in made.stages} == {Residency.MEMORY}


def test_a_model_beyond_memory_is_refused_with_the_sum() -> None:
    refused = refusal(LLAMA_70B, PlanRequest(concurrency=256, stages=2), group(16))
    assert refused.reason == "InsufficientMemory"
    assert "need 136 GB on one h100-sxm5-80gb, which has 85.5 GB: weights 70.6 GB" in str(refused)


def test_manual_ranges_beyond_memory_or_cache_are_refused() -> None:
    ranges = PlanRequest(layer_ranges=("0-69", "70-79"))
    assert refusal(LLAMA_70B, ranges, group(2)).reason == "InsufficientMemory"
    required = PlanRequest(layer_ranges=("0-9", "10-29"), cache_fit=CacheFit.REQUIRED)
    assert refusal(SMOLLM2, required, group(2)).reason == "CacheFitRequired"


def test_a_dtype_without_a_figure_is_refused() -> None:
    bare = replace(H100, flops={Dtype.FLOAT16: 1e12})
    refused = refusal(SMOLLM2, PlanRequest(), group(1, bare))
    assert refused.reason == "UnsupportedDtype"
    assert "use one of Float16" in str(refused)


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"stages": 0}, {"micro_batch_size": -1}, {"prompt_tokens": 0}]
)
def test_requests_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="at least 1"):
        PlanRequest(**wrong)


def test_unequal_accelerators_get_work_by_their_speed() -> None:
    made = plan(LLAMA_70B, PlanRequest(stages=8, concurrency=64), [group(4), group(4, A100)])
    layers = {
        name: [len(s.layers) for s in made.stages if s.accelerator == name] for name in (H100.name, A100.name)
    }
    assert sum(layers[H100.name]) > 1.3 * sum(layers[A100.name])


def test_a_profile_of_the_largest_and_of_the_smallest_figures_still_plans() -> None:
    spec = shipped_profiles()["h100-sxm5-80gb"].model_dump(by_alias=True, mode="json")
    spec["memory"]["bandwidth"] = spec["caches"][0]["bandwidth"] = "9E"
    spec["compute"] = [{"dtype": "BFloat16", "achievable": "9E"}]
    spec["kernelOverheadMicroseconds"] = "0"
    absurd = accelerator_from_profile("absurd", ProfileSpec.model_validate(spec))
    assert plan(SMOLLM2, PlanRequest(), [group(2, absurd)]).predicted.tokens_per_second > 0
    spec["memory"]["bandwidth"] = spec["caches"][0]["bandwidth"] = "1m"
    slow = accelerator_from_profile("slow", ProfileSpec.model_validate(spec))
    assert plan(SMOLLM2, PlanRequest(), [group(2, slow)]).predicted.tokens_per_second > 0


def test_the_busiest_link_bounds_the_pipeline() -> None:
    thin = replace(H100, network=replace(H100.network, bandwidth=1e6))
    predicted = plan(
        LLAMA_70B, PlanRequest(stages=4, concurrency=64, micro_batch_size=4), [group(4, thin)]
    ).predicted
    bytes_a_hop = predicted.micro_batch_size * LLAMA_70B.hidden_size * 2
    period = predicted.time_per_output_token_milliseconds / predicted.micro_batches_in_flight
    assert period >= 1000 * bytes_a_hop / 1e6 * 0.999


def test_stages_that_share_processors_get_as_few_micro_batches_as_keep_those_busy() -> None:
    request = PlanRequest(stages=3, concurrency=12)
    apart, shared, alone = (
        plan(SMOLLM2, replace(request, stages_at_once=at_once), [group(3)]).predicted
        for at_once in (None, 2, 1)
    )
    assert (apart.micro_batches_in_flight, shared.micro_batches_in_flight) == (3, 2)
    assert (alone.micro_batches_in_flight, alone.micro_batch_size) == (1, 12)
    assert alone.tokens_per_second < shared.tokens_per_second < apart.tokens_per_second


def test_shared_processors_bound_more_micro_batches_as_well() -> None:
    request = PlanRequest(stages=3, concurrency=12, micro_batch_size=4, stages_at_once=2)
    made = plan(SMOLLM2, request, [group(3)])
    seconds = sum(stage.predicted_milliseconds for stage in made.stages) / 1000
    assert made.predicted.tokens_per_second <= 4 / (seconds / 2) * 1.001


def test_pipelines_share_the_accelerators() -> None:
    alone = plan(LLAMA_70B, PlanRequest(concurrency=512, max_lane_tokens=256), [group(8)])
    shared = plan(LLAMA_70B, PlanRequest(concurrency=1024, replicas=2, max_lane_tokens=256), [group(8)])
    assert len(alone.stages) > 4
    assert len(shared.stages) <= 4


def test_the_hash_names_all_inputs_but_the_number_of_accelerators() -> None:
    request = PlanRequest()
    base = input_hash(SMOLLM2, request, [group(4)])
    assert base == input_hash(SMOLLM2, request, [group(8)])
    assert base == input_hash(SMOLLM2, replace(request, concurrency=16, replicas=2), [group(4)])
    others = [
        input_hash(QWEN3, request, [group(4)]),
        input_hash(SMOLLM2, replace(request, concurrency=9), [group(4)]),
        input_hash(SMOLLM2, replace(request, cache_fit=CacheFit.IGNORED), [group(4)]),
        input_hash(SMOLLM2, request, [group(4, replace(H100, memory_bandwidth=1e12))]),
        input_hash(SMOLLM2, request, [group(4), group(4, A100)]),
    ]
    assert len({base, *others}) == 6


def test_a_spec_becomes_a_request() -> None:
    spec = DeploymentSpec.model_validate(
        {
            "replicas": 2,
            "model": {"volume": {"claimName": "m"}, "dtype": "Float16"},
            "workload": {"concurrency": 10, "microBatchSize": 2, "promptTokens": 7, "outputTokens": 5},
            "strategy": {"cacheFit": "Ignored", "stages": 2, "layerRanges": ["0-1", "2-3"]},
            "serving": {"maxPromptTokens": 20, "maxOutputTokens": 30},
        }
    )
    assert request_from_spec(spec) == PlanRequest(
        dtype=Dtype.FLOAT16,
        concurrency=10,
        replicas=2,
        micro_batch_size=2,
        prompt_tokens=7,
        output_tokens=5,
        max_lane_tokens=50,
        cache_fit=CacheFit.IGNORED,
        stages=2,
        layer_ranges=("0-1", "2-3"),
    )


architectures = st.sampled_from([SMOLLM2, QWEN3, PAPER])
requests = st.builds(
    PlanRequest,
    dtype=st.just(Dtype.FLOAT16),
    concurrency=st.integers(1, 64),
    prompt_tokens=st.integers(1, 64),
    output_tokens=st.integers(1, 64),
    max_lane_tokens=st.just(128),
    cache_fit=st.sampled_from([CacheFit.PREFERRED, CacheFit.IGNORED]),
)
few = settings(max_examples=25, deadline=None)


@few
@given(
    architectures,
    requests,
    st.integers(1, 5),
    st.sampled_from(["memory_bandwidth", "cache_bandwidth", "attention_bandwidth", "overlap"]),
)
def test_more_bandwidth_or_overlap_is_never_predicted_slower(
    architecture: Architecture, request: PlanRequest, stages: int, field: str
) -> None:
    slower = replace(H100, memory_bandwidth=2e12, attention_bandwidth=1e12, overlap=0.3)
    faster = replace(slower, **{field: getattr(slower, field) * 1.4})
    request = replace(request, stages=stages, micro_batch_size=request.concurrency)
    before = plan(architecture, request, [group(stages, slower)])
    after = plan(architecture, request, [group(stages, faster)])
    assert after.bottleneck_milliseconds <= before.bottleneck_milliseconds


@few
@given(architectures, requests, st.integers(1, 6))
def test_more_accelerators_are_never_a_worse_optimum(
    architecture: Architecture, request: PlanRequest, count: int
) -> None:
    fewer = plan(architecture, request, [group(count)]).predicted.tokens_per_second
    more = plan(architecture, request, [group(count + 1)]).predicted.tokens_per_second
    assert more >= fewer * 0.99  # another accelerator must be worth 1%


@few
@given(architectures, requests, st.integers(2, 6))
def test_an_accelerator_more_never_makes_the_bottleneck_longer(
    architecture: Architecture, request: PlanRequest, count: int
) -> None:
    request = replace(request, micro_batch_size=request.concurrency)
    before, after = (
        plan(architecture, replace(request, stages=stages), [group(8)]).bottleneck_milliseconds
        for stages in (count, count + 1)
    )
    assert after <= before


@few
@given(architectures, requests, st.integers(1, 4))
def test_predictions_do_not_depend_on_names(
    architecture: Architecture, request: PlanRequest, stages: int
) -> None:
    request = replace(request, stages=stages)
    before = plan(architecture, request, [group(4)])
    after = plan(replace(architecture, family="other"), request, [group(4, replace(H100, name="z"))])
    assert after.predicted == before.predicted
    assert [stage.layers for stage in after.stages] == [stage.layers for stage in before.stages]


def seconds_to_cut(num_layers: int, num_stages: int) -> float:
    blocks = blocks_of(replace(LLAMA_70B, num_layers=num_layers))
    load = Load(Dtype.FLOAT16, batch=8, context=256.0, lane_positions=1024, prefill_tokens=512)
    started = time.process_time()
    costs = (slice_costs(blocks, H100, load),)
    cut = Partition(costs, fixed_order([0] * num_stages)).best_cut()
    assert cut is not None
    return time.process_time() - started


def test_two_hundred_blocks_over_64_accelerators_take_milliseconds() -> None:
    assert min(seconds_to_cut(198, 64) for _ in range(3)) < 0.05


def test_ten_thousand_blocks_over_a_thousand_accelerators_take_under_a_second() -> None:
    assert min(seconds_to_cut(9_998, 1000) for _ in range(2)) < 1.0
