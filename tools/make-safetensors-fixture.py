"""Writes fixtures/formats: tiny files by the official Python libraries, which Scion must read and reproduce.

    python tools/make-safetensors-fixture.py

Needs numpy and safetensors (made with numpy 2.4.6 and safetensors 0.8.0). Every number is set here, none is random, so
that the same versions give the same bytes.
"""
from pathlib import Path

import numpy as np
from safetensors import TensorSpec, serialize

folder = Path(__file__).resolve().parent.parent / "fixtures" / "formats"
folder.mkdir(parents=True, exist_ok=True)

floats = np.array([[0, -0.0, 1.5], [-2.25, 65504, 2.0**-24]])
arrays = {
    "f16": floats.astype("<f2"),
    "f32": floats.astype("<f4"),
    "f64": floats.astype("<f8"),
    "bool": np.array([True, False, True]),
    "scalar": np.array(7, dtype="<i4"),
    "empty": np.zeros((0, 4), dtype="<f4"),
    "b.name": np.array([1], dtype="<i4"),
    "a.näme \u2028\t\"": np.array([2], dtype="<i4"),
}
for bits in (8, 16, 32, 64):
    signed, unsigned = np.iinfo(f"i{bits // 8}"), np.iinfo(f"u{bits // 8}")
    arrays[f"i{bits}"] = np.array([signed.min, -1, 0, signed.max], dtype=f"<i{bits // 8}")
    arrays[f"u{bits}"] = np.array([0, 1, unsigned.max], dtype=f"<u{bits // 8}")

# NumPy has no bfloat16: its bits are the upper half of float32 (exact for these values)
bfloat16 = (np.array([[1.0], [-2.5]], dtype="<f4").view("<u4") >> 16).astype("<u2")


def spec(dtype, a):
    return TensorSpec(dtype=dtype, shape=list(a.shape), data_ptr=a.ctypes.data, data_len=a.nbytes)


specs = {name: spec(a.dtype.name, a) for name, a in arrays.items()} | {"bf16": spec("bfloat16", bfloat16)}
# one key only: the library writes several in an order that changes from run to run
metadata = {"class_names": '["cat", "dög"]'}
(folder / "all-dtypes.safetensors").write_bytes(serialize(specs, metadata))

for name in ("f16", "f32", "f64", "bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "scalar", "empty"):
    np.save(folder / f"{name}.npy", arrays[name])
grid = np.arange(24, dtype="<f4").reshape(2, 3, 4)
np.save(folder / "fortran.npy", np.asfortranarray(grid))
np.save(folder / "big-endian.npy", grid.astype(">f4"))
np.save(folder / "objects.npy", np.array([{"a": 1}, None]), allow_pickle=True)
np.save(folder / "structured.npy", np.zeros(2, dtype=[("x", "<f4"), ("y", "<i4")]))
np.save(folder / "text.npy", np.array(["cat", "dog"]))
for version in ((2, 0), (3, 0)):
    with open(folder / f"version{version[0]}.npy", "wb") as file:
        np.lib.format.write_array(file, grid, version=version)
