"""A graph made for one sample takes k: what bakes the 1 in is rewritten, or its node is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from build_engines import surgery
from build_engines.flavour import BuildError
from build_engines.rewrites import batch_rules
from build_engines.rewrites.batch_axis import BatchError
from build_engines.surgery import rewrite, static_shapes, why_single
from build_engines.untouched import live_bytes
from models.twins import layers as nn
from models.twins.builder import Graph, Tensor
from tests.unit.small_files import Layer, error_by_row, file_of, layer_of, run, twin_of

COUNT = 3


def ints(g: Graph, *values: int) -> Tensor:
    return g.constant(np.array(values, np.int64))


def moved_there_and_back(g: Graph, x: Tensor) -> Tensor:
    y = nn.reshape(g, x, (1, 4, 36))
    return nn.reshape(g, nn.scaled(g, y, 2.0), (1, 4, 6, 6))


def rows_of_channels(g: Graph, x: Tensor) -> Tensor:
    """Channels become rows, where a constant has a row for each; they come back after it."""
    y = nn.add(g, nn.reshape(g, x, (4, 36)), g.weight((4, 36), 1.0))
    y = g.op("Gemm", y, g.weight((36, 36), 0.2), g.weight((4, 36), 1.0), shape=(4, 36))
    return nn.reshape(g, nn.relu(g, y), (1, 4, 6, 6))


def expanded(g: Graph, x: Tensor) -> Tensor:
    return nn.add(g, x, g.op("Expand", nn.mean(g, x, (2, 3)), ints(g, 1, 4, 6, 6), shape=x.shape))


def tiled(g: Graph, x: Tensor) -> Tensor:
    return g.op("Tile", nn.mean(g, x, (2, 3)), ints(g, 1, 1, 2, 3), shape=(1, 4, 2, 3))


def cut_to_one_row(g: Graph, x: Tensor) -> Tensor:
    """The slice names the batch, as exporters of x[0:1, 1:3] do."""
    return g.op("Slice", x, ints(g, 0, 1), ints(g, 1, 3), ints(g, 0, 1), shape=(1, 2, 6, 6))


def row_by_number(g: Graph, x: Tensor) -> Tensor:
    y = g.op("Gather", x, g.constant(np.array(0, np.int64)), shape=(4, 6, 6), axis=0)
    return g.op("Unsqueeze", nn.relu(g, y), ints(g, 0), shape=(1, 4, 6, 6))


def squeezed(g: Graph, x: Tensor) -> Tensor:
    y = nn.relu(g, g.op("Squeeze", x, ints(g, 0), shape=(4, 6, 6)))
    return nn.reshape(g, y, (1, 4, 36))


def flattened_from_the_batch(g: Graph, x: Tensor) -> Tensor:
    return g.op("Flatten", nn.relu(g, x), shape=(1, 144), axis=0)


def joined_with_a_constant(g: Graph, x: Tensor) -> Tensor:
    return nn.concat(g, x, g.weight((1, 1, 6, 6), 1.0))


def joined_with_what_all_share(g: Graph, x: Tensor) -> Tensor:
    """The shared part is computed, but too large a constant to see in it: it is folded and repeated."""
    return nn.concat(g, x, nn.relu(g, g.weight((1, 2, 6, 6), 1.0)))


def constant_grid(g: Graph, x: Tensor) -> Tensor:
    grid = g.weight((1, 5, 5, 2), 0.5)
    return g.op("GridSample", x, grid, shape=(1, 4, 5, 5), mode="bilinear", align_corners=0)


def resized_to_sizes(g: Graph, x: Tensor) -> Tensor:
    return g.op("Resize", x, None, None, ints(g, 1, 4, 12, 9), shape=(1, 4, 12, 9), mode="linear")


def recurrent(g: Graph, x: Tensor) -> Tensor:
    """Axes (time, batch, values), a constant first state with one row."""
    y = nn.transpose(g, nn.reshape(g, x, (1, 24, 6)), (1, 0, 2))
    weights = (g.weight((1, 20, 6), 0.3), g.weight((1, 20, 5), 0.3), g.weight((1, 40), 0.1))
    state = (g.weight((1, 1, 5), 0.5), g.weight((1, 1, 5), 0.5))
    y = g.op("LSTM", y, *weights, None, *state, shape=(24, 1, 1, 5), hidden_size=5)
    return nn.transpose(g, g.op("Squeeze", y, ints(g, 1), shape=(24, 1, 5)), (1, 0, 2))


def heads_in_the_batch(g: Graph, x: Tensor) -> Tensor:
    """Attention as torch writes it: axes (token, batch, width), and heads merged into the batch."""
    y = nn.transpose(g, nn.reshape(g, x, (1, 12, 12)), (1, 0, 2))
    y = nn.transpose(g, nn.reshape(g, y, (12, 3, 4)), (1, 0, 2))
    scores = nn.softmax(g, nn.matmul(g, y, nn.transpose(g, y, (0, 2, 1))))
    y = nn.transpose(g, nn.matmul(g, scores, y), (1, 0, 2))
    return nn.transpose(g, nn.reshape(g, y, (12, 1, 12)), (1, 0, 2))


def tokens_before_samples(g: Graph, x: Tensor) -> Tensor:
    """Axes (token, batch, width) flattened to rows for a dense layer: all samples' first tokens come first."""
    y = nn.transpose(g, nn.reshape(g, x, (1, 12, 12)), (1, 0, 2))
    y = nn.reshape(g, y, (12, 12))
    y = g.op("Gemm", y, g.weight((12, 12), 0.3), g.weight((12, 12), 1.0), shape=(12, 12))
    y = nn.softmax(g, nn.mul(g, y, g.weight((12, 12), 1.0)))
    return nn.transpose(g, nn.reshape(g, y, (12, 1, 12)), (1, 0, 2))


