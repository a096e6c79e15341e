"""Any model that a user may hold, read into a :class:`Loaded`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from onnx import ModelProto

from reluce.errors import ModelError, UsageError
from reluce.io._files import decompress, read_bytes
from reluce.io._load import loads
from reluce.io._loaded import Loaded
from reluce.io._nnet import nnet_to_onnx

PICKLED = (".pt", ".pth", ".pkl", ".joblib")
GZIP = b"\x1f\x8b"
KINDS = "a path, a file object, an onnx.ModelProto, a torch.nn.Module, or a scikit-learn MLP or pipeline"


def open_model(
    model: Any, *, input_shapes: Mapping[str, tuple[int, ...]] | None = None, example_inputs: Any = None
) -> Loaded:
    """Read a model of any kind.

    Parameters
    ----------
    model
        The path of an ``.onnx`` (``.onnx.gz``) or ``.nnet`` file, a file opened for reading bytes, an
        ``onnx.ModelProto``, a ``torch.nn.Module``, a scikit-learn ``MLPClassifier`` or ``MLPRegressor``, or a
        ``Pipeline`` of a scaler and one of these.
    input_shapes
        For ONNX inputs with axes of unknown length: name -> all axes, where 0 or -1 for axis 0 stands for the batch.
    example_inputs
        For a ``torch.nn.Module``: a tensor, a tuple of tensors, or a mapping of argument names to tensors.

    Returns
    -------
    Loaded
        The network, with all that is needed to hand back a model of the same kind.

    Raises
    ------
    ModelError
        When it cannot be read; says what and where.
    UsageError
        When it is nothing that Reluce knows, or an option does not go with it.
    """
    torch, sklearn = _torch_module(model), _estimator(model)
    _demand_known(model, torch or sklearn)
    if not torch and example_inputs is not None:
        raise UsageError("example_inputs go with a torch.nn.Module only")
    if (torch or sklearn) and input_shapes is not None:
        raise UsageError("input_shapes go with an ONNX model only")
    if torch:
        from reluce.io._torch import read_module  # torch is imported only by those who bring a module

        return read_module(model, example_inputs)
    if sklearn:
        from reluce.io._sklearn import read_estimator

        return read_estimator(model)
    if isinstance(model, ModelProto):
        return loads(model.SerializeToString(), name=model.graph.name or "model", input_shapes=input_shapes)
    if isinstance(model, str | os.PathLike):
        return _from_bytes(read_bytes(model), os.fspath(model), input_shapes)
    name = str(getattr(model, "name", "model"))
    return _from_bytes(_read_all(model, name), name, input_shapes)


def _demand_known(model: Any, special: bool) -> None:
    if isinstance(model, str | os.PathLike) and os.fspath(model).endswith(PICKLED):
        raise UsageError(f"{os.fspath(model)}: no pickle is ever loaded; load it in Python and give the object")
    if (
        not special
        and not isinstance(model, ModelProto | str | os.PathLike)
        and not callable(getattr(model, "read", 0))
    ):
        kind = f"the class {model.__name__}" if isinstance(model, type) else f"a model of type {type(model).__name__}"
        raise UsageError(f"{kind} is not known; give {KINDS}")


def _torch_module(model: Any) -> bool:
    """Whether this is a ``torch.nn.Module``; nobody can hold one without having imported torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _estimator(model: Any) -> bool:
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(model, base.BaseEstimator)


def _read_all(file: Any, name: str) -> bytes:
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # closed, or opened for writing
        raise ModelError(f"{name}: cannot be read ({error})") from error
    if not isinstance(data, bytes):
        raise UsageError(f"the file object gives {type(data).__name__}, not bytes; open it in binary mode")
    return decompress(data, name) if data.startswith(GZIP) else data


def _from_bytes(data: bytes, name: str, input_shapes: Mapping[str, tuple[int, ...]] | None) -> Loaded:
    if not name.removesuffix(".gz").endswith(".nnet"):
        return loads(data, name=name, input_shapes=input_shapes)
    if input_shapes is not None:
        raise UsageError(f"{name}: the shapes of an .nnet file are known, input_shapes do not go with it")
    converted, ranges, notes = nnet_to_onnx(data, name)
    loaded = loads(converted, name=name)
    return replace(loaded, ranges=ranges, notes=(*notes, *loaded.notes))


def to_torch(model: Any, *, input_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Any:
    """A ``torch.nn.Module`` that computes what an ONNX or ``.nnet`` model computes, to go on training or exporting it.

    Parameters
    ----------
    model, input_shapes
        As for :func:`open_model`.

    Returns
    -------
    torch.nn.Module
        In eval mode; its submodules are called after the model's nodes.

    Raises
    ------
    ModelError
        When the model holds an operation that Reluce does not model, or that torch has no exact counterpart of.
    UsageError
        When torch is not installed.
    """
    try:
        from reluce.io._torch_write import to_module
    except ModuleNotFoundError as error:
        raise UsageError(f"to_torch needs the extra 'torch' ({error})") from error

    return to_module(open_model(model, input_shapes=input_shapes).network)
