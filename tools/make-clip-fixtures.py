"""Writes fixtures/clip: tiny CLIP checkpoints with random weights, and what PyTorch computes with them.

    python tools/make-clip-fixtures.py                     write the fixtures
    python tools/make-clip-fixtures.py --vit-b32 FOLDER    a checkpoint of the size of ViT-B/32 (600 MB)
    python tools/make-clip-fixtures.py --rn50 FOLDER       the same for RN50 in OpenAI's layout (400 MB)

Needs torch, safetensors and, but for --rn50, transformers, whose CLIPModel computes what is in Hugging Face's layout.
OpenAI's layout is computed by the classes below, written from the architecture in Radford et al., "Learning
Transferable Visual Models From Natural Language Supervision", 2021. fixtures/clip/README.md describes the files.
"""
import argparse
import json
import math
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "clip"

# Hugging Face's layout. Unequal sizes, so that no two can be mistaken for one another.
HUGGING_FACE = {
    "quick-gelu": {
        "config": {
            "projection_dim": 14, "logit_scale_init_value": 1.5,
            "vision_config": {
                "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
                "image_size": 12, "patch_size": 4,
            },
            "text_config": {
                "hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 2, "num_attention_heads": 5,
                "vocab_size": 50, "max_position_embeddings": 11, "eos_token_id": 37,
            },
        },
        "files": {"model.safetensors": torch.float32},
        "ids": [[48, 7, 3, 9, 12, 37, 37, 37, 37], [48, 49, 37, 0, 0, 0, 0, 0, 0], [48, 5, 5, 5, 5, 5, 5, 5, 37]],
        "torch_file": "pytorch_model.bin",
        "gradient_of": "vision_model.encoder.layers.0.self_attn.q_proj.weight",
    },
    # sharded, half precision, patches that leave a rest, and the eos_token_id of old files: the largest id is the end
    "gelu-half": {
        "config": {
            "projection_dim": 10,
            "vision_config": {
                "hidden_size": 18, "intermediate_size": 22, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": 14, "patch_size": 4, "hidden_act": "gelu",
            },
            "text_config": {
                "hidden_size": 16, "intermediate_size": 26, "num_hidden_layers": 3, "num_attention_heads": 4,
                "vocab_size": 40, "max_position_embeddings": 9, "eos_token_id": 2, "hidden_act": "gelu",
            },
        },
        "files": {
            "model-00001-of-00002.safetensors": torch.float16, "model-00002-of-00002.safetensors": torch.bfloat16,
        },
        "ids": [[38, 2, 3, 39, 0, 0, 0], [38, 9, 9, 2, 2, 39, 39]],
    },
}


@torch.no_grad()
def randomise(model, generator):
    """Values of a size at which no part of the model is without effect."""
    def normal(p):
        return torch.randn(p.shape, generator=generator)

    for name, p in model.named_parameters():
        if name != "logit_scale":
            p.copy_(normal(p) * (0.3 if p.ndim == 1 or "embedding.weight" in name else p[0].numel() ** -0.5))
    for module in model.modules():
        if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)):
            module.weight.copy_((1 + 0.2 * normal(module.weight)).clamp(0.3))
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(0.3 * normal(module.running_mean))
            module.running_var.copy_((1 + 0.2 * normal(module.running_var)).clamp(0.3))


def rounded(tensors, dtype):
    return {k: v.to(dtype).contiguous() if v.is_floating_point() else v for k, v in tensors.items()}


def write(folder, tensors, expected):
    folder.mkdir(parents=True, exist_ok=True)
    for name, shard in tensors.items():
        save_file(shard, folder / name, {"format": "pt"})
    save_file({k: v.detach().contiguous() for k, v in expected.items()}, folder / "expected.safetensors",
              {"torch": torch.__version__})


