"""The settings file: found, read strictly, never shared; and ``octree config``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octree.cli.app import run
from octree.pyramid.errors import UsageError
from octree.pyramid.units import bytes_text, parse_bytes, parse_ms, parse_rate
from octree.render.config import LoaderSettings, PoolSettings, default_settings, load_settings

NAPARI = {
    "loader_defaults": {
        "log_path": None,
        "force_synchronous": False,
        "num_workers": 10,
        "use_processes": False,
        "auto_sync_ms": 30,
        "delay_queue_ms": 100,
    },
    "octree": {
        "enabled": True,
        "tile_size": 256,
        "log_path": None,
        "loaders": {
            "0": {"num_workers": 10, "delay_queue_ms": 100},
            "2": {"num_workers": 10, "delay_queue_ms": 0},
        },
    },
}


def write(path: Path, document: object) -> str:
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return str(path)


def test_a_napari_file_works_unchanged(tmp_path: Path) -> None:
    path = write(tmp_path / "my settings ü.json", NAPARI)
    for found in (load_settings(path, {}), load_settings(Path(path), {}), load_settings(NAPARI, {})):
        assert found.loader.pools == ((0, PoolSettings()), (2, PoolSettings(delay_queue_ms=0)))
        assert found.octree.tile_size == 256
        assert found.octree.enabled is True


def test_the_defaults_are_those_promised() -> None:
    settings = load_settings(None, {})
    pools = dict(settings.loader.pools)
    assert (pools[0].num_workers, pools[0].delay_queue_ms) == (10, 100)
    assert (pools[2].num_workers, pools[2].delay_queue_ms) == (10, 0)
    assert settings.render.cache_bytes == 512 * 2**20
    assert settings.render.atlas_bytes == 256 * 2**20
    assert settings.loader.retries == 3
    assert settings.octree.enabled


def test_the_default_file_says_what_happens_without_a_file() -> None:
    assert load_settings(default_settings().to_json(), {}).to_json() == load_settings(None, {}).to_json()


def test_integer_keys_work_in_loaders() -> None:
    found = load_settings({"octree": {"loaders": {0: {"num_workers": 4}, 3: {"num_workers": 1}}}}, {})
    assert [(key, pool.num_workers) for key, pool in found.loader.pools] == [(0, 4), (3, 1)]


def test_pools_take_what_they_do_not_say_from_the_defaults() -> None:
    found = load_settings(
        {
            "loader_defaults": {"num_workers": 7, "auto_sync_ms": 5},
            "octree": {"loaders": {"1": {"num_workers": 2}}},
        },
        {},
    )
    assert found.loader.pools == ((1, PoolSettings(2, False, 5, 100)),)
    found = load_settings({"loader_defaults": {"num_workers": 7, "delay_queue_ms": 50}}, {})
    assert [(k, p.num_workers, p.delay_queue_ms) for k, p in found.loader.pools] == [(0, 7, 50), (2, 7, 0)]


@pytest.mark.parametrize(("levels_above", "key"), [(-3, 0), (0, 0), (1, 0), (2, 2), (3, 2), (5, 5), (99, 5)])
def test_the_pool_of_a_level_is_the_largest_key_that_is_not_larger(levels_above: int, key: int) -> None:
    pools = tuple((k, PoolSettings()) for k in (0, 2, 5))
    assert LoaderSettings(pools=pools).pool_key(levels_above) == key
    assert LoaderSettings(pools=pools[1:]).pool_key(0) == 2


# where the file is found


def test_the_path_comes_before_the_environment_and_octree_before_napari(tmp_path: Path) -> None:
    a, b, c = (write(tmp_path / f"{n}.json", {"octree": {"tile_size": n}}) for n in (64, 128, 512))
    env = {"OCTREE_CONFIG": b, "NAPARI_OCTREE": c}
    assert load_settings(a, env).octree.tile_size == 64
    assert load_settings(None, env).octree.tile_size == 128
    assert load_settings(None, {"NAPARI_OCTREE": c}).octree.tile_size == 512
    assert load_settings(None, env).origin == b


@pytest.mark.parametrize("value", ["1", "0", ""])
def test_napari_switches_are_no_paths(value: str) -> None:
    assert load_settings(None, {"NAPARI_OCTREE": value}) == load_settings(None, {})


def test_the_environment_of_the_process_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTREE_CONFIG", write(tmp_path / "a.json", {"octree": {"tile_size": 99}}))
    assert load_settings().octree.tile_size == 99


# strictness


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"octre": {}}, ["'octre'", "loader_defaults, octree, render"]),
        ({"octree": {"tilesize": 1}}, ["'octree.tilesize'", "tile_size"]),
        ({"loader_defaults": {"workers": 1}}, ["'loader_defaults.workers'", "num_workers"]),
        ({"octree": {"loaders": {"0": {"delay": 1}}}}, ["'octree.loaders.0.delay'", "delay_queue_ms"]),
        ({"render": {"upload": 1}}, ["'render.upload'", "upload_ms"]),
        ({"octree": {"tile_size": "256"}}, ["octree.tile_size", "'256'", "whole number"]),
        ({"octree": {"tile_size": 0}}, ["octree.tile_size", "0", "from 16"]),
        ({"octree": {"tile_size": 256.5}}, ["octree.tile_size", "256.5"]),
        ({"octree": {"enabled": 1}}, ["octree.enabled", "1", "true or false"]),
        ({"octree": {"enabled": None}}, ["octree.enabled", "None"]),
        ({"loader_defaults": {"num_workers": True}}, ["num_workers", "True"]),
        ({"loader_defaults": {"num_workers": 0}}, ["num_workers", "0", "from 1"]),
        ({"loader_defaults": {"num_workers": -1}}, ["num_workers", "-1"]),
        ({"loader_defaults": {"delay_queue_ms": -1}}, ["delay_queue_ms", "-1"]),
        ({"loader_defaults": {"delay_queue_ms": "soon"}}, ["delay_queue_ms", "'soon'", "50ms"]),
        ({"loader_defaults": {"auto_sync_ms": None}}, ["auto_sync_ms", "None"]),
        ({"loader_defaults": {"log_path": 3}}, ["log_path", "3", "a path"]),
        ({"loader_defaults": []}, ["loader_defaults", "[]", "an object"]),
        ({"octree": {"loaders": [1]}}, ["octree.loaders", "[1]", "an object"]),
        ({"octree": {"loaders": {"one": {}}}}, ["octree.loaders", "'one'", "whole numbers"]),
        ({"octree": {"loaders": {"-1": {}}}}, ["octree.loaders", "'-1'"]),
        ({"octree": {"loaders": {"0": 3}}}, ["octree.loaders.0", "3"]),
        ({"octree": {"loaders": {"0": {}, "00": {}}}}, ["level 0 twice"]),
        ({"render": {"cache_bytes": "much"}}, ["render.cache_bytes", "'much'", "512MiB"]),
        ({"render": {"hysteresis": 2}}, ["render.hysteresis", "2", "<= 0.4"]),
        ({"render": {"hysteresis": float("nan")}}, ["render.hysteresis", "nan"]),
        ({"render": {"retries": 0}}, ["render.retries", "0"]),
        ([1, 2], ["[1, 2]", "an object"]),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(
    tmp_path: Path, document: object, words: list[str]
) -> None:
    path = write(tmp_path / "s.json", document)
    with pytest.raises(UsageError) as caught:
        load_settings(path, {})
    said = f"{caught.value.message} {caught.value.hint}"
    assert all(word in said for word in [*words, "s.json"]), said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ('{"octree": {}, "octree": {}}', "'octree' appears twice"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_broken_file_is_said_with_its_path(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"b\.json") as caught:
        load_settings(write(tmp_path / "b.json", text), {})
    assert words in caught.value.message


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_settings(tmp_path / "none.json", {})
    with pytest.raises(UsageError, match="directory"):
        load_settings(tmp_path, {})
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        load_settings(tmp_path / "binary", {})


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf{}")
    assert load_settings(tmp_path / "bom.json", {}).render == load_settings(None, {}).render


def test_quantities_may_be_texts() -> None:
    found = load_settings(
        {
            "render": {"cache_bytes": "64MiB", "upload_ms": "1s"},
            "loader_defaults": {"delay_queue_ms": "0.5s"},
        },
        {},
    )
    assert found.render.cache_bytes == 64 * 2**20
    assert found.render.upload_ms == 1000
    assert dict(found.loader.pools)[0].delay_queue_ms == 500


def test_retries_of_the_render_section_reach_the_loader() -> None:
    found = load_settings({"render": {"retries": 7, "retry_delay_ms": 1, "read_timeout_ms": 0}}, {})
    assert (found.loader.retries, found.loader.retry_delay_ms, found.loader.read_timeout_ms) == (7, 1, 0)


def test_both_logs_reach_the_loader() -> None:
    found = load_settings({"loader_defaults": {"log_path": "a.txt"}, "octree": {"log_path": "b.txt"}}, {})
    assert (found.loader.log_path, found.loader.plan_log_path) == ("a.txt", "b.txt")


def test_two_runs_never_share_settings_d17() -> None:
    """D17: one path through the old code changed the defaults of the whole process."""
    document = {"octree": {"loaders": {"0": {"num_workers": 3}}}}
    first = load_settings(document, {})
    document["octree"]["loaders"]["0"]["num_workers"] = 99
    default_settings().to_json()["octree"]["loaders"]["0"]["num_workers"] = 98
    assert dict(first.loader.pools)[0].num_workers == 3
    assert dict(load_settings(None, {}).loader.pools)[0].num_workers == 10
    with pytest.raises(AttributeError):
        first.loader.retries = 5


@settings(deadline=None, max_examples=60)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "loader_defaults": st.fixed_dictionaries(
                {},
                optional={
                    "num_workers": st.integers(1, 256),
                    "use_processes": st.booleans(),
                    "auto_sync_ms": st.floats(0, 1e6),
                    "force_synchronous": st.booleans(),
                },
            ),
            "octree": st.fixed_dictionaries(
                {},
                optional={
                    "enabled": st.booleans(),
                    "tile_size": st.integers(16, 16384),
                    "loaders": st.dictionaries(
                        st.integers(0, 30).map(str),
                        st.fixed_dictionaries({}, optional={"delay_queue_ms": st.integers(0, 10**6)}),
                    ),
                },
            ),
            "render": st.fixed_dictionaries(
                {}, optional={"cache_bytes": st.integers(0, 2**50), "hysteresis": st.floats(0, 0.4)}
            ),
        },
    )
)
def test_what_is_printed_loads_to_the_same_settings(document: dict[str, object]) -> None:
    found = load_settings(document, {})
    text = json.dumps(found.to_json(), allow_nan=False)
    assert load_settings(json.loads(text), {}) == found


# quantities


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("512MiB", 2**29),
        ("1 GiB", 2**30),
        ("1.5k", 1500),
        ("2GB", 2 * 10**9),
        ("7b", 7),
        (12, 12),
        ("1e3", 1000),
        ("+5", 5),
        (".5KiB", 512),
        ("1TiB", 2**40),
    ],
)
def test_sizes(text: str | int, value: int) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("50ms", 50),
        ("50", 50),
        ("1.5s", 1500),
        ("2min", 120_000),
        ("1h", 3.6e6),
        ("250us", 0.25),
        ("250 µs", 0.25),
        (3.5, 3.5),
        ("0", 0),
    ],
)
def test_times(text: str | float, value: float) -> None:
    assert parse_ms(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20MB/s", 2e7),
        ("1GiB", 2**30),
        ("100Mbit/s", 12.5e6),
        ("8bit/s", 1),
        ("1 kB / s", 1000),
        (5, 5),
        ("10MBps", 1e7),
        ("1.5Gbit/s", 187.5e6),
    ],
)
def test_rates(text: str | float, value: float) -> None:
    assert parse_rate(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x",
        "-1",
        "1 2",
        "5XB",
        "nan",
        "inf",
        "1e400",
        "0x10",
        "٣",
        True,
        None,
        float("inf"),
        -1,
        "5 MB/s/s",
    ],
)
def test_what_is_no_quantity_is_a_usage_error(bad: object) -> None:
    for parse in (parse_bytes, parse_ms, parse_rate):
        with pytest.raises(UsageError):
            parse(bad)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="above 0"):
        parse_rate("0MB/s")


# the command


def test_the_command_prints_the_default_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "--defaults"]) == 0
    assert json.loads(capsys.readouterr().out) == default_settings().to_json()


def test_the_command_prints_what_is_in_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OCTREE_CONFIG", raising=False)
    monkeypatch.delenv("NAPARI_OCTREE", raising=False)
    path = write(tmp_path / "a.json", {"octree": {"tile_size": 99}})
    assert run(["config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["octree"]["tile_size"] is None
    assert run(["config", "--config", path]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["octree"]["tile_size"] == 99
    assert path in err
    monkeypatch.setenv("NAPARI_OCTREE", path)
    assert run(["config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["octree"]["tile_size"] == 99


def test_the_command_fails_with_code_2_and_a_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.json", {"octree": {"tile": 99}})
    assert run(["config", "--config", path, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["key"] == "octree.tile"
    assert run(["config", "--config", path, "--defaults"]) == 2


def test_the_command_starts_without_heavy_libraries() -> None:
    code = "import sys; from octree.cli.app import run; run(['config', '-q']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    heavy = {"dask", "zarr", "h5py", "tifffile", "matplotlib", "scipy", "imageio", "tensorstore", "vispy"}
    assert not heavy & set(done.stderr.split())


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1023 * 1024, "1023 KiB"),
        (5 * 2**30, "5 GiB"),
        (10**19, "8.67 EiB"),
    ],
)
def test_bytes_text(count: int, text: str) -> None:
    assert bytes_text(count) == text
