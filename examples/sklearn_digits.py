"""Compress a scikit-learn classifier of digits: a scaler and an MLP in, the same pipeline with a smaller MLP out.

python examples/sklearn_digits.py
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import reluce
from train_digits import load


def main() -> None:
    """Fit, compress at each guarantee, compare."""
    digits = load()
    train, test = digits.train_x * 16, digits.test_x * 16  # pixels from 0 to 16, as scikit-learn has them
    model = make_pipeline(MinMaxScaler(), MLPClassifier((64, 64), alpha=3, max_iter=100, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, digits.train_y)
    rows = [("fitted", model)]
    for level in (reluce.Exact(), reluce.Roundoff(), reluce.Within(1e-3)):
        result = reluce.compress(model, "0,16", data=train, settings=reluce.Settings(level))
        rows.append((str(level), result.model))
    print(result)
    print(f"\n{'classifier':14}{'hidden':>10}{'parameters':>12}{'accuracy':>10}{'probability moves by':>22}")
    for name, fitted in rows:
        mlp = fitted[-1]
        size = sum(array.size for array in (*mlp.coefs_, *mlp.intercepts_))
        moved = np.abs(fitted.predict_proba(test) - model.predict_proba(test)).max()
        hidden = "-".join(map(str, mlp.hidden_layer_sizes))
        print(f"{name:14}{hidden:>10}{size:12,}{fitted.score(test, digits.test_y):10.4f}{moved:22.3g}")
        assert (fitted.predict(test) == model.predict(test)).all()


if __name__ == "__main__":
    main()
