"""ResNet-18 from PyTorch to logits: extract the IR, compile it, run it, compare with PyTorch.

Run it anywhere: python examples/resnet.py. Weights are random (with the statistics of trained
ones), so nothing is downloaded; where torchvision is installed,
`torchvision.models.resnet18(weights="DEFAULT")` works the same way.
"""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from npu_runtime import Device, Executor, NPUBuffer, Profiler, load_weights
from npu_sim.models import random_images, resnet18, trained_like
from torch_ir import extract_ir

folder = Path(tempfile.mkdtemp(prefix="npu_sim_"))

# A model and its weights.
model = trained_like(resnet18(), seed=1)
save_file(model.state_dict(), folder / "resnet18.safetensors")
image = random_images(1, seed=2)

# PyTorch -> IR.
ir = extract_ir(model, image, model_name="resnet18")
ir.save(folder / "resnet18_ir.json")

# IR -> program.
npu_compiler.compile(folder / "resnet18_ir.json").save(folder / "resnet18.npubin")

# Program -> device.
device = Device()
program = CompiledProgram.load(folder / "resnet18.npubin")
executor = Executor(program, device)
weights = load_weights(folder / "resnet18.safetensors", program, device)

# Image -> logits.
input_buf = NPUBuffer.from_numpy(image.numpy(), device, spec=program.input_specs[0])
outputs = executor.run(inputs={"input": input_buf}, weights=weights)
logits = outputs["output"].to_numpy(spec=program.output_specs[0])

# The same in PyTorch.
with torch.inference_mode():
    expected = model(image).numpy()
print(f"device   {device.kind} ({device.name})")
print(f"top 5    {(-logits[0]).argsort()[:5].tolist()}")
print(f"PyTorch  {(-expected[0]).argsort()[:5].tolist()}")
print(f"largest error of a logit: {abs(logits - expected).max():.4f}")

# Where the time goes.
profiler = Profiler(executor)
for _ in range(10):
    profiler.run(inputs={"input": input_buf}, weights=weights)
profiler.print_summary()