def first_token(g: Graph, x: Tensor) -> Tensor:
    """One token of axes (token, batch, width), as a class token is taken; the batch moves up an axis."""
    y = nn.transpose(g, nn.reshape(g, x, (1, 12, 12)), (1, 0, 2))
    return nn.relu(g, g.op("Gather", y, g.constant(np.array(2, np.int64)), shape=(1, 12), axis=0))


def batch_as_channels(g: Graph, x: Tensor) -> Tensor:
    """Instance norm over (1, batch x channels), as an exporter of one sample may leave it."""
    return nn.instance_norm(g, nn.reshape(g, x, (1, 4, 6, 6)))


def summed_by_letters(g: Graph, x: Tensor) -> Tensor:
    return g.op("Einsum", x, g.weight((1, 4, 5), 0.5), shape=(1, 5, 6, 6), equation="nchw,ncd->ndhw")


def scattered(g: Graph, x: Tensor) -> Tensor:
    """The largest of each row marked in a constant table with a row for each."""
    rows = nn.reshape(g, x, (24, 6))
    place = g.op("ArgMax", rows, shape=(24, 1), axis=1, keepdims=1)
    marked = g.op(
        "ScatterElements", g.constant(np.zeros((24, 6))), place, g.constant(np.ones((24, 1))), shape=(24, 6), axis=1
    )
    return nn.reshape(g, nn.mul(g, marked, rows), (1, 4, 36))


def shape_asked_for(g: Graph, x: Tensor) -> Tensor:
    """Sizes computed from the input's own shape with the 1 written beside them."""
    sizes = g.op("Slice", g.op("Shape", x, shape=(4,)), ints(g, 2), ints(g, 4), shape=(2,))
    target = g.op("Concat", ints(g, 1, 2, 2), sizes, shape=(5,), axis=0)
    y = g.op("Reshape", x, target, shape=(1, 2, 2, 6, 6))
    y = nn.transpose(g, y, (0, 2, 1, 3, 4))
    return nn.reshape(g, y, (1, 4, 36))


BAKED: list[Layer] = [
    moved_there_and_back, rows_of_channels, expanded, tiled, cut_to_one_row, row_by_number, squeezed,
    flattened_from_the_batch, joined_with_a_constant, joined_with_what_all_share, constant_grid, resized_to_sizes,
    recurrent, heads_in_the_batch, tokens_before_samples, first_token, batch_as_channels, summed_by_letters, scattered,
    shape_asked_for,
]  # fmt: skip


