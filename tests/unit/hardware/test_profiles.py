"""Shipped profiles, the matching of products, and figures that cannot be."""

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from layerwise.errors import InvalidInput, UnknownAccelerator
from layerwise.hardware.accelerator import accelerator_from_profile
from layerwise.hardware.catalogue import (
    match_profile,
    product_of,
    profile_from_resource,
    profile_named,
    shipped_profiles,
    shipped_rows,
)
from layerwise.resources.deployment import Dtype
from layerwise.resources.profile import ProfileSpec
from layerwise.resources.quantity import parse_quantity

SPEC: dict[str, Any] = {
    "match": {"productLabels": ["NVIDIA-H100-80GB-HBM3*"]},
    "memory": {"capacity": "80Gi", "bandwidth": "3.0T"},
    "caches": [
        {
            "name": "L2",
            "capacity": "50Mi",
            "effectiveCapacity": "31Mi",
            "bandwidth": "5.5T",
            "pinnable": "30Mi",
        }
    ],
    "compute": [{"dtype": "Float16", "peak": "989T", "achievable": "794T"}],
    "kernelOverheadMicroseconds": "1.3",
    "links": {
        "peer": {"latencyMicroseconds": "6.5", "bandwidth": "355G"},
        "network": {"latencyMicroseconds": "20", "bandwidth": "36G"},
    },
    "source": "Datasheet",
}


def changed(path: str, value: Any) -> dict[str, Any]:
    spec = copy.deepcopy(SPEC)
    *steps, last = path.split(".")
    target: Any = spec
    for step in steps:
        target = target[int(step)] if step.isdigit() else target[step]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return spec


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("NVIDIA-H100-80GB-HBM3", "h100-sxm5-80gb"),
        ("NVIDIA-H200", "h200-sxm-141gb"),
        ("NVIDIA-A100-SXM4-80GB", "a100-sxm4-80gb"),
        ("NVIDIA-B200", "b200-180gb"),
        ("NVIDIA-L40S", "l40s-48gb"),
        ("NVIDIA-GeForce-RTX-4090", "rtx-4090-24gb"),
        ("AMD_Instinct_MI300X_OAM", "mi300x-192gb"),
        ("generic-cpu", "generic-cpu"),
    ],
)
def test_products_of_real_nodes_match_their_profile(product: str, name: str) -> None:
    assert match_profile(product, shipped_profiles()) == name


@pytest.mark.parametrize(
    "product",
    [
        "NVIDIA-H100-PCIe",
        "NVIDIA-GeForce-RTX-4090-D",
        "nvidia-h100-80gb-hbm3",
        "",
        "NVIDIA-H100-80GB-HBM3-SHARED",
        "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
    ],
)
def test_another_product_is_never_taken_for_a_known_one(product: str) -> None:
    with pytest.raises(UnknownAccelerator) as caught:
        match_profile(product, shipped_profiles())
    assert repr(product) in str(caught.value)


def test_the_refusal_of_an_unknown_product_says_how_to_add_a_profile() -> None:
    with pytest.raises(UnknownAccelerator, match=r"no AcceleratorProfile matches .* add one whose match"):
        match_profile("ACME-9000", shipped_profiles())


def test_the_more_specific_profile_wins_and_a_draw_is_refused() -> None:
    loose = ProfileSpec.model_validate(changed("match.productLabels", ["NVIDIA-*"]))
    tight = ProfileSpec.model_validate(changed("match.productLabels", ["NVIDIA-H100*"]))
    assert match_profile("NVIDIA-H100-PCIe", {"loose": loose, "tight": tight}) == "tight"
    with pytest.raises(UnknownAccelerator, match="a and b equally well"):
        match_profile("NVIDIA-H100-PCIe", {"a": tight, "b": tight})


def test_the_product_comes_from_the_labels_of_a_node() -> None:
    assert product_of({"nvidia.com/gpu.product": "NVIDIA-H200"}) == "NVIDIA-H200"
    assert product_of({"nvidia.com/gpu.product": "x", "layerwise.dev/accelerator": "y"}) == "y"
    assert product_of({"kubernetes.io/os": "linux"}) is None


def test_a_profile_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UnknownAccelerator, match=r"'h100' \(known: a100-sxm4-80gb"):
        profile_named("h100", shipped_profiles())


