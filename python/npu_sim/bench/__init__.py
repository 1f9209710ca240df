"""Benchmarks against other runtimes: contenders, interleaved measurement, statistics."""
