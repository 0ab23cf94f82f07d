"""Ours against what else one could use, in turn on this machine: a table of ratios, and a JSON for `chart.py`.

    cargo build --release
    python3 benches/peers/run.py --ocelli target/release/ocelli --work DIR [--rounds N] [--only NAME...] [--python PYTHON]

In DIR (some 20 GB) it makes an environment with PyTorch, OpenVINO and NNCF, builds llama.cpp from the source inside llama-cpp-python's source
distribution, and writes weights; a second run finds them there. `--python` names an environment that has the Python packages already. What cannot
be installed or run is named in the table. A round measures each of them once after a pass that does not count; medians are over the rounds.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = ["torch", "numpy", "openvino", "nncf", "gguf", "cmake", "ninja", "scikit-build-core"]


def call(*command: str | Path, **options) -> str:
    """What a command prints. Raises RuntimeError with the end of its errors."""
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines() or [f"exit status {result.returncode}"]
        raise RuntimeError(lines[-1][:200])
    return result.stdout


class Peers:
    """The other programs, each set up when it is first asked for."""

    def __init__(self, work: Path, python: Path | None, threads: int):
        self.work, self.threads = work, threads
        self._python = python
        work.mkdir(parents=True, exist_ok=True)

    @property
    def python(self) -> Path:
        if self._python is None:
            environment = self.work / "env"
            self._python = environment / "bin/python"
            if not self._python.exists():
                print("making an environment ...", file=sys.stderr)
                call(sys.executable, "-m", "venv", environment)
            call(self._python, "-m", "pip", "install", "-q", *PACKAGES)
        return self._python

    def llama_bench(self) -> Path:
        build = self.work / "llama-build"
        program = build / "bin/llama-bench"
        if program.exists():
            return program
        print("building llama.cpp ...", file=sys.stderr)
        python = self.python
        environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
        # Its build reads no metadata, so that the build backend need not run.
        options = ["--no-binary", "llama-cpp-python", "--no-deps", "--no-build-isolation", "-d", self.work / "sdist"]
        call(python, "-m", "pip", "download", "-q", *options, "llama-cpp-python", env=environment)
        archive = next((self.work / "sdist").glob("llama_cpp_python-*.tar.gz"))
        with tarfile.open(archive) as tar:
            tar.extractall(self.work / "source", filter="data")
        source = next((self.work / "source").glob("*/vendor/llama.cpp"))
        off = ["LLAMA_CURL", "LLAMA_OPENSSL", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_SERVER"]
        settings = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", *(f"-D{name}=OFF" for name in off)]
        call("cmake", "-S", source, "-B", build, "-G", "Ninja", *settings, env=environment)
        call("cmake", "--build", build, "--target", "llama-bench", env=environment)
        return program

    def llama(self, kind: str, *options: str) -> float:
        """Tokens a second of the one test that the options ask for."""
        program = self.llama_bench()
        weights = self.work / "gguf" / f"{kind}.gguf"
        if not weights.exists():
            weights.parent.mkdir(exist_ok=True)
            call(self.python, HERE / "decoder_gguf.py", kind, weights)
        out = call(program, "-m", weights, "-t", str(self.threads), "-r", "1", "-o", "json", *options)
        return json.loads(out)[0]["avg_ts"]

    def seconds(self, script: str, *arguments: str) -> float:
        """Median seconds of three passes of a script here."""
        out = call(self.python, HERE / script, *arguments, str(self.threads), "3")
        return statistics.median(json.loads(out.splitlines()[-1])["seconds"])


class Ocelli:
    """Our program. One run measures several stages: what it measured in a round is kept until the next."""

    def __init__(self, program: Path, threads: int):
        self.program, self.threads = program, threads
        self.kept: dict[tuple[str, ...], dict] = {}
        self.reports: list[dict] = []

    def stage(self, name: str, field: str, *options: str) -> float:
        if options not in self.kept:
            command = [self.program, "bench", "--format", "json", "--repeat", "1", "--threads", str(self.threads), *options]
            self.kept[options] = json.loads(call(*command))
            self.reports.append(self.kept[options])
        return next(stage[field] for stage in self.kept[options]["stages"] if stage["name"] == name)


def rows(ours: Ocelli, peers: Peers) -> list[dict]:
    """What is measured: `higher` says whether more is better; `goal` is the ratio to reach."""
    rapid = ["--preset", "afm-3b", "--mode", "rapid", "--prompt", "133", "--generate", "32"]
    balanced = ["--preset", "afm-3b", "--mode", "balanced", "--prompt", "574", "--generate", "1"]
    deep = ["--preset", "afm-3b", "--mode", "rapid", "--depth", "2048", "--generate", "16"]
    vit_g = lambda mode: ["--preset", "vit-g", "--mode", mode, "--generate", "1"]  # noqa: E731
    speed = lambda name, options: lambda: ours.stage(name, "per_second", *options)  # noqa: E731
    seconds = lambda name, options: lambda: ours.stage(name, "median_ms", *options) / 1e3  # noqa: E731
    llama = lambda kind, *options: lambda: peers.llama(kind, *options)  # noqa: E731
    script = lambda name, *arguments: lambda: peers.seconds(f"encoder_{name}.py", *arguments)  # noqa: E731

    # In 8 bits at 224 alone: NNCF needs more than ten minutes to calibrate attention over 2304 patches.
    def encoder(side: str, kinds: list[str]) -> dict[str, Callable[[], float]]:
        found = {f"OpenVINO {kind}, full attention": script("openvino", "vit-l", side, kind) for kind in kinds}
        return found | {f"torch {kind}, windows": script("torch", "vitdet-l", side, kind) for kind in float_kinds()}

    deep_cache = ["-p", "0", "-n", "16", "-d", "2048", "-ctk", "q8_0", "-ctv", "q8_0", "-fa", "1"]
    tokens, views = "tokens/s", "s a view"
    return [
        {"name": "decode, short", "unit": tokens, "goal": 1.6, "ours": speed("decode", rapid),
         "peers": {"llama.cpp TQ2_0": llama("tq2_0", "-p", "0", "-n", "32")}},
        {"name": "decode, depth 2048", "unit": tokens, "goal": None, "ours": speed("decode", deep),
         "peers": {"llama.cpp TQ2_0, 8-bit KV": llama("tq2_0", *deep_cache)}},
        {"name": "prefill, 144 tokens", "unit": tokens, "goal": 3.0, "ours": speed("prefill", rapid),
         "peers": {f"llama.cpp {kind.upper()}": llama(kind, "-p", "144", "-n", "0") for kind in ["iq2_xxs", "tq2_0"]}},
        {"name": "prefill, 720 tokens", "unit": tokens, "goal": 3.0, "ours": speed("prefill", balanced),
         "peers": {f"llama.cpp {kind.upper()}": llama(kind, "-p", "720", "-n", "0") for kind in ["iq2_xxs", "tq2_0"]}},
        {"name": "ViTDet-L, 224", "unit": views, "goal": 1.3, "ours": seconds("encode", rapid),
         "peers": encoder("224", ["int8", *float_kinds()])},
        {"name": "ViTDet-L, 672", "unit": views, "goal": 2.0, "ours": seconds("encode", balanced),
         "peers": encoder("672", float_kinds())},
        {"name": "ViT-g, 224", "unit": views, "goal": 2.0, "ours": seconds("encode", vit_g("rapid")),
         "peers": {f"torch {kind}": script("torch", "vit-g", "224", kind) for kind in float_kinds()}},
        {"name": "ViT-g, 672", "unit": views, "goal": 2.0, "ours": seconds("encode", vit_g("balanced")),
         "peers": {f"torch {kind}": script("torch", "vit-g", "672", kind) for kind in float_kinds()}},
        {"name": "adapter, 672", "unit": views, "goal": 8.0, "ours": seconds("adapt", balanced),
         "peers": {"torch f32, convolution of all patches, its layer left out": script("torch", "adapter", "672", "f32")}},
    ]  # fmt: skip


def float_kinds() -> list[str]:
    """bf16 is measured where the processor has it: elsewhere it is emulated, and many times slower than f32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ["f32"]
    return ["bf16", "f32"] if "avx512_bf16" in flags or "amx_bf16" in flags else ["f32"]


