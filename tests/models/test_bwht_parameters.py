import pytest

from mulfree_models.bwht_parameters import count, curve, mobilenet_v2, parts


def test_mobilenet_v2() -> None:
    """The published 2.270 M, batch-norm statistics included (arXiv 2104.07085)."""
    assert count(mobilenet_v2(10)) == 2_270_794
    assert count(mobilenet_v2(1000)) == 2_270_794 + 990 * 1281


def test_final_third_replaced() -> None:
    """The published 540 K: the last 5 of 17 bottlenecks and the head (arXiv 2104.07085)."""
    layers = mobilenet_v2()
    last = [f"b{block}" for block in range(13, 18)]
    assert count(layers, [*last, "head"]) == 537_290
    assert abs(count(layers, [*last, "head"]) - 540_000) < 5_000
    assert dict(curve(layers))[6] == 537_290


def test_eighty_seven_percent() -> None:
    """The published 87 % (arXiv 2309.11048) lies between leaving 9 and leaving 8 bottlenecks."""
    layers = mobilenet_v2()
    whole = count(layers)
    saved = {done: 1 - left / whole for done, left in curve(layers)}
    assert saved[9] < 0.87 < saved[10]
    assert saved[9] == pytest.approx(0.860, abs=5e-4)
    assert saved[10] == pytest.approx(0.881, abs=5e-4)


def test_curve_falls_from_none_to_all() -> None:
    layers = mobilenet_v2()
    numbers = [left for _, left in curve(layers)]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == len(parts(layers)) + 1 == 19
    assert numbers[-1] == 161_642


def test_unknown_part() -> None:
    with pytest.raises(ValueError, match=r"^part must be one of b1, .*, head, not 'stem'$"):
        count(mobilenet_v2(), ["stem"])
