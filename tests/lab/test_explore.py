"""Sweeps: what is planned, what a store survives, and workers that die."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from mulfree import tools
from mulfree.catalog import spec_class
from mulfree.engine.array import ArraySpec
from mulfree.spec import SpecError
from mulfree.units.lutna import LutNASpec
from mulfree_lab import explore as lab
from mulfree_lab.commands.explore import command
from mulfree_lab.explore import Axis, Point, Store, SweepError, axis, front, plan, read, to_csv

ARRAY = spec_class("array")
#: Six points that take a second each: iCE40 has the fastest synthesis of such.
SWEEP = (
    "pot", "--sweep", "act_bits=2:4", "--sweep", "weight_bits=2,3", "--target", "gowin",
    "--jobs", "1",
)  # fmt: skip
TOTAL = 6


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("act_bits=2:4", (2, 3, 4)),
        ("act_bits=2:8:3", (2, 5, 8)),
        ("act-bits=8, 2:3,3", (8, 2, 3)),
        ("pipeline=-1:1", (-1, 0, 1)),
        ("act_signed=true,false", (True, False)),
        ("kind=lutna,pot", ("lutna", "pot")),
        ("form=star,booth", ("star", "booth")),
        ("weight_bits=2:16:7", (2, 9, 16)),  # 16 is too wide for one of the kinds only
    ],
)
def test_axis(text: str, values: tuple) -> None:
    assert axis(ARRAY, text).values == values


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("act_bits", "sweep must be FIELD=VALUES, not 'act_bits'"),
        ("act_bits=", "sweep must be FIELD=VALUES"),
        ("colour=3", r"sweep must name one of kind, .*, not 'colour'"),
        ("act_bits=2:17", "act_bits must be between 1 and 16, not 17"),
        ("act_bits=4:2", "act_bits must be LOW:HIGH with LOW at most HIGH, not '4:2'"),
        ("act_bits=wide", r"act_bits must be integers or LOW:HIGH\[:STEP\], not 'wide'"),
        ("act_bits=1:4:0", "act_bits must be integers"),
        ("act_signed=1", "act_signed must be true or false, not '1'"),
        ("kind=dsp", "kind must be one of lutna, pot, baseline, not 'dsp'"),
        ("form=sttar", r"form must be one of star, .*, not 'sttar'"),
        ("matrix=3", "sweep must name a number, choice or flag, not the matrix 'matrix'"),
    ],
)
def test_axis_refused(text: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        axis(ARRAY, text)


def test_plan_leaves_out_what_is_illegal_and_counts_it() -> None:
    found = plan(LutNASpec, {"act_bits": 4}, [Axis("digit_bits", (1, 2, 8))], ["ecp5", "xc7"])
    assert [(p.spec.digit_bits, p.target) for p in found.points] == [
        (1, "ecp5"), (1, "xc7"), (2, "ecp5"), (2, "xc7"),
    ]  # fmt: skip
    assert found.illegal == {"digit_bits must be at most act_bits (4), not 8": 1}


def test_plan_sweeps_a_parameter_in_the_kinds_that_have_it() -> None:
    axes = [Axis("kind", ("lutna", "pot")), Axis("terms", (1, 2)), Axis("acc_bits", (24, 32))]
    found = plan(ARRAY, {"weight_bits": 4}, axes, ["ecp5"])
    specs = [p.spec for p in found.points]
    assert [(s.core.unit, s.acc_bits) for s in specs] == [
        ("lutna", 24), ("lutna", 32), ("pot", 24), ("pot", 32), ("pot", 24), ("pot", 32),
    ]  # fmt: skip
    assert [s.core.terms for s in specs[2:]] == [1, 1, 2, 2]
    assert all(s.core.weight_bits == 4 for s in specs)


def test_plan_refuses_what_has_no_point() -> None:
    with pytest.raises(SpecError, match=r"sweep must hold a legal combination; digit_bits must"):
        plan(LutNASpec, {"act_bits": 2}, [Axis("digit_bits", (4,))], ["ecp5"])
    with pytest.raises(SpecError, match="act_bits must be set once, not twice"):
        plan(LutNASpec, {"act_bits": 2}, [Axis("act_bits", (4,))], ["ecp5"])


def test_samples_repeat_and_grow() -> None:
    axes = [axis(ARRAY, text) for text in ("kind=lutna,pot", "act_bits=2:8", "weight_bits=2:8")]
    small = plan(ARRAY, {}, axes, ["ecp5"], sample=8, seed=3).points
    assert small == plan(ARRAY, {}, axes, ["ecp5"], sample=8, seed=3).points
    assert set(small) < set(plan(ARRAY, {}, axes, ["ecp5"], sample=20, seed=3).points)
    assert set(small) != set(plan(ARRAY, {}, axes, ["ecp5"], sample=8, seed=4).points)
    assert [p.spec.core.unit for p in small] == ["lutna"] * 4 + ["pot"] * 4


def record(name: str, target: str = "ecp5", luts: int = 10, products: int = 1) -> dict:
    spec = ArraySpec(core=LutNASpec(act_bits=3, weight_bits=3))
    return {
        "id": name, "key": name, "target": target, "recipe": "default", "through": "default",
        "lut_equivalents": luts, "products": products, "seconds": 1.0, "spec": spec.to_dict(),
        "tools": {"mulfree": "0"},
    }  # fmt: skip


def test_a_line_cut_short_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "store.jsonl"
    with Store(path) as store:
        store.add(record("a"))
        store.add(record("b"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"id":"c","tar')
    assert [r["id"] for r in read(path)] == ["a", "b"]
    with Store(path) as store:
        assert path.read_bytes() == whole
        assert list(store.records) == ["a", "b"]
        store.add(record("c"))
    assert [r["id"] for r in read(path)] == ["a", "b", "c"]


def test_a_store_is_written_by_one_sweep_at_a_time(tmp_path: Path) -> None:
    with (
        Store(tmp_path / "store.jsonl"),
        pytest.raises(SweepError, match="store must be written by one sweep at a time"),
    ):
        Store(tmp_path / "store.jsonl")
    Store(tmp_path / "store.jsonl").close()


@pytest.mark.parametrize(
    ("text", "where"), [("three\nlines\nof prose\n", "what is on line 1"), ("one line", "the end")]
)
def test_a_file_that_is_no_store(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "notes.txt").write_text(text)
    with pytest.raises(SweepError, match=rf"one result a line, not {where} of .*notes"):
        Store(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == text


def test_front() -> None:
    records = [
        record("small", luts=10, products=1), record("large", luts=30, products=4),
        record("beaten", luts=31, products=4), record("worse", luts=20, products=1),
        record("elsewhere", "xc7", luts=99, products=1), record("tie", luts=10, products=1),
    ]  # fmt: skip
    found = front(records, ["lut_equivalents", "products"])
    assert {t: [r["id"] for r in best] for t, best in found.items()} == {
        "ecp5": ["small", "large"], "xc7": ["elsewhere"],
    }  # fmt: skip
    with pytest.raises(SpecError, match=r"front must name counts .* not 'beauty'"):
        front(records, ["beauty"])


def test_csv_has_a_column_for_every_parameter() -> None:
    header, row = to_csv([record("a")]).splitlines()
    values = dict(zip(header.split(","), row.split(","), strict=True))
    assert values["kind"] == "lutna"
    assert values["act_bits"] == "3"
    assert values["acc_bits"] == "32"
    assert values["lut_equivalents"] == "10"


def test_ids_depend_on_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = LutNASpec(act_bits=2)
    points = [Point(spec, "ecp5"), Point(spec, "xc7"), Point(spec, "ecp5", "best")]
    points.append(Point(LutNASpec(act_bits=3), "ecp5"))
    ids = {p.id for p in points}
    assert len(ids) == 4
    monkeypatch.setattr(lab, "stamp", lambda: "another version")
    assert points[0].id not in ids


def test_command_refuses(tmp_path: Path) -> None:
    for words, sentence in (
        (["pot", "--sweep", "act_bits=0:4"], "act_bits must be between 1 and 16, not 0"),
        (["pot", "--target", "cpld"], "target must be one of"),
        (["pot", "--store", str(tmp_path)], "is a directory"),
        (["nothing"], "unit must be one of"),
    ):
        result = CliRunner().invoke(command, words)
        assert result.exit_code == 2
        assert sentence in result.output


@pytest.fixture
def fresh(tmp_path: Path) -> dict[str, str]:
    """An environment whose caches of results are empty; the compiled tools stay."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return os.environ | {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "YOWASP_CACHE_DIR": os.environ.get("YOWASP_CACHE_DIR", str(home / "YoWASP")),
    }


