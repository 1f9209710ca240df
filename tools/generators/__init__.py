"""Generators of C++ text from the records in npu_compiler."""
