"""Model files to graphs."""

from pathlib import Path

from mulfree_models.graph import Graph, ModelError

#: File endings and the importers that read them.
SUFFIXES = (".tflite", ".onnx")


def load(path: Path) -> Graph:
    """Read a model file.

    Raises
    ------
    ModelError
        It cannot be read, is damaged, or has something that is not supported.
    """
    if path.suffix not in SUFFIXES:
        raise ModelError(f"model must be a file ending in {' or '.join(SUFFIXES)}, not {path.name}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"model must be readable, not {path} ({error.strerror})") from None
    if path.suffix == ".tflite":
        from mulfree_models.importers import tflite

        return tflite.read(content, path.stem)
    from mulfree_models.importers import onnx

    return onnx.read(content, path.stem)
