"""The result of a language model's benchmark as tables, and as a chart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_sim.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table


def table(found: Mapping[str, Any]) -> Table:
    """One row per contender; ratios are to our time: above 1 is slower."""
    from rich.table import Table

    shown = Table("", "precision", box=None, pad_edge=False)
    for heading in ("ms/token", "IQR", "tokens/s", "ratio", "prompt ms", "IQR", "ratio"):
        shown.add_column(heading, justify="right")
    for row in found["contenders"]:
        token, prompt = row["token"], row["prompt"]
        shown.add_row(
            row["name"],
            row["precision"],
            f"{token['median_ms']:.1f}",
            f"{token['iqr_ms']:.1f}",
            f"{1e3 / token['median_ms']:.2f}",
            f"{row['token_ratio']:.2f}",
            f"{prompt['median_ms']:.0f}",
            f"{prompt['iqr_ms']:.0f}",
            f"{row['prompt_ratio']:.2f}",
        )
    return shown


def facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is measured of us alone."""
    memory = found["weight_bytes"] + found["kv_cache_bytes"]
    peak = found["peak_rss_bytes"]
    over = "" if peak is None else f"{(peak - memory) / 2**20:.0f} MiB over weights and cache"
    return [
        ("dispatches per token", str(found["dispatches_per_token"])),
        (
            "share of bandwidth",
            f"{found['bandwidth_share']:.0%} of {found['read_gb_s']:.1f} GB/s, "
            f"{found['weight_bytes_per_token'] / 1e9:.2f} GB of weights per token",
        ),
        ("prompt", f"{found['prefill_tokens_per_s']:.0f} tokens/s"),
        (
            "start",
            f"{found['first_start_s']:.1f} s (compiling prefill and decode "
            f"{found['compile_s']:.2f} s), again {found['second_start_s']:.2f} s",
        ),
        ("peak memory", "unknown" if peak is None else f"{peak / 2**20:.0f} MiB, {over}"),
    ]


def positions_table(found: Mapping[str, Any]) -> Table:
    """Milliseconds per token (and interquartile range); "-" where a contender is left out."""
    return _over(found, "positions", "position", "position")


def prompts_table(found: Mapping[str, Any]) -> Table:
    """Milliseconds from a prompt to the first token, as `positions_table`."""
    return _over(found, "prompts", "tokens", "prompt")


def _over(found: Mapping[str, Any], series: str, key: str, heading: str) -> Table:
    from rich.table import Table

    names = _names(found)
    shown = Table(heading, *names, box=None, pad_edge=False)
    for row in found[series]:
        shown.add_row(
            f"{row[key]:,}",
            *(
                f"{row[name]['median_ms']:.1f} ({row[name]['iqr_ms']:.1f})" if name in row else "-"
                for name in names
            ),
        )
    return shown


def _names(found: Mapping[str, Any]) -> list[str]:
    return [f"{row['name']} {row['precision']}" for row in found["contenders"]]


def chart(found: Mapping[str, Any], path: Path) -> None:
    """Milliseconds per token over the position and to the first token over the length of the
    prompt, logarithmic, quartiles shaded; .svg or .png.
    """
    matplotlib = require("matplotlib", "a chart")
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (tokens, prompts) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    _draw(tokens, found, "positions", "position")
    floor = found["weight_bytes_per_token"] / found["read_gb_s"] / 1e6
    tokens.axhline(floor, linestyle="--", color="grey", label="reading the weights once")
    tokens.set(xlabel="tokens in the cache", ylabel="ms per token")
    _draw(prompts, found, "prompts", "tokens")
    prompts.set(xlabel="tokens of the prompt", ylabel="ms to the first token")
    tokens.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


def _draw(axes: Axes, found: Mapping[str, Any], series: str, key: str) -> None:
    for name in _names(found):
        there = [row for row in found[series] if name in row]
        where, times = [row[key] for row in there], [row[name] for row in there]
        axes.plot(where, [t["median_ms"] for t in times], marker="o", label=name)
        low = [t["lower_quartile_ms"] for t in times]
        axes.fill_between(where, low, [t["upper_quartile_ms"] for t in times], alpha=0.2)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter("{x:g}")
