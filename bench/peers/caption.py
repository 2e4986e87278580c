"""PyTorch peer of the caption benchmark: a training step of GPT-2 with a visual token and routed LoRA.

The model is transformers' GPT2LMHeadModel without dropout, fed the visual feature and the embedded words; on the queries and
values of c_attn lies LoRA with the routing function `mul` (Qu et al., ECCV 2024): x_t and x_v go through one A of 2r rows, are
multiplied, and B is grouped, as the authors' loralib layer has it. The loss is the cross entropy of the next words. The
requests are those of engine.py, but that load has

    {"op": "load", "weights": PATH, "settings": PATH, "adapter": PATH, "inputs": PATH, "batch": 16, "threads": 2}
    {"op": "generate", "beams": 5, "words": 20}     {"ok": true, "seconds": s, "ids": [[..]]}

Without torch or transformers, load answers {"ok": false, "error": "no torch"}.
"""
import json
import time

import engine

try:
    import torch
    from safetensors.torch import load_file
    from torch import nn
    from torch.nn import functional as F
    from transformers import GPT2Config, GPT2LMHeadModel
except ImportError:
    engine.torch = None

RANK, ALPHA = 128, 128


if engine.torch is not None:

    class RoutedAttention(nn.Module):
        """A fused projection to queries, keys and values with LoRA on the first and the last."""

        def __init__(self, base, a, b, sight):
            super().__init__()
            self.base, self.sight = base, sight
            self.lora_A, self.lora_B = nn.Parameter(a), nn.Parameter(b)

        def forward(self, x):
            y = self.base(x)
            text, visual = F.linear(x, self.lora_A), F.linear(self.sight["visual"], self.lora_A)  # [B, S, 2r], [B, 1, 2r]
            routed = text * visual
            width = y.shape[-1] // 3
            q = F.linear(routed[..., :RANK], self.lora_B[:width])
            v = F.linear(routed[..., RANK:], self.lora_B[width:])
            return y + torch.cat([q, torch.zeros_like(q), v], -1) * (ALPHA / RANK)


class Caption(engine.Engine):
    def load(self, weights, settings, adapter, inputs, batch, threads, **_):
        torch.set_num_threads(threads)
        given = load_file(inputs)
        self.visual, self.ids, self.labels = given["visual"], given["ids"], given["labels"]
        if len(self.ids) != batch:
            raise ValueError(f"{inputs}: {len(self.ids)} texts, expected {batch}")
        with open(settings) as file:
            self.gpt2 = GPT2LMHeadModel(GPT2Config(**json.load(file)))
        # Cloned: the mapped file is not aligned to 64 bytes, which costs matrix products 1 to 2 %.
        missing, unexpected = self.gpt2.load_state_dict(
            {name: value.clone() for name, value in load_file(weights).items()}, strict=False)
        if unexpected or any(name != "lm_head.weight" for name in missing):
            raise ValueError(f"{weights}: missing {missing}, unexpected {unexpected}")
        self.gpt2.tie_weights()
        self.gpt2.requires_grad_(False)
        self.sight = sight = {"visual": self.visual}
        factors = load_file(adapter)
        for i, block in enumerate(self.gpt2.transformer.h):
            a, b = (factors[f"text_model.transformer.h.{i}.attn.c_attn.lora_{which}.weight"].clone() for which in "AB")
            block.attn.c_attn = RoutedAttention(block.attn.c_attn, a, b, sight)
        self.gpt2.train()
        trained = [value for value in self.gpt2.parameters() if value.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01)
        return {"torch": engine.torch_version(), "threads": torch.get_num_threads(), "trained": sum(p.numel() for p in trained)}

    def logits(self):
        words = self.gpt2.transformer.wte(self.ids)
        states = self.gpt2.transformer(inputs_embeds=torch.cat([self.visual, words], 1)).last_hidden_state
        return self.gpt2.lm_head(states[:, 1:])

    def loss(self):
        return F.cross_entropy(self.logits().flatten(0, 1), self.labels.flatten())

    def generate(self, beams, words):
        """Ids that beam search writes after the picture and the begin token."""
        self.gpt2.eval()
        self.sight["visual"] = self.visual.repeat_interleave(beams, 0)
        begin = self.gpt2.transformer.wte(torch.full((len(self.visual), 1), self.gpt2.config.bos_token_id))
        start = time.perf_counter()
        ids = self.gpt2.generate(
            inputs_embeds=torch.cat([self.visual, begin], 1), attention_mask=torch.ones(len(self.visual), 2), num_beams=beams,
            max_new_tokens=words, eos_token_id=None, pad_token_id=0, do_sample=False)
        return {"seconds": time.perf_counter() - start, "ids": ids.tolist()}

    def output(self):
        with torch.inference_mode():
            y = self.logits()[:, 0, :512]
        return {"shape": list(y.shape), "values": y.flatten().tolist()}


if __name__ == "__main__":
    caption = Caption()
    measured = {name: getattr(caption, name) for name in ("load", "forward", "train", "output", "generate")}
    engine.serve({**measured, "memory": engine.memory, "reset_memory": engine.reset_memory})
