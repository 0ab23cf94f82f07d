"""Compares the binary with PyTorch: the share of pictures for which both write the same caption.

    python -m ocelli_training.agree --checkpoint RUNS/qat/checkpoint.pt --tokenizer FILE --pictures DIR --captions FILE.jsonl [--mode balanced]

Keys and values are rounded to 8 bits (and activations, where a part says so), so a difference in the last bit of a sum may become one of a whole
level, and a word that is as likely as another may change. `--control` shows how often: it lets PyTorch write each caption in f64 as well.

`--captions` is what `ocelli caption DIR --mode M --format jsonl` printed for the PNG files of DIR, which have the mode's own size.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch

from .chat import CAPTION_PROMPT, Chat
from .data import pixels
from .export import PARTS, load_checkpoint, quantize_model
from .generate import answer
from .model import Ocelli
from .train_language import POOLED


def reference(checkpoint: Path) -> Ocelli:
    """The model with the arithmetic of the binary: packed weights, 8-bit cache."""
    model = load_checkpoint(checkpoint)
    quantize_model(model, PARTS)
    model.decoder.quantize_kv = True
    return model.eval()


def views_of_picture(image: np.ndarray, mode: str) -> torch.Tensor:
    if mode != "high":
        return pixels(image)[None]
    half = image.shape[0] // 2
    overview = cv2.resize(image, (half, half), interpolation=cv2.INTER_AREA)
    tiles = [image[y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    return torch.stack([pixels(np.ascontiguousarray(view)) for view in (overview, *tiles)])


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--captions", type=Path, required=True)
    parser.add_argument("--mode", default="balanced", choices=POOLED)
    parser.add_argument("--control", action="store_true", help="also compare PyTorch in f32 with PyTorch in f64")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, chat = reference(args.checkpoint), Chat(args.tokenizer)
    double = reference(args.checkpoint).double() if args.control else None
    same = same_as_double = total = 0
    for line in args.captions.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        image = cv2.cvtColor(cv2.imread(str(args.pictures / Path(record["path"]).name)), cv2.COLOR_BGR2RGB)
        views, pooled = views_of_picture(image, args.mode), POOLED[args.mode]
        expected = answer(model, chat, model.image_tokens(views, pooled), CAPTION_PROMPT)
        total += 1
        same += expected == record["caption"]
        if expected != record["caption"]:
            print(f"{record['path']}\n  PyTorch: {expected}\n  binary:  {record['caption']}", flush=True)
        if double:
            same_as_double += expected == answer(double, chat, double.image_tokens(views.double(), pooled), CAPTION_PROMPT)
    print(f"{same} of {total} captions are the same ({same / max(total, 1):.1%})")
    if double:
        print(f"PyTorch in f32 and in f64: {same_as_double} of {total} ({same_as_double / max(total, 1):.1%})")


if __name__ == "__main__":
    main()
