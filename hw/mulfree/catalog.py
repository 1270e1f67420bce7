"""Every unit by name: the one table through which commands, benches and golden models find it."""

import importlib

from mulfree.spec import Spec, SpecError

#: Unit name -> "module:Spec class". The module is imported when the unit is asked for.
UNITS = {
    "lutna": "mulfree.units.lutna:LutNASpec",
    "pot": "mulfree.units.pot:PoTSpec",
    "skip": "mulfree.units.skip:SkipSpec",
    "baseline": "mulfree.units.baseline:BaselineSpec",
    "bitplane": "mulfree.units.bitplane:BitPlaneSpec",
    "wht": "mulfree.units.wht:WHTSpec",
    "freqlayer": "mulfree.units.freqlayer:FreqLayerSpec",
    "wht2d": "mulfree.units.wht:WHT2DSpec",
    "digitizer": "mulfree.units.digitizer:DigitizerSpec",
    "digitizernet": "mulfree.units.digitizernet:DigitizerNetSpec",
    "array": "mulfree.engine.array:ArraySpec",
    "requantizer": "mulfree.engine.requantizer:RequantizerSpec",
    "dense": "mulfree.engine.dense:DenseSpec",
    "network": "mulfree.engine.network:NetworkSpec",
    "soc": "mulfree.soc.top:SocSpec",
    "networksoc": "mulfree.soc.networksoc:NetworkSocSpec",
}

#: The matrix-vector cores that an array can be built from.
KINDS = ("lutna", "pot", "baseline")


def spec_class(unit: str) -> type[Spec]:
    """Return the Spec class of a unit.

    Raises
    ------
    SpecError
        There is no unit of that name.
    """
    if unit not in UNITS:
        raise SpecError(f"unit must be one of {', '.join(UNITS)}, not {unit!r}")
    module, name = UNITS[unit].split(":")
    return getattr(importlib.import_module(module), name)
