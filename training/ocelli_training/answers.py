"""What the binary says about a folder of pictures: its captions, and its answers to questions."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Binary:
    """The program, a model directory (None: the bundled one), and a folder for what it has encoded.

    With the folder, a question costs no encoding once a picture has a caption, and a run that was interrupted is soon where it was.
    """

    ocelli: Path
    model: Path | None = None
    cache: Path | None = None

    def captions(self, folder: Path, mode: str) -> list[dict]:
        """A line with `path` and `caption` for each picture that it could describe."""
        output = self._call("caption", str(folder), "--format", "jsonl", "--mode", mode)
        return [json.loads(line) for line in output.splitlines() if line.startswith("{")]

    def answers(self, folder: Path, mode: str, truth: list[dict]) -> list[dict]:
        """A line with `path`, `question` and `answer` for each question about these scenes."""
        return [
            {
                "path": record["path"],
                "question": asked["question"],
                "answer": self._call("ask", str(folder / record["path"]), asked["question"], "--mode", mode).strip(),
            }
            for record in truth
            for asked in record["questions"]
        ]

    def _call(self, *arguments: str) -> str:
        """Standard output of a call, whose failures on single pictures are no reason to stop."""
        command = [str(self.ocelli), *arguments, "--quiet"]
        command += ["--model", str(self.model)] if self.model else []
        command += ["--cache", str(self.cache)] if self.cache else []
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
        if done.returncode not in (0, 1) or (done.returncode == 1 and not done.stdout.strip()):
            raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout
