"""The shaders on an NVIDIA GPU: run through NVRTC and CUDA's driver, compared with PyTorch."""
