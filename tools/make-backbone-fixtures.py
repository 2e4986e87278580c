"""Writes fixtures/siglip, fixtures/vit and fixtures/dinov2: tiny checkpoints with random weights, tokenizers and image
processors, and what transformers computes with them.

    python tools/make-backbone-fixtures.py                          write the fixtures
    python tools/make-backbone-fixtures.py --published NAME FOLDER  a checkpoint of published size with random weights:
        siglip-base-patch16-224 (800 MB), vit-base-patch16-224 (350 MB) or dinov2-base (350 MB)

Needs torch, transformers, safetensors, pillow and sentencepiece; the image processors are those on Pillow.
fixtures/siglip/README.md, fixtures/vit/README.md and fixtures/dinov2/README.md describe the files.
"""
import argparse
import importlib
import json
import tempfile
from pathlib import Path

import sentencepiece
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    Dinov2Config, Dinov2ForImageClassification, Dinov2Model, SiglipConfig, SiglipModel, SiglipTokenizer, ViTConfig,
    ViTForImageClassification, ViTModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

randomise_clip = importlib.import_module("make-clip-fixtures").randomise

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
PICTURES = sorted((FIXTURES / "clip" / "pictures" / "data" / "train").glob("*/0.png"))
# capitals, punctuation, several spaces, letters that no corpus has, and a text that is too long
TEXTS = ["a photo of a cat.", "A Photo,  of THE dog!", "it's (really) art_of a Grün-house; no?", "", "cat " * 40]
CORPUS = ["a photo of a cat", "a photo of the dog", "art of a house", "it is really green", "no photo of a red cat",
          "the dog and the house are art"]


@torch.no_grad()
def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    randomise_clip(model, generator)
    for name, p in model.named_parameters():
        if "position_embeddings" in name or "mask_token" in name or name.endswith("probe"):
            p.copy_(0.3 * torch.randn(p.shape, generator=generator))
        if name == "logit_scale":
            p.fill_(1.3)
        if name == "logit_bias":
            p.fill_(-2.5)


def save(folder, model, dtype):
    """As save_pretrained writes it, which is how published checkpoints are laid out; weights are rounded first."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(dtype).save_pretrained(folder)
    model.float()
    config = json.loads((folder / "config.json").read_text())
    config.pop("transformers_version", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def save_processor(folder, config):
    (folder / "preprocessor_config.json").write_text(json.dumps(config, indent=2) + "\n")


def pixels(processor):
    images = [Image.open(p).convert("RGB") for p in PICTURES]
    return processor(images, return_tensors="pt")["pixel_values"]


def save_expected(folder, tensors, **metadata):
    metadata = {"torch": torch.__version__, "transformers": transformers.__version__, **metadata,
                "pictures": json.dumps([str(p.relative_to(FIXTURES)) for p in PICTURES])}
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, folder / "expected.safetensors", metadata)


# SigLIP

def sentencepiece_tokenizer(folder, length):
    """spiece.model, for transformers' own SiglipTokenizer, and the same vocabulary as tokenizer.json, which holds
    neither lower-casing nor the removal of punctuation: both are SiglipTokenizer's."""
    with tempfile.TemporaryDirectory() as scratch:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 3), model_prefix=f"{scratch}/spiece", vocab_size=46, model_type="unigram",
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", hard_vocab_limit=False, minloglevel=2,
            normalization_rule_name="identity")
        path = f"{scratch}/spiece.model"
        reference = SiglipTokenizer(path, model_max_length=length)
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(Path(path).read_bytes())
    vocabulary = [(piece.piece, piece.score) for piece in proto.pieces]
    fast = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    fast.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    fast.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast.add_special_tokens(["</s>", "<unk>"])
    fast.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "SiglipTokenizer", "do_lower_case": True, "model_max_length": length, "pad_token": "</s>",
        "eos_token": "</s>", "unk_token": "<unk>", "padding_side": "right", "extra_ids": 0,
    }, indent=2) + "\n")
    return reference, len(vocabulary)


