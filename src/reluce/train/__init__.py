"""Training that makes networks compressible: pieces for any PyTorch loop, and a plain trainer. Needs torch."""

from reluce.train._budget import Budget, KeepGroups
from reluce.train._centre import Centre, deviations
from reluce.train._data import Data, Samples, load_training_data, training_data
from reluce.train._fit import Epoch, Trained, accuracy, fit
from reluce.train._freeze import freeze_zeros
from reluce.train._layers import share_of_zeros, weights
from reluce.train._model import build
from reluce.train._onnx import METADATA, to_onnx
from reluce.train._penalties import L1, L2, Penalty, SparseGroup
from reluce.train._proximal import Proximal, effective_step, penalise
from reluce.train._recipe import Recipe
from reluce.train._schedule import After, Constant, Cosine, Product, Ramp, Schedule, Steps, Window
from reluce.train._stability import relu_bounds, stability_penalty

__all__ = [
    "L1",
    "L2",
    "METADATA",
    "After",
    "Budget",
    "Centre",
    "Constant",
    "Cosine",
    "Data",
    "Epoch",
    "KeepGroups",
    "Penalty",
    "Product",
    "Proximal",
    "Ramp",
    "Recipe",
    "Samples",
    "Schedule",
    "SparseGroup",
    "Steps",
    "Trained",
    "Window",
    "accuracy",
    "build",
    "deviations",
    "effective_step",
    "fit",
    "freeze_zeros",
    "load_training_data",
    "penalise",
    "relu_bounds",
    "share_of_zeros",
    "stability_penalty",
    "to_onnx",
    "training_data",
    "weights",
]
