"""Writes fixtures/roberta and fixtures/bert: tiny checkpoints with random weights, and what transformers computes with
them.

    python tools/make-text-encoder-fixtures.py

Needs torch, transformers and safetensors. fixtures/roberta/README.md and fixtures/bert/README.md describe the files.
"""
import importlib
import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig, BertForMaskedLM, BertForPreTraining, BertModel, RobertaConfig, RobertaForMaskedLM,
    RobertaForSequenceClassification, RobertaModel,
)

randomise = importlib.import_module("make-clip-fixtures").randomise

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
SMALL = dict(vocab_size=37, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40)
LENGTHS = [9, 5, 3]
# the masked places [text, token] whose words are to be found
MASKED = [(0, 2), (0, 7), (1, 3), (2, 1)]
GRADIENTS = ("word_embeddings.weight", "position_embeddings.weight", "layer.0.attention.self.query.weight",
             "layer.1.output.LayerNorm.weight", "predictions.bias", "lm_head.bias", "decoder.weight", "decoder.bias")

CASES = {
    "roberta/masked-lm": (RobertaForMaskedLM, RobertaConfig(max_position_embeddings=12, layer_norm_eps=1e-5, **SMALL),
                          torch.float32),
    "roberta/model": (RobertaModel, RobertaConfig(max_position_embeddings=11, **SMALL), torch.bfloat16),
    "roberta/classifier": (RobertaForSequenceClassification,
                           RobertaConfig(max_position_embeddings=14, pad_token_id=3, hidden_act="gelu_new", **SMALL),
                           torch.float16),
    "bert/masked-lm": (BertForMaskedLM, BertConfig(max_position_embeddings=10, hidden_act="gelu_new",
                                                   tie_word_embeddings=False, **SMALL), torch.float32),
    "bert/pretraining": (BertForPreTraining, BertConfig(max_position_embeddings=9, **SMALL), torch.float16),
    "bert/model": (BertModel, BertConfig(max_position_embeddings=9, hidden_act="relu", **SMALL), torch.float32),
}


def old_names(folder):
    """As the first checkpoints of BERT were laid out: TensorFlow's names of norms, and a copy of the decoder."""
    tensors = load_file(folder / "model.safetensors")
    renamed = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
               for n, t in tensors.items()}
    renamed["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    renamed["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})


def batch(config):
    """ids and mask [texts, tokens], padded at the end"""
    mask = torch.tensor([[1] * n + [0] * (LENGTHS[0] - n) for n in LENGTHS])
    ids = torch.randint(5, config.vocab_size, mask.shape)
    return torch.where(mask == 1, ids, config.pad_token_id), mask


def make(name, kind, config, dtype, seed):
    folder = FIXTURES / name
    torch.manual_seed(seed)
    model = kind(config).eval()
    with torch.no_grad():
        randomise(model, torch.Generator().manual_seed(seed))
    folder.mkdir(parents=True, exist_ok=True)
    model.to(dtype).save_pretrained(folder)
    if name == "bert/pretraining":
        old_names(folder)
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    path = folder / "config.json"
    saved = json.loads(path.read_text())
    saved.pop("transformers_version", None)
    path.write_text(json.dumps(saved, indent=2) + "\n")

    ids, mask = batch(config)
    out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    expected = {"ids": ids, "mask": mask.float()}
    for i, state in enumerate(out.hidden_states):
        expected[f"state.{i}"] = state * mask[..., None]
    if "masked-lm" in name or "pretraining" in name:
        logits = out.logits if "masked-lm" in name else out.prediction_logits
        texts, tokens = torch.tensor(MASKED).T
        labels = torch.randint(5, config.vocab_size, (len(MASKED),))
        loss = torch.nn.functional.cross_entropy(logits[texts, tokens], labels)
        loss.backward()
        expected |= {"rows": tokens * len(LENGTHS) + texts, "labels": labels, "logits": logits[texts, tokens],
                     "loss": loss}
        expected |= {f"grad.{n}": p.grad for n, p in model.named_parameters() if n.endswith(GRADIENTS) and p.grad is not None}
    save_file({k: v.detach().contiguous() for k, v in expected.items()}, folder / "expected.safetensors",
              {"torch": torch.__version__, "transformers": transformers.__version__})


if __name__ == "__main__":
    for number, (name, case) in enumerate(CASES.items()):
        make(name, *case, seed=number)
