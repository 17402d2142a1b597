"""An export holds what the profile holds, in every format, and a failing write leaves the old file whole."""

import csv
import io
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from laminar_tui.errors import UsageError
from laminar_tui.export import EXPORTS, ExportOptions, export_bytes, export_profile, make_figure, profile_summary
from laminar_tui.profile.counts import PackedCounts, count_weights, stack
from laminar_tui.profile.parts import POPULATIONS, SINK_CHOICES, SinkChoice
from laminar_tui.profile.profile import LayerProfile, Origin, Profile
from laminar_tui.profile.statistics import STATISTICS, pattern_statistics

N_LAYERS, N_HEADS, N_TOKENS, N_GRID = 3, 2, 12, 40
NOT_READ = 1
HOSTILE = "\x1b[31m<script>"
COMBINATIONS: list[tuple[str, SinkChoice]] = [(p, s) for p in POPULATIONS for s in SINK_CHOICES]


def random_pattern(rng: np.random.Generator) -> np.ndarray:
    """A causal pattern [query, key] with a sink."""
    logits = rng.normal(0, 2, (N_TOKENS, N_TOKENS))
    logits[:, 0] += 2
    logits[np.triu_indices(N_TOKENS, 1)] = -np.inf
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True)


def cut(pattern: np.ndarray) -> dict[str, np.ndarray]:
    last = pattern[-1]
    return {
        "origin": pattern[0, :1],
        "self": np.diag(pattern)[1:],
        "sink": pattern[1:, 0],
        "content": pattern[:, 1:][np.tril_indices(N_TOKENS, -2, N_TOKENS - 1)],
        "final.self": last[-1:],
        "final.sink": last[:1],
        "final.content": last[1:-1],
    }


def make_layer(patterns: list[np.ndarray]) -> LayerProfile:
    parts = [cut(pattern) for pattern in patterns]
    packed = {name: PackedCounts.pack(stack([count_weights(each[name]) for each in parts])) for name in parts[0]}
    numbers = [pattern_statistics(pattern) for pattern in patterns]
    return LayerProfile(packed, {name: np.array([each[name] for each in numbers]) for name in STATISTICS})


@pytest.fixture(scope="module")
def profile() -> Profile:
    """Layer 1 is not read; the last layer has a head less than the first."""
    rng = np.random.default_rng(0)
    first = make_layer([random_pattern(rng) for _ in range(N_HEADS)])
    last = make_layer([random_pattern(rng)])
    origin = Origin(
        model=HOSTILE,
        architecture="test",
        dtype="float32",
        device="cpu",
        mechanism="tap",
        layer_kinds=("attention", "mamba", "attention"),
        tokens=("\x1b", "", *("t" * (N_TOKENS - 2))),
        token_ids=tuple(range(N_TOKENS)),
        seconds=float("nan"),
    )
    return Profile(origin, (first, None, last))


def with_self_weights(profile: Profile, weights: list[float]) -> Profile:
    """The first layer alone, with one head's weights on the token itself replaced and the others taken away."""
    first = profile.layer(0)
    counts = stack([count_weights(np.array(each)) for each in (weights, [])])
    return replace(profile, layers=(replace(first, parts={**first.parts, "self": PackedCounts.pack(counts)}),))


def load_npz(payload: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def arrays(profile: Profile) -> dict[str, np.ndarray]:
    return load_npz(export_bytes(profile, "npz", ExportOptions(n_grid=N_GRID)))


@pytest.fixture(scope="module")
def document(profile: Profile) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    payload = export_bytes(profile, "json", ExportOptions(n_grid=N_GRID))
    parsed: dict[str, Any] = json.loads(payload, parse_constant=refuse)
    return parsed


@pytest.fixture(scope="module")
def table(profile: Profile) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(export_bytes(profile, "csv").decode())))