@pytest.mark.parametrize("layer", BAKED, ids=lambda layer: layer.__name__)
def test_each_row_is_what_a_single_run_of_the_file_gives(layer: Layer, tmp_path: Path) -> None:
    file = layer_of(layer, tmp_path / "a.onnx")
    assert why_single(file) == ""
    done = rewrite(file, static_shapes(file, {"n": COUNT}))
    assert done.max_error is not None
    assert done.max_error <= 1e-4
    assert done.measured_batch == COUNT
    assert error_by_row(file, done.model, COUNT) <= 1e-5
    assert run(done.model, {"x": np.zeros((COUNT, 4, 6, 6), np.float32)})["y"].shape[0] == COUNT


def weights_of_data(g: Graph, x: Tensor) -> Tensor:
    kernel = nn.reshape(g, x, (4, 4, 3, 3))
    return g.op("Conv", x, kernel, shape=(1, 4, 4, 4))


def among_samples(g: Graph, x: Tensor) -> Tensor:
    return nn.add(g, g.op("Softmax", x, shape=x.shape, axis=0), x)


def mean_of_samples(g: Graph, x: Tensor) -> Tensor:
    return nn.mean(g, x, (0, 2))


def joined_to_two(g: Graph, x: Tensor) -> Tensor:
    return nn.mean(g, nn.concat(g, x, x, axis=0), (0,))


def unknown_operator(g: Graph, x: Tensor) -> Tensor:
    return g.op("Shrink", x, shape=x.shape)


def spread_over_rows(g: Graph, x: Tensor) -> Tensor:
    return nn.mean(g, nn.mul(g, x, g.weight((5, 1, 1, 1), 1.0)), (1,))


def products_of_samples(g: Graph, x: Tensor) -> Tensor:
    y = nn.reshape(g, x, (24, 6))
    return nn.reshape(g, nn.matmul(g, y, nn.reshape(g, x, (6, 24))), (1, 576))


def cut_in_the_batch(g: Graph, x: Tensor) -> Tensor:
    return g.op("Slice", nn.reshape(g, x, (4, 36)), ints(g, 1), ints(g, 2), ints(g, 0), shape=(1, 36))


HELD: list[tuple[Layer, str]] = [
    (weights_of_data, "Conv Conv_1, which takes data of each sample as its weights"),
    (among_samples, "Softmax Softmax_0, which works along the axis of the batch"),
    (mean_of_samples, "ReduceMean ReduceMean_0, which reduces along the axis of the batch"),
    (joined_to_two, "Concat Concat_0, which joins along the axis of the batch"),
    (unknown_operator, "Shrink Shrink_0, which is no operator that a batch is known to pass"),
    (spread_over_rows, "Mul Mul_0, which spreads the sample over 5 rows"),
    (products_of_samples, "MatMul MatMul_2, which adds up along the axis of the batch"),
    (cut_in_the_batch, "Slice Slice_1, which cuts along the axis of the batch"),
]


@pytest.mark.parametrize(("layer", "reason"), HELD, ids=[layer.__name__ for layer, _ in HELD])
def test_a_graph_that_mixes_samples_is_refused_with_its_node(layer: Layer, reason: str, tmp_path: Path) -> None:
    file = layer_of(layer, tmp_path / "a.onnx")
    sentence = f"small (a.onnx): wanted a graph for a batch of 3, got {reason}; build it for one face at a time"
    with pytest.raises(BatchError) as caught:
        rewrite(file, {"x": (3, 4, 6, 6)})
    assert str(caught.value) == sentence
    assert rewrite(file, {"x": (1, 4, 6, 6)}).batch == 1


def test_an_output_without_an_axis_for_the_batch_is_named(tmp_path: Path) -> None:
    file = layer_of(lambda g, x: nn.relu(g, nn.reshape(g, x, (4, 36))), tmp_path / "a.onnx")
    assert why_single(file) == "output y float32 [4, 36] has no axis for it"
    with pytest.raises(BatchError, match=r"batch of 3 on axis 0 of the output y, got it on axis 0 of \[4, 36\]; build"):
        rewrite(file, {"x": (3, 4, 6, 6)})


