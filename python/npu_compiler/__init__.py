"""npu_compiler: IR JSON -> NPU program (.npubin). Pure Python and numpy; never imports torch or the runtime."""
