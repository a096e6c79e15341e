from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper
from tiny_models import KNOWN_B2, KNOWN_W2, build, chain, known, opaque_between, two_inputs, weight, with_weight

import reluce.verify as verify
from reluce.domain import Box, make_box
from reluce.errors import CheckFailed
from reluce.facts import Guarantee
from reluce.io import Loaded, loads
from reluce.network import Network, evaluate
from reluce.verify import Check, check, unchanged

Array = np.ndarray[Any, Any]


def loaded(model: ModelProto) -> Loaded:
    return loads(model.SerializeToString())


def promise(epsilon: float = 0.0, **outputs: int) -> Guarantee:
    sizes = outputs or {"y": 2}
    epsilons = {name: np.full(size, epsilon) for name, size in sizes.items()}
    return Guarantee(*(("within", f"within={epsilon!r}") if epsilon else ("exact", "exact")), epsilons)


def box_of(model: ModelProto, domain: Any = "0,1") -> Box:
    return make_box(loaded(model).network, domain)


def compare(
    before: ModelProto,
    after: ModelProto,
    guarantee: Guarantee | None = None,
    witnesses: dict[str, Array] | None = None,
    domain: Any = "0,1",
) -> Check:
    box = box_of(before, domain)
    return check(loaded(before), loaded(after), box, guarantee or promise(), witnesses or {})


def moved(by: float, model: ModelProto | None = None) -> ModelProto:
    """``known`` with one weight of the last layer off by ``by``; its unit is between 1 and 2 on the domain."""
    model = model or known()
    W = weight(model, "W2").copy()
    W[0, 1] += W.dtype.type(by)
    return with_weight(model, "W2", W)


def without_the_inactive_unit() -> ModelProto:
    model = known()
    keep = [1, 2, 3, 4, 5]
    model = with_weight(model, "W1", weight(model, "W1")[keep])
    model = with_weight(model, "b1", weight(model, "b1")[keep])
    return with_weight(model, "W2", weight(model, "W2")[:, keep])


def test_the_same_network_passes() -> None:
    done = compare(known(), known())
    assert done.points >= 1000
    assert done.float64 == 0.0
    assert done.measured == 0.0
    assert done.largest == 0.0
    assert 0 < done.allowed < 1e-3
    assert not done.measured_only
    assert done.note == ""


def test_a_true_compression_passes() -> None:
    done = compare(known(), without_the_inactive_unit())
    assert done.float64 is not None
    assert done.float64 < 1e-12
    assert done.measured is not None
    assert done.measured <= done.allowed


def test_a_weight_that_is_off_fails() -> None:
    with pytest.raises(
        CheckFailed, match=r"output 'y' in float64 differs by .* at index \[0\], more than the"
    ) as error:
        compare(known(), moved(2.0**-10))
    assert "nothing was written" in str(error.value)


def test_the_smallest_change_of_a_weight_fails_at_exact() -> None:
    one_up = float(np.spacing(np.float32(1)))  # float32 evaluation would never tell; float64 does
    with pytest.raises(CheckFailed, match="float64"):
        compare(known(), moved(one_up))


def test_a_weight_within_the_budget_passes_and_one_beyond_fails() -> None:
    delta = 2.0**-10  # moves the output by up to 2 deltas
    done = compare(known(), moved(delta), promise(2.001 * delta))
    assert done.float64 == pytest.approx(2 * delta, rel=1e-6)
    with pytest.raises(CheckFailed, match="float64"):
        compare(known(), moved(delta), promise(1.9 * delta))


def test_each_output_is_judged_by_its_own_epsilon() -> None:
    delta = 2.0**-10
    fits = Guarantee("within", "within=1.0", {"y": np.array([3 * delta, 0.0])})
    crossed = Guarantee("within", "within=1.0", {"y": np.array([0.0, 3 * delta])})
    assert compare(known(), moved(delta), fits).largest > 0
    with pytest.raises(CheckFailed, match=r"index \[0\]"):
        compare(known(), moved(delta), crossed)


def test_onnxruntime_finds_what_only_the_file_has_wrong() -> None:
    original, forged = loaded(known()), loaded(moved(0.5))
    forged = replace(forged, network=original.network)  # as if reading had overlooked it
    with pytest.raises(CheckFailed, match=r"output 'y' in onnxruntime differs by .* at index \[0\]"):
        check(original, forged, box_of(known()), promise(), {})


