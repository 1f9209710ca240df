"""Runs a compiled model beside PyTorch, node by node, and finds the first node that goes wrong."""

from __future__ import annotations

from npu_sim.verification.report import NodeReport, Report
from npu_sim.verification.run import verify

__all__ = ["NodeReport", "Report", "verify"]
