"""What a model says when it cannot load or cannot answer one row. No torch.

The pool reads two attributes only: `code`, one word that the front turns into an HTTP answer, and
`permanent`, true when trying to load again cannot help.
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of everything the models raise on purpose. `str(error)` is for operators and logs."""

    code = "internal"
    permanent = False


class WeightsUnavailableError(ModelError):
    """The weights are not here and could not be fetched now. Loading again later may work."""

    code = "weights_unavailable"


class WeightsNotStoredError(ModelError):
    """The weights could be fetched, but the disk is full or their folder cannot be written to."""

    code = "weights_not_stored"


class WeightsInvalidError(ModelError):
    """The weights are here but are not what was asked for: wrong sha256, damaged, or not loadable."""

    code = "weights_invalid"
    permanent = True


class UnsupportedModelError(ModelError):
    """The weights are sound but this adapter cannot serve a network of their kind."""

    code = "unsupported_model"
    permanent = True


class WeightsMismatchError(ModelError):
    """The weights are sound, but not what the operator's settings say of them: another task, no such head."""

    code = "weights_mismatch"
    permanent = True


class RuntimeUnavailableError(ModelError):
    """The settings ask for a runtime or precision that this device, or this model, does not have."""

    code = "runtime_unavailable"
    permanent = True


class UnsafeLoadingError(ModelError):
    """The library would unpickle arbitrary code from the weights. Nothing is loaded."""

    code = "unsafe_loading"
    permanent = True


class InvalidParameterError(ModelError):
    """One row has a parameter that this model cannot use. Its batch-mates are unaffected."""

    code = "invalid_parameter"
    permanent = True


class OutOfMemoryError(ModelError):
    """These rows do not fit into the device's memory together. What they used is free again."""

    code = "out_of_memory"


class DeviceLostError(ModelError):
    """The device cannot be used by any process; a fresh one does not help."""

    code = "device_lost"
    permanent = True
