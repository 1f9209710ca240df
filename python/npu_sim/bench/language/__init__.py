"""Benchmarks of language models: ``npu-sim bench qwen2.5-1.5b --random-weights``."""
