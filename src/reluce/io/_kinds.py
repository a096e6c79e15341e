"""What each kind of model can do: be built anew from a network, measured, run, and handed back.

One function for each; a kind of model registers its own where its class is defined, so that torch and scikit-learn are
imported only by those who bring such a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from reluce.io._as_onnx import as_onnx
from reluce.io._load import loads
from reluce.io._loaded import Loaded, OnnxLoaded, Runtime, Sizes
from reluce.io._measure import measure_onnx
from reluce.io._named_like import named_like
from reluce.io._ort import session
from reluce.io._proto import parse
from reluce.io._write import serialise
from reluce.network import Network


@singledispatch
def rebuild(loaded: Loaded, network: Network, metadata: Mapping[str, str]) -> Loaded:
    """A model of the same kind that computes ``network``, read back from what was made.

    Parameters
    ----------
    loaded
        The model that ``network`` was rewritten from.
    network
        Consists of nodes of ``loaded.network`` and of replacements under the same names and output tensors.
    metadata
        What to store beside the network, where the kind of model has a place for it.

    Returns
    -------
    Loaded
        ``loaded`` itself where nothing was replaced.

    Raises
    ------
    ValueError
        When the inputs of a node that Reluce does not model have changed.
    """
    raise NotImplementedError(f"no rule to build a {type(loaded).__name__}")


@singledispatch
def onnx_bytes(loaded: Loaded, like: Network) -> bytes:
    """The ONNX file that a claim about a model is about: its own, or one that means the same as its network.

    Parameters
    ----------
    loaded
        The model.
    like
        Where the names of its tensors come from, if it is no ONNX file: the network that it was built from.

    Raises
    ------
    ModelError
        When the network cannot be written as ONNX.
    """
    return as_onnx(named_like(loaded.network, like), loaded.name)


@onnx_bytes.register
def _(loaded: OnnxLoaded, like: Network) -> bytes:
    return loaded.data


@singledispatch
def takes_selections(loaded: Loaded) -> bool:
    """Whether a model of this kind has a place for data movement that was not there before."""
    return True


@singledispatch
def puts_out_logits(loaded: Loaded) -> bool:
    """Whether users of a model see what its network puts out, and not only what is made of it."""
    return True


@singledispatch
def measure(loaded: Loaded) -> Sizes:
    """How large a model is."""
    raise NotImplementedError(f"no rule to measure a {type(loaded).__name__}")


@singledispatch
def runtime(loaded: Loaded) -> Runtime:
    """The software that a model is meant for."""
    raise NotImplementedError(f"no runtime for a {type(loaded).__name__}")


@singledispatch
def hand_over(loaded: Loaded) -> Any:
    """The model as users hold it: an ``onnx.ModelProto``, a ``torch.nn.Module``, a scikit-learn estimator."""
    raise NotImplementedError(f"no rule to hand over a {type(loaded).__name__}")


@rebuild.register
def _rebuild_onnx(loaded: OnnxLoaded, network: Network, metadata: Mapping[str, str]) -> Loaded:
    data = serialise(loaded, network, metadata)
    if data is loaded.data:
        return loaded
    return loads(data, name=loaded.name, input_shapes=_fixed_shapes(loaded.network))


def _fixed_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """The input shapes as they were resolved, so that the result is read the same way."""
    batch = (-1,) if network.batched else ()
    return {name: (*batch, *network.shape(name)) for name in network.inputs if network.tensors[name].shape is not None}


@measure.register
def _measure_onnx(loaded: OnnxLoaded) -> Sizes:
    return measure_onnx(loaded)


@hand_over.register
def _hand_over_onnx(loaded: OnnxLoaded) -> Any:
    return parse(loaded.data, loaded.name)


@runtime.register
def _runtime_onnx(loaded: OnnxLoaded) -> Runtime:
    return Runtime("onnxruntime", lambda: session(loaded.data))
