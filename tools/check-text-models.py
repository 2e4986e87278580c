"""Checks text models of published size, with random weights, against transformers; writes nothing that stays.

    npm run build && python tools/check-text-models.py [roberta-base] [bert-base] [gpt2] [bart-base] [--time]

Needs torch, transformers and safetensors, and 600 MB on disk. For each model: hidden states, logits and loss of padded
texts, which may differ by 1e-4 (of the largest value where that is above 1), and where it generates, the ids that greedy
search and beam search write, which may not differ. `--time` also prints generated tokens per second of both sides, on as
many threads. Prints a table of all models; ends with 1 where anything differs.
"""
import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    BartConfig, BartForConditionalGeneration, BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, RobertaConfig,
    RobertaForMaskedLM,
)
from transformers.utils import logging

from padding import padded

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-4
THREADS = 2
MODELS = {
    # as config.json of FacebookAI/roberta-base has it
    "roberta-base": lambda: RobertaForMaskedLM(RobertaConfig(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)),
    # the defaults are those of google-bert/bert-base-uncased
    "bert-base": lambda: BertForMaskedLM(BertConfig()),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(pad_token_id=0)),
    # as config.json of facebook/bart-base has it
    "bart-base": lambda: BartForConditionalGeneration(BartConfig(
        d_model=768, encoder_layers=6, decoder_layers=6, encoder_attention_heads=12, decoder_attention_heads=12,
        encoder_ffn_dim=3072, decoder_ffn_dim=3072)),
}
SEARCHES = {
    "greedy": {"num_beams": 1},
    "beam 3": {"num_beams": 3, "no_repeat_ngram_size": 3},
    "beam 5": {"num_beams": 5, "length_penalty": 2.0},
}
NEW = 20


@torch.no_grad()
def randomise(model):
    """Values of a size at which no part is without effect, and few words have high scores."""
    generator = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        normal = torch.randn(p.shape, generator=generator)
        if p.ndim == 1:
            norm = ("ln_" in name or "norm" in name.lower()) and "weight" in name
            p.copy_(1 + 0.2 * normal if norm else 0.02 * normal)
        elif any(table in name for table in ("wte", "wpe", "shared", "embed")):
            p.copy_(0.1 * normal)
        else:
            # what activations add to every token alike would decide all words
            axis = 0 if "c_proj" in name else 1
            p.copy_((normal - normal.mean(axis, keepdim=True)) * p.shape[axis] ** -0.5)


class Scion:
    def __init__(self):
        self.process = subprocess.Popen(
            ["node", HERE / "check-text-models-side.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"error": "ended"}')
        if "error" in answer:
            sys.exit(f"Scion: {answer['error']}")
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def random_texts(config, lengths):
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(10, min(50000, config.vocab_size), (n,), generator=generator).tolist() for n in lengths]


def targets(mask, ids, masked):
    """Labels [texts, tokens], -100 where none is to be found: one word in five, or all words after the first."""
    chosen = (mask == 1) & (torch.arange(ids.shape[1]) % 5 == 2) if masked else mask == 1
    return torch.where(chosen, ids, -100)


@torch.no_grad()
def forward(model, texts):
    """Inputs of the forward pass, what it gives, and which tokens of that count [texts, tokens]."""
    pad = model.config.pad_token_id
    ids, mask = padded(texts, pad, False)
    options = {"output_hidden_states": True}
    if model.config.model_type == "bart":
        words, kept = padded([[2, *text[:4 + i]] for i, text in enumerate(texts)], pad, False)
        labels = targets(kept, torch.roll(words, -1, 1), False)
        out = model(ids, attention_mask=mask, decoder_input_ids=words, labels=labels, **options)
        states = {"state": out.decoder_hidden_states, "encoder_state": out.encoder_hidden_states}
        inputs = {"sources": ids, "source_mask": mask.float(), "ids": words}
        counts = {"state": kept, "logits": kept, "encoder_state": mask}
        rows_of = labels
    else:
        labels = targets(mask, ids, model.config.model_type != "gpt2")
        out = model(ids, attention_mask=mask, labels=labels, **options)
        states, inputs = {"state": out.hidden_states}, {"ids": ids, "mask": mask.float()}
        counts = {"state": mask, "logits": mask}
        # GPT-2 finds a word at the token before it
        rows_of = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100) if model.config.model_type == "gpt2" else labels
    texts_of, tokens_of = torch.nonzero(rows_of != -100, as_tuple=True)
    inputs |= {"rows": tokens_of * len(texts) + texts_of, "labels": rows_of[texts_of, tokens_of]}
    outputs = {"logits": out.logits, "loss": out.loss,
               **{f"{name}.{i}": t for name, every in states.items() for i, t in enumerate(every)}}
    return inputs, outputs, counts