def hugging_face(name, case):
    from transformers import CLIPConfig, CLIPModel
    generator = torch.Generator().manual_seed(len(name))
    config = CLIPConfig(**case["config"])
    model = CLIPModel(config).eval()
    randomise(model, generator)
    state = model.state_dict()
    names = sorted(state)
    files = list(case["files"].items())
    per_file = math.ceil(len(names) / len(files))
    shards = {
        file: rounded({k: state[k] for k in names[i * per_file:(i + 1) * per_file]}, dtype)
        for i, (file, dtype) in enumerate(files)
    }
    model.load_state_dict({k: v.float() for shard in shards.values() for k, v in shard.items()})
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", **case["config"]}, indent=2) + "\n")
    if len(files) > 1:
        weight_map = {k: file for file, shard in shards.items() for k in shard}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}, indent=1) + "\n")
    size = config.vision_config.image_size
    images = torch.randn(3, 3, size, size, generator=generator)
    ids = torch.tensor(case["ids"])
    with torch.no_grad():
        out = model(input_ids=ids, pixel_values=images)
        expected = {
            "images": images, "ids": ids, "logits_per_image": out.logits_per_image,
            "image_features": model.get_image_features(images).pooler_output,
            "text_features": model.get_text_features(ids).pooler_output,
        }
        for tower, given in (("vision", images), ("text", ids)):
            states = getattr(model, f"{tower}_model")(given, output_hidden_states=True).hidden_states
            for i, s in enumerate(states):
                expected[f"{tower}_state.{i}"] = s
    if "gradient_of" in case:
        expected |= gradients(model, images, ids, case["gradient_of"], generator)
    write(folder, shards, expected)
    if "torch_file" in case:
        # one matrix lies in the file column by column, as a transposed view does
        torch.save({k: v.mT.contiguous().mT if k == "text_projection.weight" else v
                    for shard in shards.values() for k, v in shard.items()}, folder / case["torch_file"])


def gradients(model, images, ids, weight, generator):
    """Of sum(logits_per_image * cotangent): by vectors in the place of tokens 1 and 2 of all texts, and by a weight."""
    prefix = torch.randn(2, model.config.text_config.hidden_size, generator=generator, requires_grad=True)

    def put(_module, _inputs, tokens):
        return torch.cat([tokens[:, :1], prefix.expand(len(tokens), -1, -1), tokens[:, 3:]], 1)

    hook = model.text_model.embeddings.token_embedding.register_forward_hook(put)
    longer = torch.cat([ids[:, :1], ids[:, :1].expand(-1, 2), ids[:, 1:]], 1)
    logits = model(input_ids=longer, pixel_values=images).logits_per_image
    hook.remove()
    cotangent = torch.randn(logits.shape, generator=generator)
    parameter = dict(model.named_parameters())[weight]
    by_prefix, by_weight = torch.autograd.grad((logits * cotangent).sum(), [prefix, parameter])
    return {"prefix": prefix, "prefix_ids": longer, "cotangent": cotangent, "prefix_logits": logits,
            "grad_prefix": by_prefix, "grad_weight": by_weight}


# OpenAI's layout; the attributes are named as in its state dicts.

class Block(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, max(1, width // 64), batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x, mask=None):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        hidden = self.mlp.c_fc(self.ln_2(x))
        return x + self.mlp.c_proj(hidden * torch.sigmoid(1.702 * hidden))


def transformer(width, layers, inner):
    holder = nn.Module()
    holder.resblocks = nn.ModuleList(Block(width, inner) for _ in range(layers))
    return holder


class VisionTransformer(nn.Module):
    def __init__(self, size, patch, width, layers, inner, out):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = transformer(width, layers, inner)
        self.proj = nn.Parameter(torch.zeros(width, out))

    def forward(self, x):
        patches = self.conv1(x).flatten(2).mT
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), patches], 1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer.resblocks:
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.proj


class Bottleneck(nn.Module):
    def __init__(self, inside, planes, stride):
        super().__init__()
        outside = 4 * planes
        self.conv1, self.bn1 = nn.Conv2d(inside, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, outside, 1, bias=False), nn.BatchNorm2d(outside)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample = None
        if stride > 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.pool(F.relu(self.bn2(self.conv2(y))))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(self.pool(x))))


class AttentionPool(nn.Module):
    def __init__(self, places, width, heads, out):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(places + 1, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, out)
        self.heads = heads

    def forward(self, x):
        x = x.flatten(2).mT
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positional_embedding
        q, k, v = (p(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for p, y in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x)))
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        return self.c_proj((weights @ v).transpose(1, 2).flatten(2)[:, 0])