# -- npz -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("population", "sink"), COMBINATIONS)
def test_npz_densities_are_those_of_the_profile(
    profile: Profile, arrays: dict[str, np.ndarray], population: str, sink: SinkChoice
) -> None:
    by_layer = profile.density(population, sink, "layer", "gaussian", N_GRID)
    by_head = profile.density(population, sink, "head", "gaussian", N_GRID)
    key = f"{population}.{sink}"
    np.testing.assert_array_equal(arrays[f"density_layer.{key}"], by_layer.values)
    np.testing.assert_array_equal(arrays[f"density_head.{key}"], by_head.values)
    np.testing.assert_array_equal(arrays[f"bandwidth_layer.{key}"], by_layer.bandwidth)
    np.testing.assert_array_equal(arrays[f"bandwidth_head.{key}"], by_head.bandwidth)
    np.testing.assert_array_equal(arrays["grid"], by_layer.grid)
    assert arrays[f"density_head.{key}"].shape == (N_LAYERS, N_HEADS, N_GRID)
    assert arrays[f"density_head.{key}"].dtype == np.float64


@pytest.mark.parametrize(("population", "sink"), COMBINATIONS)
def test_npz_sums_are_those_of_the_counts(
    profile: Profile, arrays: dict[str, np.ndarray], population: str, sink: SinkChoice
) -> None:
    counts = profile.counts(population, sink)
    np.testing.assert_array_equal(arrays[f"n.{population}.{sink}"], counts.n)
    np.testing.assert_array_equal(arrays[f"total.{population}.{sink}"], counts.total)
    np.testing.assert_array_equal(arrays[f"total_sq.{population}.{sink}"], counts.total_sq)


def test_npz_names_model_estimator_tokens_and_every_statistic(profile: Profile, arrays: dict[str, np.ndarray]) -> None:
    assert str(arrays["model"]) == HOSTILE
    assert str(arrays["estimator"]) == "gaussian"
    assert tuple(arrays["tokens"]) == profile.origin.tokens
    assert tuple(arrays["token_ids"]) == profile.origin.token_ids
    for name in STATISTICS:
        np.testing.assert_array_equal(arrays[f"stat.{name}"], profile.statistics[name])


def test_npz_has_nothing_but_what_is_documented(arrays: dict[str, np.ndarray]) -> None:
    kinds = ("density_layer", "density_head", "n", "total", "total_sq", "bandwidth_layer", "bandwidth_head")
    expected = {f"{kind}.{population}.{sink}" for kind in kinds for population, sink in COMBINATIONS}
    expected |= {f"stat.{name}" for name in STATISTICS} | {"grid", "tokens", "token_ids", "estimator", "model"}
    assert set(arrays) == expected


# -- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("population", "sink"), COMBINATIONS)
def test_json_holds_numbers_and_densities_to_six_digits(
    profile: Profile, document: dict[str, Any], population: str, sink: SinkChoice
) -> None:
    density = profile.density(population, sink, "layer", "gaussian", N_GRID)
    layers = document["populations"][population][sink]
    for index in (0, 2):
        counts = profile.layer(index).layer_counts(population, sink)
        layer = layers[index]
        assert layer["n"] == counts.n
        np.testing.assert_allclose(layer["density"], density.values[index], rtol=5e-6)
        if counts.n:
            assert layer["mean"] == pytest.approx(float(counts.mean), rel=5e-6)
            assert layer["median"] == pytest.approx(float(counts.quantile(0.5)), rel=5e-6)
        else:
            assert layer["mean"] is layer["median"] is layer["bandwidth"] is None


def test_json_has_null_for_what_was_not_read(document: dict[str, Any]) -> None:
    layer = document["populations"]["all"]["with"][NOT_READ]
    assert layer["n"] == 0
    assert {name for name, value in layer.items() if value is None} == set(layer) - {"n"}
    assert document["statistics"]["entropy"][NOT_READ] == [None, None]
    assert document["origin"]["seconds"] is None


def test_shares_are_those_of_the_weights(profile: Profile) -> None:
    crafted = with_self_weights(profile, [0.001, 0.009, 0.0099, 0.011, 0.49, 0.5, 0.51, 0.6])
    layer = json.loads(profile_summary(crafted))["populations"]["self"]["with"][0]
    assert (layer["n"], layer["share_above_0.5"], layer["share_below_0.01"]) == (8, 2 / 8, 3 / 8)


def test_json_is_one_ascii_line_without_control_characters(profile: Profile) -> None:
    payload = export_bytes(profile, "json", ExportOptions(n_grid=N_GRID))
    assert payload.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in payload[:-1])


