"""Writes fixtures/picto-text: what transformers reads and computes with the built-in text models.

    python tools/make-picto-text-fixtures.py

Needs torch, transformers and safetensors. fixtures/picto-text/README.md describes the files.
"""
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "fixtures" / "picto-text"
# capitals, apostrophes, numbers, several spaces, letters that no corpus has, and words of pictures
TEXTS = ["A red car to the left of a dog.", "what is left of the dog?", "It's 12 o'clock,  isn't it?", "Grün 🐶",
         "a violin is a kind of bowed stringed instrument. a violin has a bow."]


@torch.no_grad()
def write(name, auto):
    folder = ROOT / "packages" / "scion" / "models" / name
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = auto.from_pretrained(folder, dtype=torch.float32).eval()
    tensors, ids = {}, []
    texts = TEXTS + ([f"an apple is a {tokenizer.mask_token} fruit"] if tokenizer.mask_token else [])
    for i, text in enumerate(texts):
        encoded = tokenizer(text, return_tensors="pt")
        ids.append(encoded.input_ids[0].tolist())
        out = model(input_ids=encoded.input_ids, output_hidden_states=True)
        tensors[f"last.{i}"] = out.hidden_states[-1][0].contiguous()  # [T, width]
        tensors[f"logits.{i}"] = out.logits[0, -1].contiguous()  # [words], of the last token
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps({"texts": texts, "ids": ids}, ensure_ascii=False) + "\n")
    save_file(tensors, OUT / f"{name}.safetensors")


write("picto-roberta", AutoModelForMaskedLM)
write("picto-gpt", AutoModelForCausalLM)