def start(words: tuple[str, ...], folder: Path, env: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        [tools.executable("mulfree"), "explore", *words, "--json"], cwd=folder, env=env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def lines(folder: Path) -> list[str]:
    path = folder / "sweep.jsonl"
    return path.read_text().splitlines(keepends=True) if path.exists() else []


def wait_for(number: int, folder: Path, process: subprocess.Popen, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while len(lines(folder)) < number:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < end
        time.sleep(0.02)


def test_killed_and_resumed_without_repeating_a_point(
    tmp_path: Path, fresh: dict[str, str]
) -> None:
    process = start(SWEEP, tmp_path, fresh)
    wait_for(2, tmp_path, process)
    process.kill()  # SIGKILL: nothing can be tidied up
    process.communicate()
    before = "".join(lines(tmp_path))
    done = before.count("\n")
    assert 2 <= done < TOTAL
    # An empty cache of syntheses: what the store has is not measured again even so.
    resumed = start(SWEEP, tmp_path, fresh | {"XDG_CACHE_HOME": str(tmp_path / "empty")})
    out, err = resumed.communicate()
    assert resumed.returncode == 0, err
    summary = json.loads(out)
    after = "".join(lines(tmp_path))
    assert after.startswith(before[: before.rfind("\n") + 1])
    assert after.count("\n") == TOTAL
    assert len({json.loads(line)["id"] for line in after.splitlines()}) == TOTAL
    assert summary["kept"] == done
    assert len(summary["points"]) == TOTAL
    kept = list((tmp_path / "empty" / "mulfree" / "synthesis").rglob("*.json"))
    assert len(kept) == TOTAL - done
    # A third time there is nothing left to do, whatever the cache holds.
    again = json.loads(start(SWEEP, tmp_path, fresh).communicate()[0])
    assert again["kept"] == TOTAL
    assert again["points"] == summary["points"]


@pytest.mark.slow
def test_five_hundred_points_survive_two_kills(tmp_path: Path, fresh: dict[str, str]) -> None:
    words = (
        "lutna", "--sweep", "act_bits=2:8", "--sweep", "weight_bits=2:10", "--sweep", "lanes=1,2",
        "--sweep", "act_signed=true,false", "--target", "ecp5,ice40",
    )  # fmt: skip
    total = 504

    def go_on(number: int, kill_at: int | None) -> tuple[int, Path, str]:
        """Return points that were there before, the cache that was empty before, the output."""
        before = "".join(lines(tmp_path))
        cache = tmp_path / f"cache{number}"  # no synthesis is known from before: only the store is
        process = start(words, tmp_path, fresh | {"XDG_CACHE_HOME": str(cache)})
        if kill_at is not None:
            wait_for(kill_at, tmp_path, process, seconds=3600)
            os.killpg(process.pid, signal.SIGKILL)  # the syntheses too
        out, err = process.communicate()
        assert kill_at or process.returncode == 0, err
        assert "".join(lines(tmp_path)).startswith(before[: before.rfind("\n") + 1])
        return before.count("\n"), cache, out

    go_on(1, 150)
    go_on(2, 350)
    done, cache, out = go_on(3, None)
    summary = json.loads(out)
    records = read(tmp_path / "sweep.jsonl")
    assert len(records) == len({r["id"] for r in records}) == len({r["key"] for r in records})
    assert len(records) == len(summary["points"]) == total
    assert not summary["failed"]
    assert summary["kept"] == done >= 350
    last = list((cache / "mulfree" / "synthesis").rglob("*.json"))
    assert len(last) == total - done


@pytest.mark.slow
def test_two_workers_are_nearly_twice_as_fast(tmp_path: Path, fresh: dict[str, str]) -> None:
    if (os.cpu_count() or 1) < 2 or os.getloadavg()[0] > 0.5:
        pytest.skip("two processors must have nothing else to do")
    words = (
        "lutna", "--lanes", "2", "--sweep", "act_bits=4:8", "--sweep", "weight_bits=4:8",
        "--fresh",
    )  # fmt: skip
    seconds = []
    for jobs in ("1", "2"):
        began = time.monotonic()
        process = start((*words, "--jobs", jobs, "--store", f"{jobs}.jsonl"), tmp_path, fresh)
        process.communicate()
        assert process.returncode == 0
        seconds.append(time.monotonic() - began)
    print(f"25 points: {seconds[0]:.1f} s with one worker, {seconds[1]:.1f} s with two")
    assert seconds[0] >= 1.7 * seconds[1]


def test_interrupted_sweep_leaves_a_clean_store(tmp_path: Path, fresh: dict[str, str]) -> None:
    process = start(SWEEP, tmp_path, fresh)
    wait_for(1, tmp_path, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    done = len(lines(tmp_path))
    assert f"{done} of {TOTAL} points are kept in sweep.jsonl; the same command goes on" in err
    assert "Traceback" not in err
    assert len(read(tmp_path / "sweep.jsonl")) == done < TOTAL


@contextmanager
def cluster(folder: Path, env: dict[str, str]) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A Dask scheduler and three workers of one thread, each a process of its own."""
    quiet = {"cwd": folder, "env": env, "stdout": subprocess.DEVNULL}
    log = folder / "scheduler.log"
    running: list[subprocess.Popen] = []
    dask = [sys.executable, "-m", "distributed.cli"]
    try:
        with log.open("w") as file:
            running.append(
                subprocess.Popen(
                    [*dask[:2], "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
                     "--port", "0", "--no-dashboard", "--no-jupyter"],
                    **quiet, stderr=file,
                )
            )  # fmt: skip
        end = time.monotonic() + 60
        while not (found := re.search(r"tcp://127\.0\.0\.1:\d+", log.read_text())):
            assert running[0].poll() is None, log.read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        for _ in range(3):
            running.append(
                subprocess.Popen(
                    [*dask[:2], "distributed.cli.dask_worker", found[0], "--nthreads", "1",
                     "--no-nanny", "--no-dashboard", "--death-timeout", "60"],
                    **quiet, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
        yield found[0], running[1:]
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def test_cluster_loses_a_worker_and_nothing_else(tmp_path: Path, fresh: dict[str, str]) -> None:
    pytest.importorskip("distributed")
    with cluster(tmp_path, fresh) as (address, workers):
        process = start((*SWEEP, "--scheduler", address), tmp_path, fresh)
        wait_for(1, tmp_path, process)
        workers[0].kill()  # with a point in its hands
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    summary = json.loads(out)
    assert len(summary["points"]) == TOTAL
    assert not summary["failed"]
    assert len(lines(tmp_path)) == TOTAL
    # Nothing but the time depends on who measured: here, on this machine.
    local = json.loads(start((*SWEEP, "--store", "local.jsonl"), tmp_path, fresh).communicate()[0])
    for far, near in zip(summary["points"], local["points"], strict=True):
        assert far | {"seconds": 0} == near | {"seconds": 0}


def test_no_scheduler_at_the_address(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    words = ["pot", "--store", str(tmp_path / "s.jsonl"), "--scheduler", "tcp:/nowhere"]
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 2
    assert "scheduler must be the address of a Dask scheduler, not 'tcp:/nowhere'" in result.output
