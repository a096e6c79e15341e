"""The scalers in front of a scikit-learn network, as one exact affine map of each feature.

    z = (x - centre) / scale        StandardScaler, RobustScaler, MaxAbsScaler (centre 0)
    z = x * scale + least           MinMaxScaler

With the stored floats taken as the rational numbers that they are, each is ``z = x * slope + offset``, and several in a
row are again of that form. Their own ``transform`` rounds, and in float32 it rounds the stored numbers too; what it
makes of float32 and float64 inputs is what ``Scaling.apply`` gives.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted

from reluce.errors import ModelError
from reluce.io._loaded import Scaling
from reluce.network import Array

UNDERSTOOD = "StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, 'passthrough'"
Affine = tuple[Array, Array]


def read_scaling(steps: Sequence[tuple[str, Any]], width: int) -> Scaling | None:
    """All steps of a pipeline but the last, as one map.

    Parameters
    ----------
    steps
        Names and transformers, in order.
    width
        Number of features that the network reads.

    Returns
    -------
    Scaling or None
        ``None`` where no step changes its inputs.

    Raises
    ------
    ModelError
        Naming the step that is not fitted, or not one that is understood.
    """
    chosen = [(label, step) for label, step in steps if not _changes_nothing(step)]
    if not chosen:
        return None
    slope, offset = _exactly(1, width), _exactly(0, width)
    named = [(f"Pipeline: step {label!r} ({type(step).__name__})", step) for label, step in chosen]
    for where, step in named:
        _demand_scaler(where, step)
    for where, step in named:
        _demand_understood(where, step, width)
        try:
            by, plus = _affine(step, width)
        except (ValueError, OverflowError, ZeroDivisionError):
            raise ModelError(f"{where} holds a scale of 0, or a number that is not finite; fit it anew") from None
        slope, offset = slope * by, offset * by + plus
    scalers = [without_names(step) for _, step in chosen]

    def apply(x: Array) -> Array:
        for scaler in scalers:
            # A copy, as copy=False makes a scaler write over its argument; scalers take NaN, but raise at infinities.
            x = np.asarray(scaler.transform(np.where(np.isfinite(x), x, np.asarray(np.nan, dtype=x.dtype))))
        return x

    return Scaling(slope, offset, apply)


def without_names(estimator: Any) -> Any:
    """A shallow copy that takes and gives plain arrays in silence, even if it was fitted on a table with names."""
    plain = copy.copy(estimator)
    vars(plain).pop("feature_names_in_", None)
    vars(plain).pop("_sklearn_output_config", None)
    return plain


def _changes_nothing(step: Any) -> bool:
    return step is None or step == "passthrough" or (type(step) is FunctionTransformer and step.func is None)


def _demand_scaler(where: str, step: Any) -> None:
    # A class of one's own may compute anything, even if it inherits from one of these.
    if type(step) not in (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler):
        raise ModelError(f"{where} is not understood; in front of the network may stand {UNDERSTOOD}")


def _demand_understood(where: str, step: Any, width: int) -> None:
    try:
        check_is_fitted(step)
    except NotFittedError:
        raise ModelError(f"{where} is not fitted; call fit first") from None
    if step.get_params().get("clip", False):  # older releases of scikit-learn have no such option for MaxAbsScaler
        raise ModelError(f"{where} clips what it scales, which is not understood; set clip=False")
    if step.n_features_in_ != width:
        raise ModelError(f"{where} scales {step.n_features_in_} features, but the network reads {width}")


def _affine(step: Any, width: int) -> tuple[Array, Array]:
    """Slope and offset of one scaler."""
    if type(step) is MinMaxScaler:
        return _exactly(step.scale_, width), _exactly(step.min_, width)
    centre, scale = 0, step.scale_
    if type(step) is StandardScaler:  # like its transform, which may ignore a mean that was fitted
        centre, scale = step.mean_ if step.with_mean else 0, step.scale_ if step.with_std else 1
    elif type(step) is RobustScaler:
        centre, scale = step.center_ if step.with_centering else 0, step.scale_ if step.with_scaling else 1
    slope: Array = 1 / _exactly(scale, width)
    return slope, -_exactly(centre, width) * slope


def _exactly(values: Any, width: int) -> Array:
    """Stored floats as the rational numbers that they are, one for each feature."""
    result = np.empty(width, dtype=object)
    result[:] = [Fraction(value) for value in np.broadcast_to(np.asarray(values, dtype=float), (width,)).tolist()]
    return result
