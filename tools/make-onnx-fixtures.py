"""Writes fixtures/onnx: small models by both of PyTorch's exporters, and what PyTorch computes with them. Run:

    pip install torch==2.13.0 transformers safetensors onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
    python tools/make-onnx-fixtures.py

The CLIP is the one in fixtures/clip/pictures/model. fixtures/onnx/README.md describes the files.
"""
import json
import logging
import shutil
import warnings
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from transformers import CLIPModel

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
OUT = FIXTURES / "onnx"
PICTURES = FIXTURES / "clip" / "pictures" / "model"
DYNAMIC = torch.export.Dim.DYNAMIC


class Vision(nn.Module):
    """CLIPVisionModelWithProjection, as transformers.js has it in vision_model.onnx."""
    def __init__(self, clip):
        super().__init__()
        self.vision_model, self.visual_projection = clip.vision_model, clip.visual_projection

    def forward(self, pixel_values):
        out = self.vision_model(pixel_values=pixel_values)
        return self.visual_projection(out.pooler_output), out.last_hidden_state


class Text(nn.Module):
    """CLIPTextModelWithProjection, as transformers.js has it in text_model.onnx."""
    def __init__(self, clip):
        super().__init__()
        self.text_model, self.text_projection = clip.text_model, clip.text_projection

    def forward(self, input_ids):
        out = self.text_model(input_ids=input_ids)
        return self.text_projection(out.pooler_output), out.last_hidden_state


class Joint(nn.Module):
    """CLIPModel with its four outputs, as optimum exports it to model.onnx."""
    def __init__(self, clip):
        super().__init__()
        self.clip = clip

    def forward(self, input_ids, pixel_values, attention_mask):
        out = self.clip(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
        return out.logits_per_image, out.logits_per_text, out.text_embeds, out.image_embeds


class LoRA(nn.Module):
    """A linear layer with a low-rank term added."""
    def __init__(self, base, a, b):
        super().__init__()
        self.base, self.a, self.b = base, a, b

    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x, self.a), self.b)


class Block(nn.Module):
    def __init__(self, width, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, groups=2, bias=False)
        self.bn2 = nn.GroupNorm(2, out)
        self.downsample = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        return F.relu6(self.downsample(x) + self.bn2(self.conv2(F.hardswish(self.bn1(self.conv1(x))))))


class ConvNet(nn.Module):
    """A bit of everything that picture models are made of beside attention."""
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.layers = nn.Sequential(Block(6, 8, 2), Block(8, 10, 1))
        self.excite = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(10, 10, 1), nn.Hardsigmoid())
        self.up = nn.ConvTranspose2d(10, 4, 2, 2)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4 * 4 * 4, 7)

    def forward(self, x):
        x = self.layers(self.pool(F.leaky_relu(self.stem(F.pad(x, (1, 2, 0, 1), mode="reflect")))))
        x = x * self.excite(x)
        x = F.interpolate(self.up(x), size=(9, 7), mode="bilinear", align_corners=False)
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = F.elu(F.avg_pool2d(F.pad(x[:, :, 1:17:2, :12], (0, 0, -1, 1)), (2, 3)))
        x = self.dropout(torch.flatten(x, 1))
        return F.log_softmax(self.head(F.softplus(x)), dim=-1)


def randomise(model):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.3 if p.ndim == 1 else p[0].numel() ** -0.5))
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.copy_(0.3 * torch.randn(m.running_mean.shape, generator=generator))
                m.running_var.copy_((1 + 0.2 * torch.randn(m.running_var.shape, generator=generator)).clamp(0.3))
    return model.eval()


def torchscript(model, args, path, opset, inputs, outputs, axes):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(model, args, str(path), dynamo=False, opset_version=opset, input_names=inputs,
                      output_names=outputs, dynamic_axes=axes)
    tidy(path)