def test_the_summary_is_the_json_without_densities(profile: Profile, document: dict[str, Any]) -> None:
    summary = json.loads(profile_summary(profile))
    assert summary["origin"] == document["origin"]
    assert summary["statistics"] == document["statistics"]
    full = document["populations"]["past"]["without"][0]
    assert summary["populations"]["past"]["without"][0] == {
        name: value for name, value in full.items() if name not in ("density", "bandwidth")
    }


# -- CSV -------------------------------------------------------------------------------------------------------------


def test_csv_has_a_row_for_every_head_that_was_read(table: list[dict[str, str]]) -> None:
    assert [(row["layer"], row["head"]) for row in table] == [("0", "0"), ("0", "1"), ("2", "0")]


def test_csv_parses_back_to_the_profiles_numbers(profile: Profile, table: list[dict[str, str]]) -> None:
    assert len(table[0]) == 2 + len(STATISTICS) + 5 * len(COMBINATIONS)
    for row in table:
        layer, head = int(row["layer"]), int(row["head"])
        for name in STATISTICS:
            expected = profile.statistics[name][layer, head]
            assert float(row[name] or "nan") == pytest.approx(expected, rel=5e-6, nan_ok=True)
        for population, sink in COMBINATIONS:
            counts = profile.layer(layer).head_counts(population, sink)[head]
            assert int(row[f"{population}.{sink}.n"]) == counts.n
            mean = float(row[f"{population}.{sink}.mean"] or "nan")
            assert mean == pytest.approx(float(counts.mean), rel=5e-6, nan_ok=True)


def test_csv_leaves_undefined_numbers_empty(table: list[dict[str, str]]) -> None:
    assert table[0]["self.only.n"] == "0"
    assert table[0]["self.only.median"] == table[0]["self.only.share_below_0.01"] == ""


# -- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["gaussian", "reflected", "histogram", "log"])
def test_svg_is_harmless_xml_that_names_model_population_and_estimator(profile: Profile, estimator: str) -> None:
    payload = export_bytes(profile, "svg", ExportOptions(estimator, population="past", sink="without"))
    root = ElementTree.fromstring(payload)
    text = " ".join(element.text or "" for element in root.iter())
    assert "each token → previous tokens, without the sink" in text
    assert "␛[31m<script>" in text
    assert "not read or without attention: 1" in text
    assert b"<script" not in payload
    assert not any(byte < 0x20 and byte != 0x0A for byte in payload)


def test_a_figure_of_a_layer_has_its_heads_as_columns(profile: Profile) -> None:
    layers = make_figure(profile, ExportOptions(population="past"))
    heads = make_figure(profile, ExportOptions(population="past", layer=0))
    assert layers.density.shape == (N_LAYERS, 200)
    assert np.isnan(layers.density[NOT_READ]).all()
    assert heads.density.shape == (N_HEADS, 200)
    assert heads.x_title == "head of layer 0"
    # Both have the same number of weights in each head, so the layer is the mean of its heads' histograms.
    for sink in SINK_CHOICES:
        pooled = make_figure(profile, ExportOptions("histogram", population="past", sink=sink)).density[0]
        apart = make_figure(profile, ExportOptions("histogram", population="past", sink=sink, layer=0)).density
        np.testing.assert_allclose(pooled, apart.mean(axis=0), atol=1e-9)