def measure(row: dict, results: dict[str, list[float]]) -> None:
    for name, function in [("ocelli", row["ours"]), *row["peers"].items()]:
        if results.get(name) == []:
            continue  # it failed in an earlier round
        try:
            results.setdefault(name, []).append(function())
            print(f"  {row['name']}: {name} {results[name][-1]:.3f} {row['unit']}", file=sys.stderr)
        except (RuntimeError, OSError, StopIteration) as error:
            results[name] = []
            print(f"  {row['name']}: {name} could not be run: {error}", file=sys.stderr)


def table(measured: list[dict]) -> str:
    lines = ["| work | ocelli | peer | | ratio | goal |", "| --- | ---: | --- | ---: | ---: | ---: |"]
    for row in measured:
        ours = row["medians"].get("ocelli")
        for name, theirs in row["medians"].items():
            if name == "ocelli":
                continue
            if ours is None or theirs is None:
                lines.append(f"| {row['name']} | {ours or '-'} | {name} | could not be run | | |")
                continue
            ratio = ours / theirs if row["unit"] == "tokens/s" else theirs / ours
            goal = f"{row['goal']} x" if row["goal"] else ""
            lines.append(f"| {row['name']} | {ours:.3g} {row['unit']} | {name} | {theirs:.3g} | {ratio:.2f} x | {goal} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ocelli", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="rows whose name begins with one of these")
    parser.add_argument("--python", type=Path)
    parser.add_argument("--json", type=Path, help="where to write what was measured")
    options = parser.parse_args()
    ours, peers = Ocelli(options.ocelli, options.threads), Peers(options.work, options.python, options.threads)
    wanted = [row for row in rows(ours, peers) if not options.only or row["name"].startswith(tuple(options.only))]
    results: list[dict[str, list[float]]] = [{} for _ in wanted]
    for round_number in range(options.rounds):
        print(f"round {round_number + 1} of {options.rounds}", file=sys.stderr)
        ours.kept.clear()
        for row, result in zip(wanted, results, strict=True):
            measure(row, result)
    measured = [
        {"name": row["name"], "unit": row["unit"], "goal": row["goal"], "runs": result,
         "medians": {name: statistics.median(runs) if runs else None for name, runs in result.items()}}
        for row, result in zip(wanted, results, strict=True)
    ]  # fmt: skip
    print(table(measured))
    if options.json:
        machine = {"machine": platform.machine(), "cpus": os.cpu_count(), "threads": options.threads}
        limits = [report["limits"] for report in ours.reports]
        isa = ours.reports[0]["isa"] if ours.reports else None
        report = {"date": date.today().isoformat(), **machine, "isa": isa, "limits": limits, "rows": measured}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
