"""PyTorch peer of the LoRA benchmark: one training step of CLIP's image tower with LoRA by Python's PEFT.

The tower is transformers' CLIPVisionModel, the adapter PEFT's own LoRA as `PeftModel.from_pretrained` loads it; the loss is
the mean squared difference of `pooler_output` to a target. The requests are those of engine.py, but that load has

    {"op": "load", "weights": PATH, "settings": PATH, "adapter": FOLDER, "inputs": PATH, "batch": 16, "threads": 2}

Without torch, transformers or peft, load answers {"ok": false, "error": "no torch"}.
"""
import json

import engine

try:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from torch.nn import functional as F
    from transformers import CLIPVisionConfig, CLIPVisionModel
except ImportError:
    engine.torch = None


class Lora(engine.Engine):
    def load(self, weights, settings, adapter, inputs, batch, threads, **_):
        torch.set_num_threads(threads)
        given = load_file(inputs)
        self.x, self.target = given["x"], given["target"]
        if len(self.x) != batch:
            raise ValueError(f"{inputs}: {len(self.x)} pictures, expected {batch}")
        with open(settings) as file:
            config = CLIPVisionConfig(**json.load(file))
        tower = CLIPVisionModel(config)
        # Cloned: the mapped file is not aligned to 64 bytes, which costs matrix products 1 to 2 %.
        missing, unexpected = tower.load_state_dict(
            {name: value.clone() for name, value in load_file(weights).items()}, assign=True, strict=False)
        if unexpected or any("position_ids" not in name for name in missing):
            raise ValueError(f"{weights}: missing {missing}, unexpected {unexpected}")
        tower.requires_grad_(False)
        self.peft = PeftModel.from_pretrained(tower, adapter, is_trainable=True)
        self.peft.train()
        trained = [value for value in self.peft.parameters() if value.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01)
        return {"torch": engine.torch_version(), "threads": torch.get_num_threads(), "trained": sum(p.numel() for p in trained)}

    def model(self, x):
        return self.peft(pixel_values=x).pooler_output


if __name__ == "__main__":
    lora = Lora()
    measured = {name: getattr(lora, name) for name in ("load", "forward", "train", "output")}
    engine.serve({**measured, "memory": engine.memory, "reset_memory": engine.reset_memory})