def test_a_figure_of_a_stretch_and_an_order_has_these_axes(profile: Profile) -> None:
    whole = make_figure(profile, ExportOptions("reflected", population="all", layer=0))
    heads = tuple(map(int, whole.x_labels[::-1]))
    options = ExportOptions("reflected", population="all", layer=0, window=(0.25, 0.5), heads=heads)
    figure = make_figure(profile, options)
    assert list(figure.x_labels) == list(whole.x_labels[::-1])
    assert (figure.y_low, figure.y_high) == (0.25, 0.5)
    n = whole.density.shape[1]
    within = whole.density[::-1, n // 4 : n // 2].mean(axis=1)
    np.testing.assert_allclose(figure.density.mean(axis=1), within, rtol=1e-9)


def test_a_figures_cells_hold_all_the_mass(profile: Profile) -> None:
    density = make_figure(profile, ExportOptions("reflected", population="all")).density
    np.testing.assert_allclose(density[[0, 2]].mean(axis=1), 1.0, rtol=1e-9)


@pytest.mark.parametrize(("population", "sink"), COMBINATIONS)
def test_the_colour_scale_ends_at_the_highest_density_one_to_six_decades_above_its_start(
    profile: Profile, population: str, sink: SinkChoice
) -> None:
    figure = make_figure(profile, ExportOptions("reflected", population=population, sink=sink))
    highest = np.nanmax(figure.density)
    assert figure.high == (highest if highest > 0 else 1.0)
    assert 1 - 1e-9 <= np.log10(figure.high / figure.low) <= 6 + 1e-9


def test_the_colour_scale_starts_at_a_third_of_a_weight_of_the_largest_column(profile: Profile) -> None:
    crafted = with_self_weights(profile, [0.001] * 1000)
    figure = make_figure(crafted, ExportOptions("histogram", population="self"))
    assert figure.high == pytest.approx(200)  # all in one cell of 200
    assert figure.low == pytest.approx(1 / 3 / 1000 * 200)


@pytest.mark.parametrize("estimator", ["reflected", "gaussian", "histogram"])
def test_a_single_weight_far_from_all_others_is_seen(profile: Profile, estimator: str) -> None:
    """Its kernel is several cells wide, so that it is fainter than a weight in one cell."""
    weights = np.random.default_rng(0).beta(0.3, 30, 1000).tolist()
    figure = make_figure(with_self_weights(profile, [*weights, 0.8]), ExportOptions(estimator, population="self"))
    seen = figure.density[0, 150:170] > figure.low
    assert seen.any()
    assert not (figure.density[0, 100:150] > figure.low).any()


def test_a_long_path_as_model_shows_only_its_last_folder(profile: Profile) -> None:
    there = replace(profile, origin=replace(profile.origin, model="/home/someone/models/tiny"))
    assert make_figure(there, ExportOptions()).subtitle.startswith("tiny · 12 tokens")


def test_png_is_an_image_of_the_figure(profile: Profile) -> None:
    image_module = pytest.importorskip("PIL.Image")
    payload = export_bytes(profile, "png", ExportOptions(population="past"))
    image = np.asarray(image_module.open(io.BytesIO(payload)))
    svg = ElementTree.fromstring(export_bytes(profile, "svg", ExportOptions(population="past")))
    assert struct.unpack(">II", payload[16:24]) == (2 * int(svg.attrib["width"]), 2 * int(svg.attrib["height"]))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20


# -- all formats -----------------------------------------------------------------------------------------------------


def needs_pillow(to: str) -> None:
    if to == "png":
        pytest.importorskip("PIL")


@pytest.mark.parametrize("to", EXPORTS)
def test_the_same_profile_gives_the_same_bytes(
    profile: Profile, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_pillow(to)
    first = export_bytes(profile, to, ExportOptions(n_grid=N_GRID))
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    export_profile(profile, to, tmp_path / "out", n_grid=N_GRID)
    assert (tmp_path / "out").read_bytes() == first
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("to", EXPORTS)
def test_a_dash_writes_to_the_standard_output(
    profile: Profile, to: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    needs_pillow(to)
    export_profile(profile, to, "-", n_grid=N_GRID)
    assert capfdbinary.readouterr().out == export_bytes(profile, to, ExportOptions(n_grid=N_GRID))


def test_the_table_of_formats_names_each_by_its_key() -> None:
    assert list(EXPORTS) == ["npz", "json", "csv", "svg", "png"]
    for name, export in EXPORTS.items():
        assert (export.name, export.suffix) == (name, f".{name}")
        assert export.description


@pytest.mark.parametrize(
    ("to", "options", "word"),
    [
        ("pdf", {}, "pdf"),
        ("svg", {"layer": 9}, "layer 9"),
        ("svg", {"layer": NOT_READ}, "mamba"),
        ("npz", {"estimator": "magic"}, "magic"),
        ("csv", {"population": "nobody"}, "nobody"),
        ("json", {"sink": "maybe"}, "maybe"),
        ("npz", {"n_grid": 1}, "1 points"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(
    profile: Profile, tmp_path: Path, to: str, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(UsageError) as caught:
        export_profile(profile, to, tmp_path / "out", **options)
    assert word in caught.value.message + caught.value.hint
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", EXPORTS)
def test_a_profile_without_a_layer_is_refused(profile: Profile, to: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no attention weights"):
        export_profile(Profile(profile.origin, (None, None)), to, tmp_path / "out")


# -- writing ---------------------------------------------------------------------------------------------------------


def fail(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("write", ["export", "save"])
def test_a_failing_write_leaves_the_old_file_and_no_other(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, write: str
) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    writers: dict[str, Callable[[], None]] = {
        "export": lambda: export_profile(profile, "csv", target),
        "save": lambda: profile.save(target),
    }
    monkeypatch.setattr(broken, fail)
    with pytest.raises(UsageError, match="No space left on device"):
        writers[write]()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_only_regular_files_are_replaced(profile: Profile, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_bytes(b"old")
    (tmp_path / "link").symlink_to(real)
    for target in (tmp_path, tmp_path / "link", Path("/dev/null"), Path("/")):
        with pytest.raises(UsageError, match="no regular file"):
            export_profile(profile, "csv", target)
    assert real.read_bytes() == b"old"


def test_a_place_that_cannot_be_written_to_is_a_usage_error(profile: Profile, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    for target in (tmp_path / "nowhere" / "out", tmp_path / "file" / "out", tmp_path / ("x" * 300)):
        with pytest.raises(UsageError, match="cannot write"):
            export_profile(profile, "csv", target)


# -- value norms -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def normed(profile: Profile) -> Profile:
    """The profile with the lengths of its value vectors in the last layer only, which has one head."""
    norms = np.random.default_rng(3).uniform(0.1, 2.0, (1, N_TOKENS)).astype(np.float32)
    origin = replace(profile.origin, tokens=tuple("abcdefghijkl"), token_ids=tuple(range(N_TOKENS)))
    return Profile(origin, (*profile.layers[:-1], replace(profile.layer(N_LAYERS - 1), value_norms=norms)))


def test_npz_holds_the_value_norms(normed: Profile, profile: Profile) -> None:
    found = np.load(io.BytesIO(export_bytes(normed, "npz", ExportOptions(n_grid=N_GRID))))["value_norms"]
    norms = normed.layer(N_LAYERS - 1).value_norms
    assert norms is not None
    assert (found.shape, found.dtype) == ((N_LAYERS, N_HEADS, N_TOKENS), np.float64)
    np.testing.assert_array_equal(found[-1, 0], norms[0].astype(np.float64))
    assert np.isnan(found[:-1]).all()
    assert np.isnan(found[-1, 1:]).all()
    assert "value_norms" not in np.load(io.BytesIO(export_bytes(profile, "npz", ExportOptions(n_grid=N_GRID))))


def test_json_holds_the_value_norms(normed: Profile, profile: Profile) -> None:
    found = json.loads(export_bytes(normed, "json"))["value_norms"]
    norms = normed.layer(N_LAYERS - 1).value_norms
    assert norms is not None
    np.testing.assert_allclose(found[-1][0], norms[0], rtol=5e-6)
    assert found[0][0] == [None] * N_TOKENS
    assert "value_norms" not in json.loads(export_bytes(profile, "json"))


def test_csv_holds_the_mean_and_the_first_value_norm(normed: Profile, profile: Profile) -> None:
    rows = list(csv.DictReader(io.StringIO(export_bytes(normed, "csv").decode())))
    norms = normed.layer(N_LAYERS - 1).value_norms
    assert norms is not None
    assert float(rows[-1]["value_norm.mean"]) == pytest.approx(float(norms.mean()), rel=5e-6)
    assert float(rows[-1]["value_norm.first_key"]) == pytest.approx(float(norms[0, 0]), rel=5e-6)
    assert rows[0]["value_norm.mean"] == ""
    assert "value_norm.mean" not in export_bytes(profile, "csv").decode()


@pytest.mark.parametrize(
    ("recipe", "label"),
    [
        ("literal", "CONTROL 'literal': not the model's weights"),
        ("null: shuffled tokens", "NULL: shuffled tokens"),
    ],
)
def test_a_figure_says_what_is_no_model_s_weights_and_which_revision(profile: Profile, recipe: str, label: str) -> None:
    control = replace(profile, origin=replace(profile.origin, model="tiny", recipe=recipe, revision="step1000"))
    assert make_figure(control, ExportOptions()).subtitle.startswith(f"{label} · tiny@step1000 · ")
