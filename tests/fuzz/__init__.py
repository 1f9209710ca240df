"""Differential fuzzing: operators and random graphs of them against PyTorch, on every device."""
