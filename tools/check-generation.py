"""Checks GPT-2 and BART of published size, with random weights, against transformers; writes nothing that stays.

    npm run build && python tools/check-generation.py [gpt2] [bart-base] [--time]

Needs torch, transformers and safetensors, and 600 MB on disk. For either model: hidden states, logits and loss of padded
texts, which may differ by 1e-4 (of the largest value where that is above 1), and the ids that greedy search and beam
search write, which may not differ. `--time` also prints generated tokens per second of both sides, on as many threads.
Ends with 1 where anything differs.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-4
THREADS = 2
MODELS = {
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
            p.copy_(1 + 0.2 * normal if ("ln_" in name or "norm" in name) and "weight" in name else 0.02 * normal)
        elif "wte" in name or "wpe" in name or "shared" in name or "positions" in name:
            p.copy_(0.1 * normal)
        else:
            # what activations add to every token alike would decide all words
            axis = 0 if "c_proj" in name else 1
            p.copy_((normal - normal.mean(axis, keepdim=True)) * p.shape[axis] ** -0.5)


def padded(rows, pad, left):
    longest = max(map(len, rows))
    fill = [[pad] * (longest - len(row)) for row in rows]
    ids = [f + row if left else row + f for f, row in zip(fill, rows)]
    mask = [[0] * len(f) + [1] * len(row) if left else [1] * len(row) + [0] * len(f) for f, row in zip(fill, rows)]
    return torch.tensor(ids), torch.tensor(mask)


class Scion:
    def __init__(self):
        self.process = subprocess.Popen(
            ["node", HERE / "check-generation-side.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

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


@torch.no_grad()
def forward(model, decodes, prompts):
    """What the forward pass gives, and its inputs."""
    pad = model.config.pad_token_id
    if decodes:
        ids, _ = padded([prompts[0]], pad, True)
        out = model(ids, labels=ids, output_hidden_states=True)
        return {"ids": ids}, {"logits": out.logits, "loss": out.loss,
                              **{f"state.{i}": t for i, t in enumerate(out.hidden_states)}}
    sources, mask = padded(prompts, pad, False)
    ids, _ = padded([[2, *p[:4]] for p in prompts], pad, False)
    labels = torch.roll(ids, -1, 1)
    out = model(sources, attention_mask=mask, decoder_input_ids=ids, labels=labels, output_hidden_states=True)
    return ({"sources": sources, "source_mask": mask.float(), "ids": ids, "labels": labels},
            {"logits": out.logits, "loss": out.loss, **{f"state.{i}": t for i, t in enumerate(out.decoder_hidden_states)},
             **{f"encoder_state.{i}": t for i, t in enumerate(out.encoder_hidden_states)}})


def check(name, scion, folder, timed):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    randomise(model)
    model.save_pretrained(folder)
    decodes = name == "gpt2"
    generator = torch.Generator().manual_seed(2)
    prompts = [torch.randint(10, 50000, (n,), generator=generator).tolist() for n in (9, 4, 12, 7)]
    inputs, wanted = forward(model, decodes, prompts)
    save_file({k: v.contiguous() for k, v in inputs.items()}, folder / "inputs.safetensors")
    scion.ask(op="forward", model=str(folder), inputs=str(folder / "inputs.safetensors"), output=str(folder / "got.safetensors"))
    got = load_file(folder / "got.safetensors")
    assert set(got) == set(wanted), f"{sorted(got)}, expected {sorted(wanted)}"
    worst = {}
    for key, want in wanted.items():
        kind = key.split(".")[0]
        error = ((got[key].reshape(want.shape) - want).abs().max() / want.abs().max().clamp(min=1)).item()
        worst[kind] = max(worst.get(kind, 0), error if error == error else float("inf"))
    print(name, "largest differences", {k: f"{v:.1e}" for k, v in worst.items()}, flush=True)
    good = all(v <= TOLERANCE for v in worst.values())

    pad = model.config.pad_token_id
    ids, mask = padded(prompts, pad, decodes)
    for what, search in SEARCHES.items():
        # an end that greedy search likes, so that some texts end
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
            print(want, answer["ids"], sep="\n")
    return good


parser = argparse.ArgumentParser()
parser.add_argument("models", nargs="*", choices=[[], *MODELS], default=[])
parser.add_argument("--time", action="store_true")
arguments = parser.parse_args()
logging.set_verbosity_error()
torch.set_num_threads(THREADS)
side = Scion()
results = []
for each in arguments.models or MODELS:
    with tempfile.TemporaryDirectory() as temporary:
        results.append(check(each, side, Path(temporary), arguments.time))
side.close()
sys.exit(0 if all(results) else 1)
