"""What a system will take, from a formula, at once: enough to refuse what cannot fit.

LUT equivalents and flip-flops are linear in the outputs, the products (a product of 8 × 8 bits is
one) and, where LUTs cannot be memories, in the bits of the accumulators' slots. The coefficients
are fitted to syntheses of whole systems; `tests/boards/test_estimate.py` has those and checks the
error. Block RAMs are counted as the memories ask for them.

`estimate` is the only thing that the rest of this room uses; another estimator can take its place.
"""

from dataclasses import dataclass, replace
from math import ceil

from mulfree.engine.geometry import BANKS
from mulfree.soc.networksoc import NetworkSocSpec
from mulfree.soc.system import SystemSpec
from mulfree.soc.top import SocSpec
from mulfree.units.core import CoreSpec
from mulfree.units.lutna import LutNASpec

#: Shapes of a block: width -> words.
_ICE40_RAM = {2: 2048, 4: 1024, 8: 512, 16: 256}
_RAM = {1: 16384, 2: 8192, 4: 4096, 9: 2048, 18: 1024, 36: 512}
#: A channel's bias, multiplier and shift in the requantizer's tables.
_PARAMETER_BITS = 70


@dataclass(frozen=True)
class Estimate:
    """What a system is expected to take, and the relative error of LUTs and flip-flops."""

    luts: int
    ff: int
    ram: int
    error: float


@dataclass(frozen=True)
class _Line:
    """Coefficients: of a system without an array, an output, a product, a bit of a slot."""

    base: float
    output: float
    product: float
    slot_bit: float = 0

    def at(self, outputs: int, products: float, slot_bits: int) -> int:
        return round(
            self.base + self.output * outputs + self.product * products + self.slot_bit * slot_bits
        )


#: Family -> LUT equivalents, flip-flops.
_LINES = {
    "ecp5": (_Line(3865, 133, 55.5), _Line(1733, 92, 44.4)),
    "gowin": (_Line(3950, 133, 55.5), _Line(1733, 92, 44.4)),
    "xc7": (_Line(2900, 110, 40), _Line(1733, 92, 44.4)),
    "xcup": (_Line(2900, 110, 40), _Line(1733, 92, 44.4)),
    # Logic cells: a LUT, a flip-flop that no LUT feeds, or a carry.
    "ice40": (_Line(4250, 170, 28, 1.2), _Line(1733, 92, 20, 1)),
}
#: A product's LUTs and flip-flops by what it is made of, against digit tables.
_KINDS = {"lutna": (1.0, 1.0), "pot": (1.87, 1.57), "baseline": (6.5, 0.07)}
_ERROR = 0.1
_NETWORK_ERROR = 0.15


@dataclass(frozen=True)
class _NetworkLine:
    """Coefficients of the network engine: of one without an array, a scaler besides its tables, an
    output, a lane, a product, a bit of a beat of weights.
    """

    base: float
    scaler: float
    output: float
    lane: float
    product: float
    load_bit: float

    def at(self, spec: NetworkSocSpec, products: float, tables: float) -> int:
        core = spec.core
        return round(
            self.base
            + (self.scaler + tables) * spec.scalers
            + self.output * core.outputs
            + self.lane * core.lanes
            + self.product * products
            + self.load_bit * spec.load_bits
        )


#: The network engine: LUT equivalents, flip-flops; on other families in the same proportion as
#: those of `_LINES` to ECP5's.
_NETWORK = (
    _NetworkLine(4150, 380, 170, 70, 61, 8),
    _NetworkLine(2500, 435, 125, 75, 45.5, 11),
)


#: LUTs and flip-flops that a network engine takes when it is placed, for one of its synthesised
#: ones: on ECP5 carry chains have a beginning and an end of their own, and the boards' flow keeps
#: equal registers apart; on Gowin a flip-flop whose input is no LUT's output takes the LUT beside.
_PLACED = {"ecp5": (1.15, 1.12), "gowin": (1.23, 1)}
#: LUT equivalents of a scaler that are for sums of feature maps.
_SUMS = 175
#: Memories of 16 × 4 in LUT-NA's tables, for a product.
_TABLES = 6.7
#: Core and console less the UART's bridge: LUT equivalents, flip-flops.
_SOFT_CORE = (1800, 700)


def estimate(spec: SystemSpec, technology: str) -> Estimate:
    """Estimate what a system takes on an FPGA family.

    Parameters
    ----------
    technology
        As `mulfree evaluate --target` calls it.
    """
    if isinstance(spec, NetworkSocSpec):
        return _network(spec, technology)
    assert isinstance(spec, SocSpec)
    core = spec.core
    products = _products(core)
    slot_bits = core.outputs * spec.acc_slots * spec.acc_bits
    luts, ff = _LINES[technology]
    in_luts, in_ff = _KINDS[core.unit]
    return Estimate(
        luts=luts.at(core.outputs, products * in_luts, slot_bits),
        ff=ff.at(core.outputs, products * in_ff, slot_bits),
        ram=_rams(spec, technology),
        error=_ERROR,
    )


