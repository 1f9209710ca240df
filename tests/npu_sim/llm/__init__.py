"""Tests of npu_sim.llm."""