def dynamo(model, args, path, inputs, outputs, shapes, external=False, opset=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(model, args, str(path), dynamo=True, input_names=inputs, output_names=outputs,
                      dynamic_shapes=shapes, external_data=external, opset_version=opset)
    tidy(path)


def tidy(path):
    """Leaves out the stack traces of this script, whose paths are those of the machine that ran it."""
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        node.doc_string = ""
        kept = [p for p in node.metadata_props if p.key in ("namespace", "pkg.torch.onnx.name_scopes",
                                                            "pkg.torch.onnx.class_hierarchy")]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    onnx.save(model, path)


def half(source, target):
    """Weights as float16 and the graph around them too, inputs and outputs kept: what `_fp16` files look like."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def four_bits(source, target):
    """Matrices in blocks of 4-bit numbers with zero points."""
    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=16, is_symmetric=False)
    quantizer.process()
    onnx.save(quantizer.model.model, target)


def clip_files():
    clip = CLIPModel.from_pretrained(PICTURES).eval()
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(3, 3, 16, 16, generator=generator)
    ids = torch.randint(2, 600, (2, 24), generator=generator)
    ids[:, 0] = 0
    ids[0, 9:], ids[1, 17:] = 1, 1
    vision, text, joint = Vision(clip), Text(clip), Joint(clip)

    folder = OUT / "clip"
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(PICTURES / name, folder / name)
    image_axes = {"pixel_values": {0: "batch_size"}, "image_embeds": {0: "batch_size"}}
    text_axes = {"input_ids": {0: "batch_size", 1: "sequence_length"}, "text_embeds": {0: "batch_size"}}
    image_names, text_names = ["image_embeds", "last_hidden_state"], ["text_embeds", "last_hidden_state"]
    torchscript(vision, (pixels,), folder / "onnx/vision_model.onnx", 14, ["pixel_values"], image_names, image_axes)
    torchscript(text, (ids,), folder / "onnx/text_model.onnx", 14, ["input_ids"], text_names, text_axes)
    for name in ("vision_model", "text_model"):
        source = folder / f"onnx/{name}.onnx"
        quantize_dynamic(source, folder / f"onnx/{name}_quantized.onnx", weight_type=QuantType.QInt8,
                         extra_options={"EnableSubgraph": True})
        half(source, folder / f"onnx/{name}_fp16.onnx")
        four_bits(source, folder / f"onnx/{name}_q4.onnx")

    folder = OUT / "clip-dynamo"
    dynamo(vision, (pixels,), folder / "vision_model.onnx", ["pixel_values"], image_names, ({0: DYNAMIC},), external=True)
    dynamo(text, (ids,), folder / "text_model.onnx", ["input_ids"], text_names, ({0: DYNAMIC, 1: DYNAMIC},), opset=21)

    mask = torch.ones_like(ids)
    torchscript(joint, (ids, pixels, mask), OUT / "clip-joint/model.onnx", 17,
                ["input_ids", "pixel_values", "attention_mask"],
                ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"],
                {"input_ids": {0: "text_batch_size", 1: "sequence_length"}, "pixel_values": {0: "image_batch_size"},
                 "attention_mask": {0: "text_batch_size", 1: "sequence_length"}})

    expected = {"pixel_values": pixels, "input_ids": ids}
    with torch.no_grad():
        expected["image_embeds"], expected["image_states"] = vision(pixels)
        expected["text_embeds"], expected["text_states"] = text(ids)
        expected["logits_per_image"] = joint(ids, pixels, mask)[0]
    # a low-rank term on a query and on a layer of the MLP: derivatives of sum(image_embeds * cotangent)
    inputs = pixels.clone().requires_grad_()
    low = {}
    layer = vision.vision_model.encoder.layers[0]
    for path, owner, name in (("self_attn.q_proj", layer.self_attn, "q_proj"), ("mlp.fc1", layer.mlp, "fc1")):
        base = getattr(owner, name)
        a = (0.3 * torch.randn(2, base.in_features, generator=generator)).requires_grad_()
        b = (0.3 * torch.randn(base.out_features, 2, generator=generator)).requires_grad_()
        setattr(owner, name, LoRA(base, a, b))
        low[f"{path}.lora_A"], low[f"{path}.lora_B"] = a, b
    out = vision(inputs)[0]
    cotangent = torch.randn(out.shape, generator=generator)
    (out * cotangent).sum().backward()
    expected |= {"cotangent": cotangent, "lora_image_embeds": out, "grad.pixel_values": inputs.grad}
    expected |= {k: v for k, v in low.items()} | {f"grad.{k}": v.grad for k, v in low.items()}
    save(expected, OUT / "clip.safetensors")


def conv_files():
    model = randomise(ConvNet())
    x = torch.randn(2, 3, 22, 19, generator=torch.Generator().manual_seed(2), requires_grad=True)
    axes = {"x": {0: "batch"}, "y": {0: "batch"}}
    for opset in (11, 13, 18):
        torchscript(model, (x.detach(),), OUT / f"convnet/torchscript-{opset}.onnx", opset, ["x"], ["y"], axes)
    dynamo(model, (x.detach(),), OUT / "convnet/dynamo.onnx", ["x"], ["y"], ({0: DYNAMIC},))
    y = model(x)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    (y * cotangent).sum().backward()
    save({"x": x, "y": y, "cotangent": cotangent, "grad.x": x.grad}, OUT / "convnet.safetensors")


def save(tensors, path):
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path, {"torch": torch.__version__})


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    clip_files()
    conv_files()
    for path in sorted(OUT.rglob("*")):
        if path.is_file():
            print(path.relative_to(OUT), path.stat().st_size)
