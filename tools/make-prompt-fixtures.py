"""Writes fixtures/prompts: learned tokens and prefixes in the tiny checkpoints of fixtures/clip, fixtures/siglip and
fixtures/vit, and the features and gradients that PyTorch gives with them.

    python tools/make-prompt-fixtures.py

Needs torch, transformers and safetensors. The models are transformers' own; hooks put in what the papers define, CoOp
(arXiv 2109.01134), VPT (2203.12119) and LLaMA-Adapter (2303.16199). fixtures/README.md describes the files.
"""
import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import CLIPModel, SiglipModel, ViTModel

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
TABLE = "text_model.embeddings.token_embedding.prompt_embeddings"
CLIP_IDS = [[48, -1, -2, -3, -4, 7, 3, 37, 37, 37, 37], [48, 49, -1, -2, -3, -4, 37, 0, 0, 0, 0],
            [48, 5, 5, -5, -6, 5, -7, -8, 5, 5, 37]]
CLIP_TEXT = [[48, -1, -2, 7, 3, 9, 12, 37, 37], [48, -1, -2, 49, 37, 0, 0, 0, 0], [48, -1, -2, 5, 5, 5, 5, 5, 37]]
SIGLIP_TEXT = [[-1, -2] + [3, 12, 5, 8] + [1] * 10, [-1, -2, 22, 15, 3, 27, 2, 24, 9, 14, 4, 5, 6, 7, 8, 1]]

# name: model, method, tower, tokens, all layers
CASES = {
    "clip-coop": ("clip/quick-gelu", "table", CLIP_IDS, 8, False),
    "clip-text-deep": ("clip/quick-gelu", "tokens", CLIP_TEXT, 2, True),
    "clip-vision": ("clip/quick-gelu", "tokens", None, 3, False),
    "clip-vision-deep": ("clip/quick-gelu", "tokens", None, 3, True),
    "clip-vision-prefix": ("clip/quick-gelu", "prefix", None, 3, True),
    "clip-text-prefix": ("clip/quick-gelu", "prefix", [[max(i, 0) for i in row] for row in CLIP_TEXT], 2, True),
    "siglip-text": ("siglip/sentencepiece", "table", SIGLIP_TEXT, 2, False),
    "siglip-vision-deep": ("siglip/sentencepiece", "tokens", None, 3, True),
    "siglip-vision-prefix": ("siglip/sentencepiece", "prefix", None, 4, True),
    "vit-vision-deep": ("vit/model", "tokens", None, 3, True),
    "vit-vision-prefix": ("vit/model", "prefix", None, 3, True),
}
MODELS = {"clip": CLIPModel, "siglip": SiglipModel, "vit": ViTModel}


def tower_of(model, tower):
    if isinstance(model, ViTModel):
        return model.layers, "encoder.layer"
    return getattr(model, f"{tower}_model").encoder.layers, f"{tower}_model.encoder.layers"


def prefix_hook(heads, prompt, gate):
    """Adds tanh(gate) * softmax(q k') v' before the output projection, which is linear."""
    def hook(attention, args, kwargs, output):
        x = args[0] if args else kwargs["hidden_states"]
        split = lambda y: y.unflatten(-1, (heads, -1)).transpose(-3, -2)
        q, k, v = (split(p(y)) for p, y in
                   ((attention.q_proj, x), (attention.k_proj, prompt), (attention.v_proj, prompt)))
        mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        read = (mixed * gate.tanh()[:, None, None]).transpose(-3, -2).flatten(-2)
        out = attention.out_proj if hasattr(attention, "out_proj") else attention.o_proj
        return (output[0] + F.linear(read, out.weight), *output[1:])
    return hook


def features(model, images, ids):
    if isinstance(model, ViTModel):
        return model(images).last_hidden_state[:, 0]
    if ids is None:
        out = model.get_image_features(images).pooler_output
    else:
        out = model.get_text_features(ids.clamp(min=0)).pooler_output
    return F.normalize(out, dim=-1) if isinstance(model, SiglipModel) else out


def case(name, where, kind, ids, count, deep):
    generator = torch.Generator().manual_seed(len(name))
    model = MODELS[where.split("/")[0]].from_pretrained(FIXTURES / where, attn_implementation="eager").float().eval()
    model.requires_grad_(False)
    vision = ids is None
    layers, path = tower_of(model, "vision" if vision else "text")
    config = model.config if isinstance(model, ViTModel) else getattr(model.config, f"{'vision' if vision else 'text'}_config")
    width, heads = config.hidden_size, config.num_attention_heads
    draw = lambda *shape: torch.randn(*shape, generator=generator).requires_grad_()
    values, hooks = {}, []

    def table():
        learned = values[TABLE] = draw(count, width)

        def put(_module, _args, tokens):
            rows = learned[(-1 - given).clamp(min=0)]
            return torch.where((given < 0)[..., None], rows, tokens)
        hooks.append(model.text_model.embeddings.token_embedding.register_forward_hook(put))

    def tokens(i):
        prompt = values[f"{path}.{i}.tokens.prompt_embeddings"] = draw(count, width)

        def put(_module, args, kwargs):
            x = args[0]
            fresh = prompt.expand(len(x), -1, -1)
            if not vision:
                x = torch.cat([x[:, :1], fresh, x[:, 1 + count:]], 1)
            else:
                x = torch.cat([x if i == 0 else x[:, :-count], fresh], 1)
            return (x, *args[1:]), kwargs
        hooks.append(layers[i].register_forward_pre_hook(put, with_kwargs=True))

    given = None if vision else torch.tensor(ids)
    if kind == "prefix":
        for i, layer in enumerate(layers):
            prompt = values[f"{path}.{i}.prefix.adaption_prompt"] = draw(count, width)
            gate = values[f"{path}.{i}.prefix.adaption_gate"] = draw(heads)
            attention = layer.self_attn if hasattr(layer, "self_attn") else layer.attention
            hooks.append(attention.register_forward_hook(prefix_hook(heads, prompt, gate), with_kwargs=True))
    else:
        if not vision:
            table()
        if kind == "tokens":
            for i in range(0 if vision else 1, len(layers) if deep else 1):
                tokens(i)
        if vision and isinstance(model, SiglipModel):
            drop = lambda _module, args: (args[0][:, :-count],)
            hooks.append(model.vision_model.post_layernorm.register_forward_pre_hook(drop))
    size = (config if vision else model.config.vision_config).image_size
    images = torch.randn(2, 3, size, size, generator=generator)
    out = features(model, images, given)
    cotangent = torch.randn(out.shape, generator=generator)
    grads = torch.autograd.grad((out * cotangent).sum(), list(values.values()))
    for hook in hooks:
        hook.remove()
    assert (features(model, images, given) - out).abs().max() > 0.01, name
    tensors = {**({"images": images} if vision else {"ids": given}), "features": out, "cotangent": cotangent, **values,
               **{f"grad.{k}": g for k, g in zip(values, grads)}}
    settings = {"model": where, "method": "prefix-tuning" if kind == "prefix" else "prompt-tuning",
                "config": {"modality": "vision" if vision else "text", "num_virtual_tokens": count,
                           **({} if kind == "prefix" else {"deep": deep})}}
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, FIXTURES / "prompts" / f"{name}.safetensors",
              {"settings": json.dumps(settings), "torch": torch.__version__, "transformers": transformers.__version__})


if __name__ == "__main__":
    (FIXTURES / "prompts").mkdir(exist_ok=True)
    for case_name, values in CASES.items():
        case(case_name, *values)
