"""``npu-sim cache``: the compiled programs and kernels that are kept on disk."""

from __future__ import annotations

import typer

from npu_sim.cli.common import JsonOption, bytes_text, facts, print_json

cache_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show or clear the compiled programs and kernels that are kept on disk.",
)


@cache_app.command("info")
def cache_info_command(json: JsonOption = False) -> None:
    """Show where compiled programs, and kernels that devices have compiled, are kept, how many
    there are and how large they are.

    \b
    Examples:
      npu-sim cache info
      NPU_SIM_CACHE_DIR=/data/cache npu-sim cache info --json
    """
    from npu_compiler.cache import ProgramCache
    from npu_runtime.device_cache import kernel_files

    cache = ProgramCache()
    entries = cache.entries()
    size = sum(entry.size_bytes for entry in entries)
    kernels = kernel_files()
    kernel_size = sum(file.size_bytes for file in kernels)
    if json:
        print_json(
            {
                "directory": str(cache.directory),
                "programs": len(entries),
                "size_bytes": size,
                "max_bytes": cache.max_bytes,
                "kernel_files": len(kernels),
                "kernel_bytes": kernel_size,
            }
        )
        return
    facts(
        [
            ("directory", str(cache.directory)),
            ("programs", str(len(entries))),
            ("size", f"{bytes_text(size)} of at most {bytes_text(cache.max_bytes)}"),
            ("kernels", f"of {len(kernels)} programs, {bytes_text(kernel_size)}"),
        ]
    )


@cache_app.command("clear")
def cache_clear_command(json: JsonOption = False) -> None:
    """Remove all compiled programs and kernels; models compile again when they are next used.

    \b
    Example:
      npu-sim cache clear
    """
    from npu_compiler.cache import ProgramCache
    from npu_runtime.device_cache import clear_kernel_files

    cache = ProgramCache()
    removed = cache.clear()
    size = sum(entry.size_bytes for entry in removed)
    kernels = clear_kernel_files()
    kernel_size = sum(file.size_bytes for file in kernels)
    if json:
        print_json(
            {
                "directory": str(cache.directory),
                "removed_programs": len(removed),
                "removed_bytes": size,
                "removed_kernel_files": len(kernels),
                "removed_kernel_bytes": kernel_size,
            }
        )
        return
    facts(
        [
            ("directory", str(cache.directory)),
            ("removed", f"{len(removed)} programs, {bytes_text(size)}"),
            ("kernels", f"of {len(kernels)} programs, {bytes_text(kernel_size)}"),
        ]
    )