def differences(got, wanted, counts):
    """By kind of output the largest difference over the largest value, where that is above 1."""
    assert set(got) == set(wanted), f"{sorted(got)}, expected {sorted(wanted)}"
    worst = {}
    for key, want in wanted.items():
        kind = key.split(".")[0]
        keep = counts[kind][..., None] if kind in counts else 1
        error = ((got[key].reshape(want.shape) - want) * keep).abs().max() / (want * keep).abs().max().clamp(min=1)
        worst[kind] = max(worst.get(kind, 0), error.item() if error == error else float("inf"))
    return worst


def check(name, scion, folder, timed):
    """The row of the table, and whether all is well."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    randomise(model)
    model.save_pretrained(folder)
    generates = model.config.model_type in ("gpt2", "bart")
    texts = random_texts(model.config, (9, 4, 12, 7) if generates else (64, 12, 31, 7))
    inputs, wanted, counts = forward(model, texts)
    save_file({k: v.contiguous() for k, v in inputs.items()}, folder / "inputs.safetensors")
    scion.ask(op="forward", model=str(folder), inputs=str(folder / "inputs.safetensors"), output=str(folder / "got.safetensors"))
    worst = differences(load_file(folder / "got.safetensors"), wanted, counts)
    same = check_generation(name, model, texts, scion, folder, timed) if generates else None
    size = sum(p.numel() for p in model.parameters()) / 1e6
    encoder = f" (encoder {worst['encoder_state']:.1e})" if "encoder_state" in worst else ""
    ids = "–" if same is None else "identical" if same else "DIFFER"
    row = f"| {name} ({size:.0f} million) | {worst['state']:.1e}{encoder} | {worst['logits']:.1e} | {worst['loss']:.1e} | {ids} |"
    return row, all(v <= TOLERANCE for v in worst.values()) and same is not False


def check_generation(name, model, prompts, scion, folder, timed):
    """Whether all ids are those of transformers."""
    decodes = model.config.model_type == "gpt2"
    good = True
    pad = model.config.pad_token_id
    ids, mask = padded(prompts, pad, decodes)
    for what, search in SEARCHES.items():
        options = {"max_new_tokens": NEW, "eos_token_id": None, "forced_eos_token_id": None, **search}
        begun = time.perf_counter()
        with torch.no_grad():
            out = model.generate(ids, attention_mask=mask, do_sample=False, pad_token_id=pad, **options)
        seconds = time.perf_counter() - begun
        want = out[:, ids.shape[1] if decodes else 1:].tolist()
        answer = scion.ask(op="generate", model=str(folder), prompts=prompts, threads=THREADS, repeat=2 if timed else 1,
                           options={k: v for k, v in options.items() if k != "forced_eos_token_id"})
        same = answer["ids"] == want
        good &= same
        times = (f"; {len(prompts) * NEW / answer['seconds']:.1f} tokens/s, transformers "
                 f"{len(prompts) * NEW / seconds:.1f}") if timed else ""
        print(f"{name} {what}: ids {'identical' if same else 'DIFFER'}, {len(set(map(tuple, want)))} texts of "
              f"{len(set(w for row in want for w in row))} words{times}", flush=True)
        if not same:
            print(want, answer["ids"], sep="\n", flush=True)
    return good


parser = argparse.ArgumentParser()
parser.add_argument("models", nargs="*", choices=[[], *MODELS], default=[])
parser.add_argument("--time", action="store_true")
arguments = parser.parse_args()
logging.set_verbosity_error()
torch.set_num_threads(THREADS)
side = Scion()
rows = ["| model (parameters) | states | logits | loss | ids |", "| --- | --- | --- | --- | --- |"]
good = True
for each in arguments.models or MODELS:
    with tempfile.TemporaryDirectory() as temporary:
        row, well = check(each, side, Path(temporary), arguments.time)
    print(row, flush=True)
    rows.append(row)
    good &= well
side.close()
print(f"\ntorch {torch.__version__}, transformers {transformers.__version__}, {datetime.date.today()}", *rows, sep="\n")
sys.exit(0 if good else 1)
