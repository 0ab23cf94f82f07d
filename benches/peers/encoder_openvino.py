"""An encoder of encoder_torch.py in OpenVINO: prints the seconds of each pass as JSON.

encoder_openvino.py MODEL SIDE PRECISION THREADS PASSES        PRECISION f32, bf16 or int8 (NNCF, static, calibrated on noise)
"""

import json
import sys
import time

import numpy as np
import openvino as ov

from encoder_torch import build


def main() -> None:
    name, side, precision, threads, passes = sys.argv[1:6]
    module, x = build(name, int(side))
    model = ov.convert_model(module, example_input=x, input=[tuple(x.shape)])
    x = x.numpy()
    if precision == "int8":
        import nncf

        samples = [np.random.default_rng(seed).standard_normal(x.shape, np.float32) for seed in range(2)]
        model = nncf.quantize(model, nncf.Dataset(samples), subset_size=2, model_type=nncf.ModelType.TRANSFORMER)
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": int(threads),
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = ov.Core().compile_model(model, "CPU", options).create_infer_request()
    request.infer({0: x})
    seconds = []
    for _ in range(int(passes)):
        start = time.perf_counter()
        request.infer({0: x})
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "version": f"OpenVINO {ov.__version__}"}))


if __name__ == "__main__":
    main()
