"""The adversarial networks of the shared folder that can be read (``nan_inf_weights`` is refused)."""

CASES = [
    "big_M_leak",
    "corner_equality",
    "dropped_small_coefficient",
    "hidden_spike",
    "inexact_fold",
    "inside_mip_tolerances",
    "invalid_big_M_negative_inputs",
    "near_dependent_rows",
    "normalisation_ulp",
    "overflow_cancel",
    "real_inactive_float_active",
    "subnormal_weight",
    "tiny_active_amplified",
    "zombori_cancellation",
]
