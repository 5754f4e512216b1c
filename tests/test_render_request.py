"""Option texts become a request, or an error that names option and value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from octree.pyramid.errors import UsageError
from octree.render.films import PlaneRange, parse_index
from octree.render.option_table import ChannelOption, parse_channels, parse_clim, parse_size
from octree.render.request import LayerOptions, parse_request


def request(sources: int = 1, **options: Any) -> Any:
    return parse_request([f"s{i}" for i in range(sources)], ["fit"], options)


def test_defaults_are_those_of_the_contract() -> None:
    r = request()
    assert (r.size_px, r.mode, r.timeout_ms, r.min_coverage) == ((1024, 768), None, 60_000, None)
    assert (r.background, r.labels, r.clock, r.gl, r.network) == ("black", False, "real", "auto", None)
    assert r.layers == (LayerOptions(None, 1.0, None, None, None, "nearest", None),)
    assert r.settings.render.cache_bytes == 512 * 2**20
    assert r.settings.render.atlas_bytes == 256 * 2**20


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1024x768", (1024, 768)), ("1x1", (1, 1)), (" 640 X 480 ", (640, 480)), ("7×9", (7, 9))],
)
def test_sizes(text: str, expected: tuple[int, int]) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text", ["0x768", "1024", "1024x", "-5x5", "1e3x5", "70000x1", "65536x65536", "", "axb"]
)
def test_sizes_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("auto", None),
        ("0,1000", (0, 1000)),
        ("-1.5,2e3", (-1.5, 2000)),
        ([1, 2], (1, 2)),
        (" 0 , 1 ", (0, 1)),
        ("200,100", (200, 100)),
    ],
)
def test_contrast_limits(value: Any, expected: Any) -> None:
    assert parse_clim(value) == expected


@pytest.mark.parametrize("value", ["", "1", "1,2,3", "a,b", "1,1", "nan,1", "0,inf", [1], 7])
def test_contrast_limits_refused(value: Any) -> None:
    with pytest.raises(UsageError):
        parse_clim(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", [ChannelOption(0)]),
        ("0:red:100-2000,1:green", [ChannelOption(0, "red", (100, 2000)), ChannelOption(1, "green")]),
        ("2:#ff00ff:-5--1", [ChannelOption(2, "#ff00ff", (-5, -1))]),
        ("1::0.5-1e3", [ChannelOption(1, None, (0.5, 1000))]),
        ("3:blue:auto", [ChannelOption(3, "blue")]),
    ],
)
def test_channels(text: str, expected: list[ChannelOption]) -> None:
    assert list(parse_channels(text)) == expected


@pytest.mark.parametrize("text", ["", "red", "-1", "0:red:5", "0:red:9-9", "0,0", "0:red:1-2:x", "0:red:1-"])
def test_channels_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_channels(text)


@pytest.mark.parametrize(
    "text",
    [
        "1=1",
        "t=-1",
        "t",
        "t=1,t=2",
        "z=1e3",
        "z=nan",
        "z=1:2:3:4",
        "z=5:5",
        "z=9:3",
        "z=:0",
        "z=0:9:0",
        "z=0:9:-1",
        "z=a:b",
    ],
)
def test_index_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_index(text)


def test_index() -> None:
    assert parse_index("t=3, z=10") == {"t": 3, "z": 10}
    assert parse_index("z=1.5") == parse_index({"z": 1.99}) == parse_index({"z": "1"}) == {"z": 1}


@pytest.mark.parametrize(
    ("text", "planes"),
    [
        ("z=:", [*range(12)]),
        ("z=2:5", [2, 3, 4]),
        ("z=:10:5", [0, 5]),
        ("z=4::3", [4, 7, 10]),
        ("z=0:2:0.5", [0, 0, 1, 1]),
        ("z=0.5:3", [0, 1, 2]),
        ("z=0:12:1.1", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]),
        ("z=0:1:0.1", [0] * 10),
        ("z=0.000000000000000001::6", [0, 6]),
        ("z=1.00001:3:1.00001", [1, 2]),
    ],
)
def test_ranges(text: str, planes: list[int]) -> None:
    (found,) = parse_index(text).values()
    assert isinstance(found, PlaneRange)
    assert [*found.planes(12)] == planes
    assert found.count(12) == len(planes)
    assert found.begin == planes[0]
    assert parse_index(f"z={found}") == {"z": found}


def test_an_option_given_once_holds_for_all_layers() -> None:
    assert [layer.gamma for layer in request(3, gamma="2").layers] == [2, 2, 2]


def test_options_given_several_times_go_to_the_layers_in_order() -> None:
    layers = request(3, colormap=["red", "viridis"], clim=["0,1", "auto", "5,6"]).layers
    assert [layer.colormap for layer in layers] == ["red", "viridis", None]
    assert [layer.clim for layer in layers] == [(0, 1), None, (5, 6)]


def test_an_option_given_more_often_than_there_are_layers_is_refused() -> None:
    with pytest.raises(UsageError, match="--opacity is given 2 times for 1"):
        request(1, opacity=["0.5", "1"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("gamma", v) for v in ("0", "-1", "nan", "x", "1000")],
        *[("opacity", v) for v in ("-0.1", "1.1", "half")],
        *[("blending", "mix"), ("interpolation", "cubic"), ("clock", "wall"), ("gl", "vulkan")],
        *[("timeout", v) for v in ("0s", "-1s", "soon")],
        *[("min_coverage", v) for v in ("1.5", "-1", "nan")],
        *[
            ("cache", "much"),
            ("latency", "50 parsecs"),
            ("fail_rate", "2"),
            ("seed", "1.5"),
            ("labels", "yes"),
        ],
    ],
)
def test_a_wrong_value_names_its_option(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match="--" + name.replace("_", "-")):
        request(**{name: value})


def test_an_unknown_option_says_what_is_allowed() -> None:
    with pytest.raises(UsageError) as caught:
        request(zoom="3")
    assert "'zoom'" in caught.value.message
    assert "min-coverage" in (caught.value.hint or "")


def test_settle_and_stream_exclude_each_other() -> None:
    with pytest.raises(UsageError):
        request(settle=True, stream=True)


def test_the_network_is_simulated_only_when_asked_for() -> None:
    assert request(seed="3").network is None
    network = request(latency="50ms", bandwidth="20MB/s", jitter="1ms", fail_rate="0.25", seed="3").network
    assert (network.latency_ms, network.bandwidth_bytes_per_s) == (50, 20e6)
    assert (network.jitter_ms, network.fail_rate, network.seed) == (1, 0.25, 3)


def test_budgets_override_the_settings_of_this_run_only() -> None:
    r = request(cache="1MiB", atlas="2MiB")
    assert (r.settings.render.cache_bytes, r.settings.render.atlas_bytes) == (2**20, 2**21)
    assert request().settings.render.cache_bytes == 512 * 2**20


def test_values_of_a_suite_file_are_taken_as_they_are() -> None:
    r = request(gamma=2, clim=[0, 1000], labels=True, min_coverage=0.5, index={"t": 1})
    assert (r.layers[0].gamma, r.layers[0].clim, r.labels) == (2, (0, 1000), True)
    assert (r.min_coverage, r.index) == (0.5, {"t": 1})


@pytest.mark.parametrize("index", ["q=1", "q=0:3", "z=0,t=1"])
def test_an_axis_that_the_image_lacks_is_told_those_that_it_has(index: str) -> None:
    from octree.render import render

    with pytest.raises(UsageError) as refused:
        render([np.zeros((3, 30, 40), np.uint8)], options={"index": index})
    assert "there is no axis" in refused.value.message
    assert refused.value.hint == "axes: z"