def with_soft_core(expected: Estimate, ram_words: int, technology: str) -> Estimate:
    """Return what a system takes with a core and its memory beside it."""
    luts, ff = _SOFT_CORE
    return replace(
        expected,
        luts=expected.luts + luts,
        ff=expected.ff + ff,
        ram=expected.ram + _blocks(ram_words, 32, technology),
    )


def _network(spec: NetworkSocSpec, technology: str) -> Estimate:
    in_luts, in_ff = _KINDS[spec.core.unit]
    products = _products(spec.core)
    luts, ff = _NETWORK
    if not spec.keep_words:
        luts = replace(luts, scaler=luts.scaler - _SUMS)
    # A scaler's tables are memories of six LUTs for four bits, an adder for all but one of them,
    # and two registers behind each.
    scaler = spec.scaler
    wide = scaler.requantizer.multiplier_bits + scaler.digit_bits
    memories = ceil(wide / 4) * scaler.digits
    in_memory = 6 * memories + wide * (scaler.digits - 1)
    registers = ff.at(spec, products * in_ff, 2 * wide * scaler.digits)
    if technology == "gowin":  # where a memory of 16 × 4 takes six flip-flops' places
        of_core = _TABLES * products if spec.core.unit == "lutna" else 0
        registers += round(6 * (memories * spec.scalers + of_core))
    share = _LINES[technology][0].base / _LINES["ecp5"][0].base
    placed = _PLACED.get(technology, (1, 1))
    return Estimate(
        luts=round(placed[0] * share * luts.at(spec, products * in_luts, in_memory)),
        ff=round(placed[1] * registers),
        ram=sum(network_memories(spec, technology).values()),
        error=_NETWORK_ERROR,
    )


def _products(core: CoreSpec) -> float:
    """Return how many products of 8 × 8 bits an array has."""
    return core.outputs * core.lanes * core.act_bits * core.weight_shape.width / 64


def _blocks(words: int, width: int, technology: str) -> int:
    """Return the block RAMs of a memory."""
    shapes = _ICE40_RAM if technology == "ice40" else _RAM
    return min(ceil(width / wide) * ceil(words / deep) for wide, deep in shapes.items())


def network_memories(spec: NetworkSocSpec, technology: str) -> dict[str, int]:
    """Return the block RAMs of a network engine by what is in them."""
    return {
        "weights": _blocks(spec.program_words, spec.word_bits, technology),
        "feature maps": BANKS * _blocks(spec.map_words, spec.word_layout.size, technology),
        "accumulators": 2 * _blocks(spec.chunk, spec.core.outputs * spec.acc_bits, technology),
        "residuals": _residuals(spec, technology),
        "parameters": _blocks(spec.rows, spec.row_layout.size, technology),
        "description": _blocks(len(spec.description) // 4, 32, technology),
        "tables": _tables(spec.core, technology),
    }


def _residuals(spec: NetworkSocSpec, technology: str) -> int:
    """Return the block RAMs of what sums of feature maps need, if there are sums."""
    if not spec.keep_words:
        return 0
    kept = _blocks(spec.keep_words, spec.scalers * spec.core.act_bits, technology)
    return kept + 2 * spec.scalers * _blocks(spec.term_count, spec.term_bits, technology)


def _rams(spec: SocSpec, technology: str) -> int:
    """Return the block RAMs that the memories take."""
    # A memory that is read and written anywhere at a time is two blocks of 18 bits at the least.
    sizes = spec.program_words, spec.data_words
    total = sum(max(2, _blocks(words, 32, technology)) for words in sizes)
    total += _blocks(spec.channels, _PARAMETER_BITS, technology)
    return total + _tables(spec.core, technology)


def _tables(core: CoreSpec, technology: str) -> int:
    """Return the block RAMs of the digit tables, where they are in such."""
    in_blocks = isinstance(core, LutNASpec) and (
        core.store == "block" or (core.store == "distributed" and technology == "ice40")
    )
    if not (isinstance(core, LutNASpec) and in_blocks):
        return 0
    address = core.digit_bits * core.table_lanes
    tables = ceil(core.lanes / core.table_lanes) * core.act_digits
    entry = core.weight_bits + core.digit_bits + (core.table_lanes - 1).bit_length()
    words = (2 if core.double_buffer else 1) << address
    return tables * _blocks(words, core.outputs * entry, technology)
