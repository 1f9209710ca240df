"""``npu-sim devices``: what programs can run on here."""

from __future__ import annotations

from npu_sim.cli.common import JsonOption, print_json, stdout


def devices_command(json: JsonOption = False) -> None:
    """List the devices of this machine.

    \b
    Examples:
      npu-sim devices
      NPU_SIM_DEVICE=reference npu-sim run model.npubin -w model.safetensors -i x=x.npy
    """
    from npu_runtime.device import Device, available_devices

    default = Device().kind
    found = [Device(kind) for kind in available_devices()]
    rows = [
        {"kind": d.kind, "name": d.name, "default": d.kind == default, "notes": list(d.notes)}
        for d in found
    ]
    if json:
        print_json({"devices": rows})
        return
    from rich.table import Table

    table = Table("device", "name", "", box=None, pad_edge=False)
    for row in rows:
        table.add_row(str(row["kind"]), str(row["name"]), "default" if row["default"] else "")
    stdout().print(table)
    for device in found:
        for note in device.notes:
            stdout().print(f"{device.kind}: {note}")
