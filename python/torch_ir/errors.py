"""The typed errors and warnings of torch_ir, all under one base class.

Every message names the node, tensor or file at fault, the rule it breaks, the value found and a way
out.
"""

__all__ = [
    "ConversionError",
    "ExecutionError",
    "ExportError",
    "MissingTorchError",
    "RegistrationError",
    "SerializationError",
    "TorchIRError",
    "TorchIRWarning",
    "ValidationError",
    "WeightFileNotFoundError",
    "WeightLoadError",
]


class TorchIRError(Exception):
    """Base class of every error that torch_ir raises on purpose."""


class MissingTorchError(TorchIRError, ImportError):
    """PyTorch is not installed; torch_ir cannot work without it."""


class ExportError(TorchIRError):
    """``torch.export`` could not trace the model, or the model is not in the required state."""


class ConversionError(TorchIRError):
    """An exported graph holds something that the IR cannot represent."""


class SerializationError(TorchIRError):
    """An IR could not be written to, or read from, JSON."""


class ValidationError(SerializationError):
    """An IR is well-formed JSON but breaks a rule of the IR; the message names the node."""


class ExecutionError(TorchIRError):
    """An IR could not be executed: missing weights, wrong inputs, or an op that failed."""


class WeightLoadError(TorchIRError):
    """A weights file is unreadable, or weights are missing, unexpected or misshapen."""


class WeightFileNotFoundError(WeightLoadError, FileNotFoundError):
    """The weights file does not exist."""


class RegistrationError(TorchIRError):
    """A custom op or executor was registered wrongly."""


class TorchIRWarning(UserWarning):
    """Something is legal but probably not what the caller wants, e.g. a model in train mode."""