def test_onnxruntime_allows_float32_error_only() -> None:
    original = loaded(known())
    allowed = compare(known(), known()).allowed
    within, beyond = (replace(loaded(moved(by)), network=original.network) for by in (allowed / 8, 8 * allowed))
    assert check(original, within, box_of(known()), promise(), {}).measured > 0  # type: ignore[operator]
    with pytest.raises(CheckFailed, match="onnxruntime"):
        check(original, beyond, box_of(known()), promise(), {})


def test_swapped_outputs_fail() -> None:
    forged = with_weight(known(), "W2", np.array(KNOWN_W2, np.float32)[::-1])
    forged = with_weight(forged, "b2", np.array(KNOWN_B2, np.float32)[::-1])
    with pytest.raises(CheckFailed, match="'y' in float64"):
        compare(known(), forged)


def two_outputs(swap: bool = False) -> ModelProto:
    nodes = [
        helper.make_node("Gemm", ["x", "W"], ["p"], transB=1),
        helper.make_node("Gemm", ["x", "V"], ["q"], transB=1),
    ]
    constants = {"W": np.array([[1, 2]], np.float32), "V": np.array([[3, 4]], np.float32)}
    names = ("q", "p") if swap else ("p", "q")
    return build(nodes, {"x": ["N", 2]}, {name: ["N", 1] for name in names}, constants)


def test_outputs_in_another_order_fail() -> None:
    assert compare(two_outputs(), two_outputs(), promise(p=1, q=1)).largest == 0
    with pytest.raises(CheckFailed, match="other inputs or outputs"):
        compare(two_outputs(), two_outputs(swap=True), promise(p=1, q=1))


def renamed() -> ModelProto:
    model = known()
    model.graph.output[0].name = "other"
    model.graph.node[-1].output[0] = "other"
    return model


def narrower() -> ModelProto:
    model = with_weight(known(), "W2", np.array(KNOWN_W2, np.float32)[:1])
    model = with_weight(model, "b2", np.array(KNOWN_B2, np.float32)[:1])
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    return model


@pytest.mark.parametrize("forge", [renamed, narrower, two_inputs])
def test_another_interface_fails(forge: Callable[[], ModelProto]) -> None:
    with pytest.raises(CheckFailed, match="other inputs or outputs"):
        compare(known(), forge())


def overflowing() -> ModelProto:
    """``known``, but float32 overflows to infinity in its middle."""
    big = np.array(KNOWN_W2, np.float32)
    big[0] = [0, 3e38, 3e38, -3e38, 0, 0]
    return with_weight(known(), "W2", big)


def test_an_infinity_in_the_result_fails_closed() -> None:
    original, forged = loaded(known()), loaded(overflowing())
    with pytest.raises(CheckFailed, match="onnxruntime"):
        check(original, replace(forged, network=original.network), box_of(known()), promise(), {})


def test_nan_in_the_result_fails_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    original, forged = loaded(known()), loaded(without_the_inactive_unit())

    def broken(network: Network, points: dict[str, Array], **more: Any) -> dict[str, Array]:
        values = evaluate(network, points, **more)
        if network is forged.network and "y" in values:
            values["y"][-1, 1] = np.nan
        return values

    monkeypatch.setattr(verify, "evaluate", broken)
    with pytest.raises(CheckFailed, match=r"output 'y' in float64 differs by nan at index \[1\]"):
        check(original, forged, box_of(known()), promise(), {})


def unmodelled(kind: str) -> ModelProto:
    model = known()
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(helper.make_node(kind, ["z"], ["y"]))
    return model


def test_without_a_bound_the_deviation_is_measured_only() -> None:
    done = compare(unmodelled("Erf"), unmodelled("Erf"))
    assert done.measured_only
    assert done.float64 is None
    assert done.measured == 0.0
    assert done.note.startswith("measured only")


def test_a_new_nan_fails_even_where_there_is_no_bound() -> None:
    # The square root of a negative number is NaN.
    original = with_weight(unmodelled("Sqrt"), "b2", np.array([100, 100], np.float32))
    forged = with_weight(unmodelled("Sqrt"), "b2", np.array([-100, 100], np.float32))
    with pytest.raises(CheckFailed, match="'y' in onnxruntime"):
        compare(original, forged)