def test_a_wrong_rule_is_caught_by_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Softmax over the samples keeps every shape: only running it beside the file shows it."""
    file = layer_of(among_samples, tmp_path / "a.onnx")
    monkeypatch.setitem(batch_rules.RULES, "Softmax", batch_rules.RULES["Relu"])
    with pytest.raises(BuildError, match=r"wanted the output y within 1e-04 of the untouched file at batch 3, got \d"):
        rewrite(file, {"x": (3, 4, 6, 6)})
    assert rewrite(file, {"x": (3, 4, 6, 6)}, measure=False).max_error is None


def test_a_batch_too_large_to_run_is_measured_at_a_smaller_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = layer_of(heads_in_the_batch, tmp_path / "a.onnx")
    single = live_bytes(rewrite(file, {"x": (1, 4, 6, 6)}).model)
    monkeypatch.setattr(surgery, "_LIVE_MAX_BYTES", 5 * single)
    done = rewrite(file, {"x": (8, 4, 6, 6)})
    assert (done.batch, done.measured_batch) == (8, 5)
    assert done.max_error is not None
    assert done.max_error <= 1e-4
    assert error_by_row(file, done.model, 8) <= 1e-5


def test_memory_of_a_run_counts_what_is_alive_at_once(tmp_path: Path) -> None:
    """Input and first result; first and second; then the sum keeps the first beside the second and itself."""

    def layer(g: Graph, x: Tensor) -> Tensor:
        first = nn.relu(g, x)
        return nn.add(g, nn.sigmoid(g, first), first)

    file = layer_of(layer, tmp_path / "a.onnx")
    tensor_bytes = 4 * 6 * 6 * 4
    assert live_bytes(rewrite(file, {"x": (1, 4, 6, 6)}).model) == 3 * tensor_bytes


def test_a_batch_that_is_free_by_name_only_is_lifted_too(tmp_path: Path) -> None:
    g = Graph("small", opset=17, batch="n")
    x = g.input("x", ("n", 4, 6, 6))
    g.output("y", nn.concat(g, nn.relu(g, x), g.weight((1, 1, 6, 6), 1.0)))
    file = file_of(g, tmp_path / "a.onnx")
    done = rewrite(file, {"x": (COUNT, 4, 6, 6)})
    assert done.places["constants that baked the batch in"] == 1
    assert error_by_row(file, done.model, COUNT) <= 1e-5


def test_one_sample_of_an_input_is_shared_by_all(tmp_path: Path) -> None:
    g = Graph("small", opset=17)
    x, style = g.input("x", (1, 4, 6, 6)), g.input("style", (1, 4))
    g.output("y", nn.mul(g, x, nn.reshape(g, style, (1, 4, 1, 1))))
    g.output("beside", nn.concat(g, nn.reshape(g, x, (1, 144)), nn.relu(g, style)))
    file = file_of(g, tmp_path / "a.onnx")
    x_values = np.random.default_rng(1).random((COUNT, 4, 6, 6), np.float32)
    style_values = np.array([[1, 2, 3, 4]], np.float32)
    shared = rewrite(file, {"x": (COUNT, 4, 6, 6), "style": (1, 4)}).model
    found = run(shared, {"x": x_values, "style": style_values})
    np.testing.assert_allclose(found["y"], x_values * style_values[..., None, None], atol=1e-6)
    np.testing.assert_array_equal(found["beside"][:, 144:], np.repeat(style_values, COUNT, axis=0))
    with pytest.raises(BuildError, match="wanted one batch for all inputs, got x 3, style 2; give them one first axis"):
        rewrite(file, {"x": (COUNT, 4, 6, 6), "style": (2, 4)})


def test_a_batch_can_lie_on_another_axis(tmp_path: Path) -> None:
    """A recurrent state [layers, n, width], as the audio encoder's contract has it."""
    file = twin_of("dh_live_audio2bs", tmp_path)
    shapes = static_shapes(file, {"n": COUNT, "frames": 2})
    assert shapes["h0"] == (2, COUNT, 192)
    done = rewrite(file, shapes)
    assert done.places["constants that baked the batch in"] > 0
    assert done.max_error is not None
    feeds: dict[str, Any] = {
        name: np.random.default_rng(2).uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()
    }
    whole = run(done.model, feeds)
    for row in range(COUNT):
        take = [slice(row, row + 1), (slice(None), slice(row, row + 1))]
        single = run(file.path, {n: v[take[n != "x"]] for n, v in feeds.items()})
        np.testing.assert_allclose(whole["y"][row : row + 1], single["y"], atol=1e-5)
        np.testing.assert_allclose(whole["hn"][:, row : row + 1], single["hn"], atol=1e-5)
