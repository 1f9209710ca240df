"""The demonstration: ResNets from PyTorch to logits on every device, measured against PyTorch."""