def test_every_shipped_figure_has_a_source() -> None:
    kinds = ("datasheet", "published", "measured", "inferred", "unsure")
    for row in shipped_rows():
        spec, sources = row["spec"], row["sources"]
        expected = {f"memory.{key}" for key in spec["memory"]}
        expected |= {f"caches.{key}" for key in spec["caches"][0] if key != "name"}
        expected |= {"compute.16bit", "compute.Float32", "kernelOverheadMicroseconds"}
        expected |= {f"links.{key}" for key in spec["links"]}
        assert set(sources) == expected, row["name"]
        assert all(text.startswith(kinds) for text in sources.values()), row["name"]


def test_a_profile_becomes_bytes_and_seconds() -> None:
    device = accelerator_from_profile("h100", ProfileSpec.model_validate(SPEC))
    assert device.memory_bytes == 80 * 2**30
    assert (device.cache_bytes, device.pinnable_bytes) == (31 * 2**20, 30 * 2**20)
    assert device.memory_bandwidth == 3.0e12
    assert device.flops == {Dtype.FLOAT16: 794e12}
    assert device.kernel_seconds == pytest.approx(1.3e-6)
    assert device.network.seconds(36e9) == pytest.approx(1.00002)


def test_defaults_of_a_cache_are_its_whole_capacity() -> None:
    spec = copy.deepcopy(SPEC)
    spec["caches"][0] = {"name": "L2", "capacity": "50Mi", "bandwidth": "5.5T"}
    device = accelerator_from_profile("x", ProfileSpec.model_validate(spec))
    assert device.cache_bytes == device.pinnable_bytes == 50 * 2**20


def test_an_accelerator_without_cache_has_none_that_could_hold_weights() -> None:
    device = accelerator_from_profile("x", ProfileSpec.model_validate(changed("caches", [])))
    assert device.cache_bytes == 0


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("memory.bandwidth", "0", "above 0"),
        ("memory.bandwidth", "NaN", "pattern"),
        ("memory.bandwidth", "-3T", "pattern"),
        ("memory.bandwidth", None, "Field required"),
        ("memory.bandwidth", 1.5, "valid string"),
        ("memory.capacity", "0", "above 0"),
        ("caches.0.capacity", "0", "above 0"),
        ("caches.0.effectiveCapacity", "51Mi", "exceeds capacity 50Mi"),
        ("caches.0.pinnable", "51Mi", "exceeds capacity 50Mi"),
        ("caches.0.bandwidth", "2T", "below the memory's 3.0T"),
        ("compute.0.achievable", "1000T", "exceeds peak 989T"),
        ("compute.0.achievable", "0", "above 0"),
        ("compute.0.dtype", "Int8", "Float16"),
        ("compute", [], "at least 1 item"),
        ("kernelOverheadMicroseconds", "nan", "pattern"),
        ("kernelOverheadMicroseconds", 1.3, "valid string"),
        ("links.peer.bandwidth", "0", "above 0"),
        ("links.network", None, "Field required"),
        ("match.productLabels", [], "at least 1 item"),
        ("sharedMemory", "1Mi", "Extra inputs"),
    ],
)
def test_figures_that_cannot_be_are_refused(path: str, value: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ProfileSpec.model_validate(changed(path, value))
    assert said in str(caught.value)


def test_a_dtype_is_named_once() -> None:
    with pytest.raises(ValidationError, match="compute names the dtype Float16 twice: keep one"):
        ProfileSpec.model_validate(changed("compute", SPEC["compute"] * 2))


def test_a_profile_object_is_read_and_its_first_fault_named() -> None:
    resource = {
        "apiVersion": "layerwise.dev/v1alpha1",
        "kind": "AcceleratorProfile",
        "metadata": {"name": "mine"},
        "spec": SPEC,
    }
    assert profile_from_resource(resource)[0] == "mine"
    with pytest.raises(InvalidInput, match=r"AcceleratorProfile mine: memory\.bandwidth"):
        profile_from_resource({**resource, "spec": changed("memory.bandwidth", "fast")})
    with pytest.raises(InvalidInput, match=r"expected layerwise\.dev/v1alpha1 AcceleratorProfile"):
        profile_from_resource({**resource, "kind": "Pod"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("80Gi", 80 * 2**30),
        ("3.35T", 3.35e12),
        ("500m", 0.5),
        ("7", 7),
        ("1e3", 1000),
        ("1E3", 1000),
        ("2E", 2e18),
    ],
)
def test_quantities_have_their_exact_value(text: str, value: float) -> None:
    assert parse_quantity(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.", "1ki", "1e999", "9" * 33, "nan", "1 G"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no quantity"):
        parse_quantity(text)
