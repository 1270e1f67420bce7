"""Test data from a folder: inputs as a network's codes, classes, and outputs that must come out.

Three kinds of folder:

- ``inputs.npy`` (n, …) and ``labels.npy`` (n,): integers are codes, real numbers are coded as the
  network says.
- ``*-images-idx3-ubyte`` and ``*-labels-idx1-ubyte``, plain or ``.gz`` (MNIST's form): pixels stand
  for 0…1.
- ``golden.json``: ``{"input": {"dtype", "shape"}, "cases": {name: outputs}, "labels": [names of the
  classes]}``, with a raw file ``NAME.DTYPE`` for each case.
"""

import gzip
import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mulfree.engine.program import Coding
from mulfree.formats import Int


class DataError(ValueError):
    """A folder has no data that can be used; the message is one sentence."""


@dataclass(frozen=True)
class Dataset:
    """Inputs and what is known of them.

    Members
    -------
    codes : (n, …), int64
    labels : (n,), int64, or None
    outputs : (n, …), int64, or None
        What the source model makes of the inputs, exactly.
    """

    codes: NDArray[np.int64]
    labels: NDArray[np.int64] | None = None
    outputs: NDArray[np.int64] | None = None


def load(folder: Path, shape: tuple[int, ...], coding: Coding, integer: Int) -> Dataset:
    """Read a folder for a network whose input has this shape and coding.

    Raises
    ------
    DataError
        There is no data, or it does not fit the network.
    """
    try:
        if (folder / "golden.json").exists():
            return _golden(folder, shape, integer)
        if (folder / "inputs.npy").exists():
            return _arrays(folder, shape, coding, integer)
        images = sorted(folder.glob("*-images-idx3-ubyte*"))
        labels = sorted(folder.glob("*-labels-idx1-ubyte*"))
        if images and labels:
            real = _idx(images[0]) / 255
            codes = _coded(real, shape, coding, integer)
            return Dataset(codes, _idx(labels[0]).astype(np.int64))
    except (OSError, EOFError, KeyError, zlib.error, struct.error, json.JSONDecodeError) as error:
        raise DataError(f"data in {folder} must be whole, not damaged ({error})") from None
    raise DataError(
        f"data must be a folder with inputs.npy, golden.json or *-images-idx3-ubyte, not {folder}"
    )


def _arrays(folder: Path, shape: tuple[int, ...], coding: Coding, integer: Int) -> Dataset:
    codes = _coded(np.load(folder / "inputs.npy", allow_pickle=False), shape, coding, integer)
    labels = None
    if (folder / "labels.npy").exists():
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        if labels.dtype.kind not in "iu" or labels.shape != (len(codes),):
            raise DataError(
                f"labels must be {len(codes)} integers, not {labels.dtype} of {labels.shape}"
            )
    return Dataset(codes, labels)


def _golden(folder: Path, shape: tuple[int, ...], integer: Int) -> Dataset:
    facts = json.loads((folder / "golden.json").read_text())
    dtype = np.dtype(facts["input"]["dtype"])
    names = facts["cases"]
    raw = [np.frombuffer((folder / f"{n}.{dtype.name}").read_bytes(), dtype) for n in names]
    codes = np.stack(raw).reshape(-1, *facts["input"]["shape"])
    classes = facts.get("labels", [])
    labels = None
    if all(name in classes for name in names):
        labels = np.array([classes.index(name) for name in names], np.int64)
    coding = Coding(0, 1.0)
    return Dataset(
        _coded(codes, shape, coding, integer), labels, np.array(list(names.values()), np.int64)
    )


def _idx(path: Path) -> NDArray:
    """Read an IDX file of unsigned bytes."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    zeros, kind, rank = struct.unpack_from(">HBB", content)
    if (zeros, kind) != (0, 8):
        raise DataError(f"{path.name} must be an IDX file of unsigned bytes, not type {kind}")
    size = struct.unpack_from(f">{rank}I", content, 4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if values.size != np.prod(size):
        raise DataError(f"{path.name} must have {np.prod(size)} bytes, not {values.size}")
    return values.reshape(size)


def _coded(
    values: NDArray, shape: tuple[int, ...], coding: Coding, integer: Int
) -> NDArray[np.int64]:
    """Return inputs as codes of the network's shape."""
    if values.ndim < 1 or values[0].size != np.prod(shape):
        raise DataError(f"inputs must have shape (n, {shape}), not {values.shape}")
    values = values.reshape(-1, *shape)
    if values.dtype.kind == "f":
        steps = np.rint(values / coding.scale) + coding.zero_point
        return np.clip(steps, integer.low, integer.high).astype(np.int64)
    try:
        return integer.check(values, "input")
    except ValueError as error:
        raise DataError(str(error)) from None
