"""The machine models by name, and which of them a layout has."""

from collections.abc import Mapping
from types import MappingProxyType

from asdlib.data.synthetic.machine import Machine
from asdlib.data.synthetic.moving import SLIDER, VALVE
from asdlib.data.synthetic.rotating import BEARING, FAN, GEARBOX, PUMP
from asdlib.data.synthetic.toys import TOY_CAR, TOY_CONVEYOR, TOY_TRAIN

MACHINES: Mapping[str, Machine] = MappingProxyType(
    {
        machine.name: machine
        for machine in (
            BEARING,
            FAN,
            GEARBOX,
            PUMP,
            SLIDER,
            TOY_CAR,
            TOY_CONVEYOR,
            TOY_TRAIN,
            VALVE,
        )
    }
)
"""All machine models."""

LAYOUT_MACHINES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "dcase2020": ("ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve"),
        "dcase2022": ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"),
    }
)
"""Machine types of the official datasets; each layout accepts only its own."""


def layout_sections(layout: str, machine: str) -> tuple[str, ...]:
    """Section names of a machine in the official order: development first, then evaluation."""
    if layout == "dcase2022":
        return ("00", "01", "02", "03", "04", "05")
    if machine in ("ToyCar", "ToyConveyor"):
        return ("01", "02", "03", "04", "05", "06")
    return ("00", "02", "04", "06", "01", "03")
