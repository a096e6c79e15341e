"""onnxruntime in a process of its own."""

import gc
import os

import numpy as np
import pytest
from hostile_models import bomb, model, node, tiny
from io_tools import numbers
from io_tools import session as in_process

from reluce.io import _ort, loads, runtime
from reluce.run import Failed, Lost

DATA = tiny().SerializeToString()


def test_it_computes_what_onnxruntime_computes() -> None:
    run, x = runtime(loads(DATA)).start(), numbers(7, 3)
    (expected,) = in_process(DATA).run(None, {"x": x})
    for _ in range(2):
        assert np.array_equal(run({"x": x})["y"], expected)


def test_sessions_do_not_share_a_process_and_hand_it_on() -> None:
    gc.collect()
    spare = _ort._idle(os.getpid())
    spare.clear()
    first, second = _ort.session(DATA), _ort.session(DATA)
    assert not spare
    del first
    assert len(spare) == 1
    third = _ort.session(DATA)
    assert not spare
    x = numbers(2, 3)
    assert np.array_equal(second({"x": x})["y"], third({"x": x})["y"])


def test_what_is_no_number_is_left_out() -> None:
    cast = model([node("Cast", ["x"], ["s"], to=8), node("Relu", ["x"], ["y"])], outputs={"y": ["N", 3]})
    cast.graph.output.add(name="s").type.tensor_type.elem_type = 8
    assert list(_ort.session(cast.SerializeToString())({"x": numbers(2, 3)})) == ["y"]


def test_what_it_says_is_an_exception() -> None:
    with pytest.raises(Failed, match=r"^(Fail|InvalidGraph|InvalidArgument)"):
        _ort.session(model([node("Relu", ["nowhere"], ["y"])]).SerializeToString())
    run = _ort.session(DATA)
    with pytest.raises(Failed, match="INVALID_ARGUMENT"):
        run({"x": numbers(2, 5)})
    assert run({"x": numbers(2, 3)})["y"].shape == (2, 2)


def test_too_much_memory_is_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ort, "run_bytes", lambda size: 2 << 30)
    shape = {"s": np.array([1 << 20, 1 << 14])}  # 64 GiB
    nodes = [node("ConstantOfShape", ["s"], ["c"]), node("ReduceSum", ["c"], ["t"]), node("Add", ["x", "t"], ["y"])]
    with pytest.raises((Failed, Lost)):
        _ort.session(model(nodes, shape).SerializeToString())({"x": numbers(1, 3)})


def test_too_much_time_is_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ort, "RUN_SECONDS", 1.0)
    with pytest.raises(Lost, match="no answer after 1 s"):
        _ort.session(bomb()["loop"].SerializeToString())({"x": numbers(1, 3)})
