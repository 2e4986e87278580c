"""Writes fixtures/peft: LoRA adapters of Python's PEFT for the CLIP of fixtures/clip/quick-gelu, and the features that
PyTorch computes with them.

    python tools/make-peft-fixtures.py

Needs torch, safetensors, transformers and peft. fixtures/peft/README.md describes the files.
"""
import json
import shutil
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
FOLDER = FIXTURES / "peft"
BASE = "fixtures/clip/quick-gelu"

VARIANTS = {
    "query-value": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
    "all-linear": dict(
        r=2, lora_alpha=3, target_modules="all-linear",
        rank_pattern={"fc1": 5, r"text_model\..*\.q_proj": 1, "vision_model.encoder.layers.1.self_attn.v_proj": 3},
        alpha_pattern={"fc2": 7, "visual_projection": 4},
    ),
    "dora": dict(r=3, lora_alpha=6, target_modules=["q_proj", "fc1", "patch_embedding"], use_dora=True),
    "rank-stabilised": dict(
        r=4, lora_alpha=4, target_modules=["k_proj", "fc2"], use_rslora=True, bias="all", modules_to_save=["post_layernorm"],
    ),
    "saved-module": dict(
        r=2, lora_alpha=2, target_modules=r".*\.(out_proj|visual_projection)", bias="lora_only",
        modules_to_save=["visual_projection"],
    ),
    "convolution": dict(r=3, lora_alpha=5, target_modules=["patch_embedding", "out_proj"], exclude_modules=r"text_model\..*"),
    "one-layer": dict(r=2, lora_alpha=4, target_modules=["q_proj", "fc1"], layers_to_transform=[1]),
}
# how the file is stored; the values are rounded before PyTorch computes
STORED = {"one-layer": torch.bfloat16, "convolution": torch.float16}


@torch.no_grad()
def randomise(model, generator):
    """All trained values moved, lora_B too, which starts at zero."""
    for name, p in model.named_parameters():
        if p.requires_grad:
            scale = 0.1 if "lora_" not in name or "magnitude" in name else p[0].numel() ** -0.5
            p.add_(torch.randn(p.shape, generator=generator) * scale)


def write(name, options, inputs):
    generator = torch.Generator().manual_seed(len(name))
    torch.manual_seed(len(name))
    model = get_peft_model(CLIPModel.from_pretrained(FIXTURES / "clip/quick-gelu"), LoraConfig(**options))
    randomise(model, generator)
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_model.safetensors"
    save_file({k: v.to(STORED.get(name, v.dtype)) for k, v in load_file(file).items()}, file, {"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": BASE}
    for key in ("target_modules", "modules_to_save"):  # sets, in an order that differs from run to run
        config[key] = sorted(config[key]) if isinstance(config[key], list) else config[key]
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return features(folder, inputs)


@torch.no_grad()
def features(folder, inputs):
    plain = CLIPModel.from_pretrained(FIXTURES / "clip/quick-gelu")
    model = PeftModel.from_pretrained(plain, folder).base_model.model.eval()
    return {
        "image_features": model.get_image_features(inputs["images"]).pooler_output,
        "text_features": model.get_text_features(inputs["ids"]).pooler_output,
    }


if __name__ == "__main__":
    inputs = load_file(FIXTURES / "clip/quick-gelu/expected.safetensors")
    expected = {}
    for name, options in VARIANTS.items():
        for key, value in write(name, options, inputs).items():
            difference = (value - inputs[key]).abs().max()
            assert name == "convolution" and key == "text_features" or difference > 0.01, f"{name} changes no {key}"
            expected[f"{name}.{key}"] = value.contiguous()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    save_file(expected, FOLDER / "expected.safetensors", versions)
