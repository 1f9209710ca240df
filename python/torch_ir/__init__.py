"""torch_ir: PyTorch models as static graphs in JSON, run and verified with ATen.

ir = torch_ir.extract_ir(model, example_inputs)
ir.save("model_ir.json")
outputs = torch_ir.execute_ir(ir, inputs, weights=model.state_dict())
"""

from .errors import (
    ConversionError,
    ExecutionError,
    ExportError,
    MissingTorchError,
    RegistrationError,
    SerializationError,
    TorchIRError,
    TorchIRWarning,
    ValidationError,
    WeightFileNotFoundError,
    WeightLoadError,
)

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    from .missing import refuse

    refuse(error)

from .converter import IRConverter, convert_exported_program
from .executor import IRExecutor, execute_ir
from .exporter import export_model, extract_ir
from .ir import IR, IRNode, TensorMeta
from .registry import list_registered_ops, register_executor, register_op, unregister_op
from .serializer import (
    IRSerializer,
    deserialize_ir,
    dict_to_ir,
    ir_to_dict,
    load_ir,
    save_ir,
    serialize_ir,
)
from .validate import validate_ir
from .verifier import VerificationReport, verify_ir, verify_ir_with_state_dict
from .visualize import generate_op_distribution_pie, ir_to_mermaid
from .weight_loader import load_weights, load_weights_pt, load_weights_safetensors

__all__ = [
    "IR",
    "ConversionError",
    "ExecutionError",
    "ExportError",
    "IRConverter",
    "IRExecutor",
    "IRNode",
    "IRSerializer",
    "MissingTorchError",
    "RegistrationError",
    "SerializationError",
    "TensorMeta",
    "TorchIRError",
    "TorchIRWarning",
    "ValidationError",
    "VerificationReport",
    "WeightFileNotFoundError",
    "WeightLoadError",
    "convert_exported_program",
    "deserialize_ir",
    "dict_to_ir",
    "execute_ir",
    "export_model",
    "extract_ir",
    "generate_op_distribution_pie",
    "ir_to_dict",
    "ir_to_mermaid",
    "list_registered_ops",
    "load_ir",
    "load_weights",
    "load_weights_pt",
    "load_weights_safetensors",
    "register_executor",
    "register_op",
    "save_ir",
    "serialize_ir",
    "unregister_op",
    "validate_ir",
    "verify_ir",
    "verify_ir_with_state_dict",
]