def gemma_tokenizer(folder, length):
    """The layout of SigLIP 2: byte-level fallback, `<pad>` behind the end token, lower case by Siglip2Tokenizer."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = sorted(set("".join(CORPUS).replace(" ", "▁")) | set("▁.,!"))
    merges = [("▁", "a"), ("a", "t"), ("c", "at"), ("▁", "cat"), ("o", "f"), ("▁", "of"), ("p", "h"), ("▁", "ph"),
              ("d", "o"), ("do", "g")]
    tokens = special + [f"<0x{i:02X}>" for i in range(256)] + letters + ["".join(m) for m in merges]
    tokenizer = Siglip2Tokenizer({t: i for i, t in enumerate(dict.fromkeys(tokens))}, merges, padding_side="right",
                                 model_max_length=length)
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save_pretrained(folder)
    return tokenizer, len(dict.fromkeys(tokens))


def siglip(name, make_tokenizer, config, dtype, seed):
    folder = FIXTURES / "siglip" / name
    folder.mkdir(parents=True, exist_ok=True)
    length = config["text_config"]["max_position_embeddings"]
    tokenizer, vocabulary = make_tokenizer(folder, length)
    config["text_config"]["vocab_size"] = vocabulary + 2
    model = SiglipModel(SiglipConfig(**config)).eval()
    randomise(model, seed)
    save(folder, model, dtype)
    side = config["vision_config"]["image_size"]
    processor = SiglipImageProcessorPil(size={"height": side, "width": side})
    save_processor(folder, {
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor", "image_std": [0.5, 0.5, 0.5],
        "processor_class": "SiglipProcessor", "resample": 3, "rescale_factor": 0.00392156862745098,
        "size": {"height": side, "width": side},
    })
    images = pixels(processor)
    ids = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=length, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        out = model(input_ids=ids, pixel_values=images)
        states = {f"{tower}_state.{i}": s for tower, given in (("vision", images), ("text", ids))
                  for i, s in enumerate(getattr(model, f"{tower}_model")(given, output_hidden_states=True).hidden_states)}
        save_expected(folder, {
            "images": images, "ids": ids, "logits_per_image": out.logits_per_image,
            "probabilities": torch.sigmoid(out.logits_per_image),
            "image_features": out.image_embeds, "text_features": out.text_embeds, **states,
        }, texts=json.dumps(TEXTS))


SIGLIP = {
    "sentencepiece": (sentencepiece_tokenizer, {
        "vision_config": {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
                          "image_size": 12, "patch_size": 4},
        "text_config": {"hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 2, "num_attention_heads": 5,
                        "max_position_embeddings": 16, "projection_size": 24},
    }, torch.float32, 1),
    # half precision, patches that leave a rest, one width for both towers
    "gemma": (gemma_tokenizer, {
        "vision_config": {"hidden_size": 16, "intermediate_size": 22, "num_hidden_layers": 1, "num_attention_heads": 2,
                          "image_size": 14, "patch_size": 4},
        "text_config": {"hidden_size": 16, "intermediate_size": 26, "num_hidden_layers": 1, "num_attention_heads": 4,
                        "max_position_embeddings": 24},
    }, torch.float16, 2),
}


# ViT and DINOv2: pictures alone

def image_model(folder, model, dtype, seed, processor, processor_config):
    randomise(model, seed)
    save(folder, model, dtype)
    save_processor(folder, processor_config)
    images = pixels(processor)
    tower = getattr(model, "vit", getattr(model, "dinov2", model))
    with torch.no_grad():
        out = tower(images, output_hidden_states=True)
    save_expected(folder, {"images": images, "image_features": out.last_hidden_state[:, 0],
                           "last_hidden_state": out.last_hidden_state})


def vit():
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
             "image_size": 16, "patch_size": 4}
    square = {"height": 16, "width": 16}
    half = [0.5, 0.5, 0.5]
    image_model(FIXTURES / "vit" / "model", ViTModel(ViTConfig(**sizes)).eval(), torch.float32, 3,
                ViTImageProcessorPil(size=square),
                {"do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": half,
                 "image_processor_type": "ViTImageProcessor", "image_std": half, "resample": 2,
                 "rescale_factor": 0.00392156862745098, "size": square})
    # as published long ago: a number for the size, and the old name; no bias in q, k and v, another activation
    other = {**sizes, "qkv_bias": False, "hidden_act": "gelu_new", "patch_size": 8}
    image_model(FIXTURES / "vit" / "classifier", ViTForImageClassification(ViTConfig(**other, num_labels=5)).eval(),
                torch.float16, 4, ViTImageProcessorPil(size=square),
                {"do_normalize": True, "do_resize": True, "feature_extractor_type": "ViTFeatureExtractor",
                 "image_mean": half, "image_std": half, "size": 16})


def dinov2():
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 4}

    def bit(resize, crop):
        processor = BitImageProcessorPil(size={"shortest_edge": resize}, crop_size={"height": crop, "width": crop},
                                         image_mean=mean, image_std=std)
        return processor, {
            "crop_size": {"height": crop, "width": crop}, "do_center_crop": True, "do_convert_rgb": True,
            "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": mean,
            "image_processor_type": "BitImageProcessor", "image_std": std, "resample": 3,
            "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": resize},
        }

    # positions for 5 x 5 patches, pictures of 3 x 3 with a rest
    image_model(FIXTURES / "dinov2" / "interpolated", Dinov2Model(Dinov2Config(**sizes, mlp_ratio=2, image_size=20)).eval(),
                torch.float32, 5, *bit(18, 14))
    # positions for 3 x 3 patches, pictures of 4 x 4
    image_model(FIXTURES / "dinov2" / "swiglu",
                Dinov2ForImageClassification(Dinov2Config(**sizes, image_size=12, use_swiglu_ffn=True, num_labels=5)).eval(),
                torch.float16, 6, *bit(16, 16))


@torch.no_grad()
def published(name, folder):
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    images = torch.randn(4, 3, 224, 224)
    if name.startswith("siglip"):
        model = SiglipModel(SiglipConfig()).eval()
        # from zeros, cosines would be multiplied with 1
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-12.9)
        ids = torch.randint(2, 32000, (4, 64))
        ids[:, 9:] = 1
        out = model(input_ids=ids, pixel_values=images)
        expected = {"ids": ids, "logits_per_image": out.logits_per_image,
                    "image_features": out.image_embeds, "text_features": out.text_embeds}
    else:
        # facebook/dinov2-base has positions for pictures of 518 pixels
        model = (ViTModel(ViTConfig()) if name.startswith("vit") else Dinov2Model(Dinov2Config(image_size=518))).eval()
        for parameter in (model.embeddings.position_embeddings, model.embeddings.cls_token):
            parameter.normal_(0, 0.5)
        expected = {"image_features": model(images).last_hidden_state[:, 0]}
    model.save_pretrained(folder)
    save_file({"images": images, **{k: v.contiguous() for k, v in expected.items()}}, folder / "expected.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--published", nargs=2, metavar=("NAME", "FOLDER"))
    given = parser.parse_args()
    if given.published:
        published(given.published[0], Path(given.published[1]))
    else:
        for name, case in SIGLIP.items():
            siglip(name, *case)
        vit()
        dinov2()