class ModifiedResNet(nn.Module):
    def __init__(self, layers, width, size, out):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width // 2, 3, 2, 1, bias=False), nn.BatchNorm2d(width // 2)
        self.conv2, self.bn2 = nn.Conv2d(width // 2, width // 2, 3, 1, 1, bias=False), nn.BatchNorm2d(width // 2)
        self.conv3, self.bn3 = nn.Conv2d(width // 2, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        inside = width
        for stage, blocks in enumerate(layers):
            planes = width * 2**stage
            rows = []
            for i in range(blocks):
                rows.append(Bottleneck(inside, planes, 2 if i == 0 and stage > 0 else 1))
                inside = 4 * planes
            setattr(self, f"layer{stage + 1}", nn.Sequential(*rows))
        self.attnpool = AttentionPool((size // 32) ** 2, inside, width * 32 // 64, out)

    def forward(self, x):
        for i in (1, 2, 3):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        x = F.avg_pool2d(x, 2)
        return self.attnpool(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


class OpenAiClip(nn.Module):
    def __init__(self, visual, vocabulary, context, width, layers, inner, out):
        super().__init__()
        self.visual = visual
        self.transformer = transformer(width, layers, inner)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.zeros(context, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.zeros(width, out))
        self.logit_scale = nn.Parameter(torch.tensor(1.2))

    def encode_text(self, ids):
        x = self.token_embedding(ids) + self.positional_embedding[:ids.shape[1]]
        mask = torch.full((ids.shape[1],) * 2, -math.inf).triu(1)
        for block in self.transformer.resblocks:
            x = block(x, mask)
        return self.ln_final(x)[torch.arange(len(ids)), ids.argmax(-1)] @ self.text_projection

    def forward(self, images, ids):
        image, text = self.visual(images), self.encode_text(ids)
        cosines = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
        return {"image_features": image, "text_features": text, "logits_per_image": cosines * self.logit_scale.exp()}


OPENAI = {
    # heads are 64 wide, as in all of OpenAI's: two in the images' transformer, one in the texts'; slim MLPs save bytes
    "openai-vit": (lambda: OpenAiClip(VisionTransformer(12, 4, 128, 1, 20, 9), 30, 8, 64, 1, 24, 9), 12),
    "openai-resnet": (lambda: OpenAiClip(ModifiedResNet([2, 1, 1, 1], 4, 64, 9), 30, 8, 64, 2, 24, 9), 64),
}


@torch.no_grad()
def openai(name, make, size):
    generator = torch.Generator().manual_seed(len(name))
    model = make().eval()
    randomise(model, generator)
    state = rounded(model.state_dict(), torch.float16)
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    images = torch.randn(2, 3, size, size, generator=generator)
    ids = torch.tensor([[28, 4, 9, 29, 0, 0, 0], [28, 29, 0, 0, 0, 0, 0], [28, 3, 3, 3, 3, 3, 29]])
    write(FOLDER / name, {"model.safetensors": state}, {"images": images, "ids": ids, **model(images, ids)})


def timed(call):
    call()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[2]


@torch.no_grad()
def published_vit(folder):
    from transformers import CLIPConfig, CLIPModel
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig()).eval()
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.config.to_dict(), indent=2))
    images, ids = torch.randn(8, 3, 224, 224), torch.randint(1, 49000, (8, 77))
    ids[:, 20:] = 49407
    expected = {
        "images": images, "ids": ids, "logits_per_image": model(input_ids=ids, pixel_values=images).logits_per_image,
        "image_features": model.get_image_features(images).pooler_output,
        "text_features": model.get_text_features(ids).pooler_output,
    }
    write(folder, {}, expected)
    print(f"8 images {timed(lambda: model.get_image_features(images)):.3f} s, "
          f"8 texts {timed(lambda: model.get_text_features(ids)):.3f} s")


@torch.no_grad()
def published_resnet(folder):
    generator = torch.Generator().manual_seed(0)
    model = OpenAiClip(ModifiedResNet([3, 4, 6, 3], 64, 224, 1024), 49408, 77, 512, 12, 2048, 1024).eval()
    randomise(model, generator)
    images, ids = torch.randn(8, 3, 224, 224), torch.randint(1, 49000, (8, 77))
    ids[:, 20:] = 49407
    write(folder, {"model.safetensors": model.state_dict()}, {"images": images, "ids": ids, **model(images, ids)})
    print(f"8 images {timed(lambda: model.visual(images)):.3f} s, "
          f"8 texts {timed(lambda: model.encode_text(ids)):.3f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vit-b32", type=Path, metavar="FOLDER")
    parser.add_argument("--rn50", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.vit_b32:
        published_vit(options.vit_b32)
    if options.rn50:
        published_resnet(options.rn50)
    if not options.vit_b32 and not options.rn50:
        for case_name, case in HUGGING_FACE.items():
            hugging_face(case_name, case)
        for case_name, (make, size) in OPENAI.items():
            openai(case_name, make, size)