def test_a_new_infinity_fails_even_where_there_is_no_bound() -> None:
    original, forged = unmodelled("Exp"), with_weight(unmodelled("Exp"), "b2", np.array([1e4, 1], np.float32))
    with pytest.raises(CheckFailed, match="'y' in onnxruntime"):
        compare(original, forged)


def test_nan_on_both_sides_is_no_difference() -> None:
    model = with_weight(unmodelled("Sqrt"), "b2", np.array([-100, 100], np.float32))
    assert compare(model, model).measured == 0.0


def test_witnesses_are_among_the_points() -> None:
    """A spike that random points never hit: only the witness tells the two networks apart."""
    hidden = ([[2.0**20], [1.0]], [-(2.0**20) * 0.375 + 2.0, 0.0])  # fires above 0.375 - 2^-19
    narrow = ([[1, 0], [0, 1]], [0, 0])
    spike = chain([hidden, narrow, ([[1.0, 1.0]], [0.0])])
    forged = chain([hidden, narrow, ([[0.0, 1.0]], [0.0])])
    domain = {"lo": [0.0], "hi": [0.375 - 2.0**-20]}
    with pytest.raises(CheckFailed):
        compare(spike, forged, promise(y=1), {"x": np.array([[0.375 - 2.0**-20]])}, domain)


def test_witnesses_count_as_points() -> None:
    done = compare(known(), known(), witnesses={"x": np.full((7, 2), 0.25)})
    assert done.points == compare(known(), known()).points + 7


def unsupported(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = 2**20
    return copy


def test_a_result_that_onnxruntime_refuses_fails() -> None:
    original = loaded(known())
    broken = replace(original, data=unsupported(known()).SerializeToString())
    with pytest.raises(CheckFailed, match="runs the original but not the compressed network"):
        check(original, broken, box_of(known()), promise(), {})


def test_a_result_that_stops_while_running_fails() -> None:
    original = loaded(known())
    narrow = known()
    nodes = [*narrow.graph.node[:-1], helper.make_node("Gemm", ["h1", "W2", "b2"], ["z"], transB=1)]
    nodes.append(helper.make_node("Reshape", ["z", "shape"], ["y"]))
    constants = {name: weight(narrow, name) for name in ("W1", "b1", "W2", "b2")} | {"shape": np.array([1, 2])}
    broken = build(nodes, {"x": ["N", 2]}, {"y": ["N", 2]}, constants)
    with pytest.raises(CheckFailed, match="onnxruntime"):
        check(original, replace(original, data=broken.SerializeToString()), box_of(known()), promise(), {})


def test_an_original_that_onnxruntime_refuses_is_noted() -> None:
    original = loaded(known())
    broken = replace(original, data=unsupported(known()).SerializeToString())
    done = check(broken, broken, box_of(known()), promise(), {})
    assert done.measured is None
    assert done.float64 == 0.0
    assert done.largest == 0.0
    assert "cannot run the original" in done.note


def test_models_without_a_free_batch_axis_are_run_one_by_one() -> None:
    done = compare(known(batch=1), known(batch=1), promise(y=2))
    assert done.points >= 1000
    assert done.measured == 0.0


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_formats(dtype: Any) -> None:
    assert compare(known(dtype), known(dtype)).measured == 0.0
    with pytest.raises(CheckFailed):
        compare(known(dtype), moved(0.25, known(dtype)))


def test_a_byte_for_byte_copy_needs_no_run() -> None:
    done = unchanged()
    assert (done.points, done.largest, done.measured_only) == (0, 0.0, False)
    assert "nothing was rewritten" in done.note


def test_opaque_models_are_run_in_onnxruntime(tmp_path: Path) -> None:
    model = opaque_between()
    done = compare(model, model, promise(y=1))
    assert (done.float64, done.measured) == (None, 0.0)


def test_shifted_logits_are_compared_with_shifted_logits() -> None:
    from reluce.verify import _less

    values = np.array([[1, 2, 4], [8, 0, 1]], np.float32)
    assert _less(values, None, whole=False) is values
    assert _less(values, 1, whole=False).tolist() == [[-1, 0, 2], [8, 0, 1]]
    assert _less(values, 1, whole=True).tolist() == [[-1, 0, 2], [6, -2, -1]]
    assert _less(values, 1, whole=False).dtype == np.float64
