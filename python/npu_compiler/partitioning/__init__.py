"""What ``npu_compiler.partition`` is made of: memory that nodes share (aliases), segments, their
order and cost, and the plan that comes out.
"""
