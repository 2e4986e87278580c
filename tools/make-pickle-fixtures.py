"""Writes fixtures/pickle: tiny checkpoints by PyTorch, which Scion must read, and what is in them.

    python tools/make-pickle-fixtures.py

Needs torch and safetensors (made with torch 2.13.0 and safetensors 0.8.0). Every number is set here, none is random; the
same versions give the same bytes, except in `*stream.pt`, which hold addresses.
`expected.safetensors` holds each tensor of each file as `<file>:<name>`, in row-major order.
`evil-*` try to run a command when Python loads them: do not load them with Python.
"""
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import List

import torch
from safetensors.torch import save_file
from torch import nn

folder = Path(__file__).resolve().parent.parent / "fixtures" / "pickle"
folder.mkdir(parents=True, exist_ok=True)


def counted(*shape, dtype=torch.float32, start=0):
    return torch.arange(start, start + torch.Size(shape).numel()).reshape(shape).to(dtype)


FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
all_dtypes = {name: counted(2, 3, dtype=getattr(torch, name), start=1) for name in FLOATS + INTEGERS}
all_dtypes |= {"bool": torch.tensor([True, False, True]), "scalar": torch.tensor(7.5), "empty": torch.zeros(0, 4)}

base = counted(4, 6)
views = {
    "base": base,
    "tied": base,
    "row": base[2],
    "rows": base[1:3],
    "columns": base[:, 1:5:2],
    "transposed": base.t(),
    "expanded": torch.tensor([1.5, 2.5]).expand(3, 2),
    "one": counted(1, 5).expand(1, 5),
    "channels_last": counted(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
    "parameter": nn.Parameter(counted(2, 2)),
}


class Block(nn.Module):
    def __init__(self, start: int):
        super().__init__()
        self.proj = nn.Linear(2, 3)
        self.act = nn.ReLU()
        self.sizes: List[int] = [start, 2]
        self.proj.weight = nn.Parameter(counted(3, 2, start=start))
        self.proj.bias = nn.Parameter(counted(3, start=start + 6).half().float())

    def forward(self, x):
        return self.act(self.proj(x)) * self.sizes[0]


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(1), Block(10))
        self.logit_scale = nn.Parameter(torch.tensor(4.5).half())
        self.register_buffer("input_resolution", torch.tensor(224))

    def forward(self, x):
        return x * self.logit_scale


tower = Tower()
optimizer = torch.optim.AdamW(tower.parameters(), lr=1e-3)
tower.logit_scale.grad = torch.ones_like(tower.logit_scale)
optimizer.step()
training = {
    "epoch": 3, "best": 0.5, "arch": "tower", "device": torch.device("cpu"), "shape": torch.Size([2, 3]),
    "state_dict": tower.state_dict(), "optimizer": optimizer.state_dict(),
}
nested = {"image": {"proj": counted(2, 2)}, "text": OrderedDict(layers=[counted(2), counted(3)]), 0: counted(1)}

files = {
    "all-dtypes.pt": (all_dtypes, all_dtypes, {}),
    "views.pt": (views, views, {}),
    "training.pt": (training, tower.state_dict(), {}),
    "nested.pt": (nested, {
        "image.proj": nested["image"]["proj"], "0": nested[0],
        "text.layers.0": nested["text"]["layers"][0], "text.layers.1": nested["text"]["layers"][1],
    }, {}),
    "protocol-4.pt": (views, views, {"pickle_protocol": 4}),
    "protocol-5.pt": (tower.state_dict(), tower.state_dict(), {"pickle_protocol": 5}),
    "stream.pt": (views, views, {"_use_new_zipfile_serialization": False}),
    "tensor.pt": (counted(3), {"": counted(3)}, {}),
}
expected = {}
for name, (content, tensors, options) in files.items():
    torch.save(content, folder / name, **options)
    expected |= {f"{name}:{key}": t.detach().clone(memory_format=torch.contiguous_format) for key, t in tensors.items()}

# TorchScript, without the records that hold the paths of source files on the machine that wrote them
whole = folder / "script.tmp"
torch.jit.save(torch.jit.script(tower), str(whole))
reader = torch._C.PyTorchFileReader(str(whole))
writer = torch._C.PyTorchFileWriter(str(folder / "script.pt"))
own = {"version", ".data/serialization_id"}  # the writer adds these itself
for record in reader.get_all_records():
    if record not in own and not record.endswith(".debug_pkl"):
        data = reader.get_record(record)
        writer.write_record(record, data, len(data))
writer.write_end_of_file()
whole.unlink()
script = torch.jit.load(str(folder / "script.pt")).state_dict()
expected |= {f"script.pt:{key}": t.detach().clone() for key, t in script.items()}

save_file(expected, folder / "expected.safetensors", metadata={"torch": torch.__version__})


class Evil:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


marker = "touch scion-pickle-was-here"
torch.save({"weight": counted(2), "x": Evil(os.system, marker)}, folder / "evil-zip.pt")
torch.save({"weight": counted(2), "x": Evil(eval, f"__import__('os').system('{marker}')")}, folder / "evil-stream.pt",
           _use_new_zipfile_serialization=False)
(folder / "evil-pickle.pt").write_bytes(pickle.dumps(Evil(os.system, marker), protocol=4))
