"""Writes fixtures/loss-curves: 30 steps of LoRA, Adapter, BitFit and CoOp on the CLIP of fixtures/clip/quick-gelu, by
PyTorch, from initial values, pictures, texts and an order of the rows that are in the files.

    python tools/make-loss-curve-fixtures.py

Needs torch, safetensors, transformers and peft, which trains LoRA; the others are hooks on transformers' CLIPModel.
fixtures/loss-curves/README.md describes the files.
"""
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from transformers import CLIPModel

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
FOLDER = FIXTURES / "loss-curves"
CLASSES, PER_CLASS, STEPS, BATCH = 5, 4, 30, 8
BEGIN, END, STOP, CONTEXT, BOTTLENECK = 48, 37, 40, 4, 6


def data(generator):
    """Pictures that are noise around a pattern of their class; texts: begin, context, one to three words, full stop, end."""
    patterns = torch.randn(CLASSES, 1, 3, 12, 12, generator=generator)
    images = patterns + 0.7 * torch.randn(CLASSES, PER_CLASS, 3, 12, 12, generator=generator)
    words = [torch.randint(0, 36, (1 + k % 3,), generator=generator).tolist() for k in range(CLASSES)]
    length = 2 + CONTEXT + 3 + 1
    ids = [[BEGIN, 7, 3, 9, 12, *w, STOP, *[END] * (length - 2 - CONTEXT - len(w))] for w in words]
    order = torch.stack([torch.randperm(CLASSES * PER_CLASS, generator=generator)[:BATCH] for _ in range(STEPS)])
    return {
        "images": images.flatten(0, 1), "labels": torch.arange(CLASSES).repeat_interleave(PER_CLASS),
        "ids": torch.tensor(ids), "order": order,
    }


def frozen_clip():
    return CLIPModel.from_pretrained(FIXTURES / "clip/quick-gelu").eval().requires_grad_(False)


class Bottleneck(nn.Module):
    """Houlsby et al., 2019: h + up(gelu(down(h)))"""

    def __init__(self, width):
        super().__init__()
        self.down_proj, self.up_proj = nn.Linear(width, BOTTLENECK), nn.Linear(BOTTLENECK, width)

    def forward(self, h):
        return h + self.up_proj(F.gelu(self.down_proj(h)))


def lora():
    model = get_peft_model(frozen_clip(), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))
    named = {
        n.replace("base_model.model.", "").replace(".default", ""): p
        for n, p in model.named_parameters() if p.requires_grad
    }
    return model.base_model.model, named


def adapter():
    """After attention and after the MLP of every layer, before their results are added to what they were computed of."""
    model, named = frozen_clip(), {}
    for path, layer in list(model.named_modules()):
        if path.split(".")[-2:-1] != ["layers"]:
            continue
        for place, part in (("attention_output", layer.self_attn), ("feed_forward_output", layer.mlp)):
            bottleneck = Bottleneck(layer.embed_dim)
            nn.init.normal_(bottleneck.up_proj.weight, std=0.02)
            nn.init.zeros_(bottleneck.up_proj.bias)
            part.register_forward_hook(lambda _m, _i, out, b=bottleneck: (
                (b(out[0]), *out[1:]) if isinstance(out, tuple) else b(out)))
            named |= {f"{path}.{place}.{n}": p for n, p in bottleneck.named_parameters()}
    return model, named


def bitfit():
    model = frozen_clip()
    named = {n: p.requires_grad_() for n, p in model.named_parameters() if n.endswith(".bias")}
    return model, named


def coop():
    """Vectors in the place of the tokens behind the first, shared by the classes."""
    model = frozen_clip()
    context = nn.Parameter(0.02 * torch.randn(CONTEXT, model.config.text_config.hidden_size))
    model.text_model.embeddings.token_embedding.register_forward_hook(
        lambda _m, _i, tokens: torch.cat([tokens[:, :1], context.expand(len(tokens), -1, -1), tokens[:, 1 + CONTEXT:]], 1))
    return model, {"context": context}


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=1e-3)


METHODS = {
    "lora": (lora, adamw), "adapter": (adapter, adamw), "bitfit": (bitfit, adamw),
    # ten times the published rate, since this model's scale is 4.5 where CLIP's is 100
    "coop": (coop, lambda parameters: torch.optim.SGD(parameters, lr=2e-2, momentum=0.9, weight_decay=5e-4)),
}


def curve(make, optimizer, given):
    model, named = make()
    result = {f"initial.{n}": p.detach().clone() for n, p in named.items()}

    def loss_of(rows):
        images = F.normalize(model.get_image_features(given["images"][rows]).pooler_output)
        texts = F.normalize(model.get_text_features(given["ids"]).pooler_output)
        return F.cross_entropy(model.logit_scale.exp() * images @ texts.T, given["labels"][rows])

    with torch.no_grad():
        result["untrained"] = torch.stack([loss_of(rows) for rows in given["order"]])
    optimizer = optimizer(named.values())
    losses = []
    for rows in given["order"]:
        loss = loss_of(rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    result |= {f"final.{n}": p.detach().clone() for n, p in named.items()}
    return result | {"losses": torch.stack(losses)}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    given = data(torch.Generator().manual_seed(11))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    save_file(given, FOLDER / "data.safetensors", versions)
    for name, (make, optimizer) in METHODS.items():
        torch.manual_seed(len(name))
        result = curve(make, optimizer, given)
        save_file(result, FOLDER / f"{name}.safetensors", versions)
        moved = (result["losses"] / result["untrained"] - 1).abs().max()
        print(f"{name}: {moved:.3f} from untrained;", *(f"{loss:.4f}" for loss in result["losses"][::5]), f"{result['losses'][-1]:.4f}")
