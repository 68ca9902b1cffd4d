"""OpenVINO's runtime on the same SavedModel, to compare with; run by an interpreter that has `openvino` and `nncf`.

    python openvino_peer.py SAVED_MODEL float32|bfloat16|int8

The 8-bit integers are those of NNCF, calibrated on random pixels, as ours are in this benchmark. For each line `size
batch` on stdin it prints the images per second and per CPU second, as `in_process.py` does.
"""

import json
import sys
import time
from contextlib import redirect_stdout

import nncf
import numpy as np
import openvino

LEAST_SECONDS = 1.0
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


def main(saved_model: str, precision: str) -> None:
    """Measure until stdin ends."""
    core = openvino.Core()
    model = core.read_model(saved_model)
    # Without the strings of the labels, which take no time, but cannot be quantized.
    model = openvino.Model([model.output("probabilities")], model.get_parameters(), "probabilities")
    if precision == "int8":
        size = model.inputs[0].partial_shape[1].get_length()
        images = np.random.default_rng(1).integers(0, 256, (32, 1, size, size, 3), np.uint8)
        with redirect_stdout(sys.stderr):
            model = nncf.quantize(model, nncf.Dataset(list(images)), subset_size=len(images))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": _HINTS[precision]})
    request = compiled.create_infer_request()
    for line in sys.stdin:
        size, batch = map(int, line.split())
        images = np.random.default_rng(1).integers(0, 256, (batch, size, size, 3), np.uint8)
        request.infer([images])
        start, start_cpu, count = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < LEAST_SECONDS:
            request.infer([images])
            count += batch
        rates = count / (time.perf_counter() - start), count / (time.process_time() - start_cpu)
        print(json.dumps(rates), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
