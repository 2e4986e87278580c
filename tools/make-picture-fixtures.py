"""Writes fixtures/clip/pictures: a tiny CLIP with tokenizer and preprocessor, a few pictures, and what transformers makes
of them. Run: pip install torch==2.13.0 transformers 'pillow<13' numpy safetensors; python3 tools/make-picture-fixtures.py"""
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

out = Path(__file__).resolve().parent.parent / "fixtures" / "clip" / "pictures"
model_dir = out / "model"
classes = ["red_square", "Blue stripes", "grün"]
templates = ["a photo of a {}.", "art of the {}, 2 of them!"]

tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>", continuing_subword_prefix=""))
tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(__import__("tokenizers").Regex(r"\s+"), " "),
                                             normalizers.Lowercase()])
tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split(__import__("tokenizers").Regex(
        r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True),
    pre_tokenizers.ByteLevel(add_prefix_space=False)])
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(vocab_size=620, special_tokens=["<|startoftext|>", "<|endoftext|>"], end_of_word_suffix="</w>",
                              initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
corpus = [t.format(c.replace("_", " ")) for t in templates for c in classes] * 4
tokenizer.train_from_iterator(corpus, trainer)
start, end = (tokenizer.token_to_id(t) for t in ("<|startoftext|>", "<|endoftext|>"))
tokenizer.post_processor = processors.RobertaProcessing(("<|endoftext|>", end), ("<|startoftext|>", start),
                                                        trim_offsets=False, add_prefix_space=False)
fast = CLIPTokenizerFast(tokenizer_object=tokenizer, bos_token="<|startoftext|>", eos_token="<|endoftext|>",
                         unk_token="<|endoftext|>", pad_token="<|endoftext|>", model_max_length=24)
fast.save_pretrained(model_dir)
# transformers may build its own pipeline around the vocabulary; what was saved is what both sides read
reference = Tokenizer.from_file(str(model_dir / "tokenizer.json"))

torch.manual_seed(0)
config = CLIPConfig(
    projection_dim=12,
    text_config=dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=640,
                     max_position_embeddings=24, eos_token_id=end, bos_token_id=start, pad_token_id=end),
    vision_config=dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=16,
                       patch_size=8))
model = CLIPModel(config).eval()
with torch.no_grad():
    for p in model.parameters():
        if p.ndim > 1:
            p.normal_(0, 0.15)
model.save_pretrained(model_dir)
processor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
processor.save_pretrained(model_dir)

rng = np.random.default_rng(0)
images = []
for k, name in enumerate(classes):
    for i in range(3):
        h, w = 20 + 3 * i, 26 - 2 * i
        pixels = rng.integers(0, 60, (h, w, 3))
        pixels[..., k] += 120 + 20 * i
        if k == 1:
            pixels[:, ::4] = 255 - pixels[:, ::4]
        split = "test" if i == 2 else "train"
        path = out / "data" / split / name / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        images.append((split, k, path))

tensors = {}
with torch.no_grad():
    for split in ("train", "test"):
        chosen = [(k, p) for s, k, p in images if s == split]
        # folders are read in the order of their names
        pixels = processor([Image.open(p) for _, p in chosen], return_tensors="pt")["pixel_values"]
        tensors[f"{split}.features"] = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    rows = []
    for c in classes:
        own = []
        for t in templates:
            ids = reference.encode(t.format(c.replace("_", " "))).ids[:24]
            own.append(model.text_projection(model.text_model(input_ids=torch.tensor([ids])).pooler_output)[0])
            tensors[f"ids.{c}.{templates.index(t)}"] = torch.tensor(ids)
        rows.append(torch.stack(own))
    tensors["text.features"] = torch.stack(rows)
save_file({k: v.contiguous() for k, v in tensors.items()}, out / "expected.safetensors",
          {"class_names": json.dumps(classes), "templates": json.dumps(templates),
           "logit_scale": str(model.logit_scale.exp().item())})
