"""Compiles quantised networks to Programs that a board runs."""

import dataclasses

import numpy as np

from mulfree.soc.program import Coding, Dense, Program, ProgramError
from mulfree.soc.registers import register_map
from mulfree.soc.top import SocSpec
from mulfree.units.pot import PoTSpec
from mulfree_models import digits
from mulfree_models.pot import PowerOfTwoWeights
from mulfree_models.quantise import ActivationFormat, Network, SymmetricWeights, quantise


def compile_network(network: Network, spec: SocSpec) -> Program:
    """Lay a network out for a system, with the largest batch that its data memory holds.

    Raises
    ------
    ProgramError
        The network needs another engine, or more room than there is.
    """
    for place, layer in enumerate(network.layers):
        for what in (layer.input.integer, layer.output.integer):
            if what != spec.core.act_format:
                raise ProgramError(
                    f"layer {place} has activations {what}, "
                    f"but the engine has {spec.core.act_format}"
                )
    shifts = np.concatenate([layer.parameters.shift for layer in network.layers])
    widest = max(len(layer.parameters.bias) for layer in network.layers)
    registers = register_map()
    engine = spec.target

    def laid_out(batch: int) -> Program:
        limits = registers.limits.pack(
            slots=batch, channels=widest, left_shift=max(0, int(shifts.max()))
        )
        kind = registers.engine.fields["kind"].mask
        target = dataclasses.replace(engine, engine=engine.engine & ~kind, limits=limits)
        layers = [
            Dense(
                layer.weights.values,
                layer.parameters.bias,
                layer.parameters.multiplier,
                layer.parameters.shift,
                layer.output.zero_point,
                layer.low,
                layer.high,
            )
            for layer in network.layers
        ]
        return Program(
            target, layers, _coding(network.layers[0].input), _coding(network.layers[-1].output)
        )

    batch = spec.acc_slots
    while batch > 1 and laid_out(batch).data_words > spec.data_words:
        batch -= 1
    program = laid_out(batch)
    program.check_runs_on(engine, spec.program_words, spec.data_words)
    return program


def _coding(form: ActivationFormat) -> Coding:
    return Coding(form.zero_point, form.scale)


def digits_network(spec: SocSpec) -> Network:
    """Return the shipped digits network, quantised to what a system computes with."""
    core = spec.core
    if isinstance(core, PoTSpec):
        weights = PowerOfTwoWeights(core.weight_format)
    else:
        weights = SymmetricWeights(core.weight_bits)
    samples = digits.scaled(digits.load().train_images)
    return quantise(digits.network(), samples, weights, core.act_format)
