"""Checks exported models with ONNX's own checker and shape inference, and prints what each takes and gives.

    pip install onnx==1.23.0
    python tools/check-onnx.py FOLDER-OR-FILE...
"""
import sys
from pathlib import Path

import onnx

for argument in sys.argv[1:]:
    path = Path(argument)
    for file in sorted(path.rglob("*.onnx")) if path.is_dir() else [path]:
        onnx.checker.check_model(str(file), full_check=True)
        model = onnx.load(str(file), load_external_data=False)
        opsets = {o.domain or "ai.onnx": o.version for o in model.opset_import}

        def show(values):
            dims = ([d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values)
            return ", ".join(f"{v.name} {d}" for v, d in zip(values, dims))

        print(f"{file}: {opsets}, {len(model.graph.node)} nodes: {show(model.graph.input)} -> {show(model.graph.output)}")
