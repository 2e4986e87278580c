"""Checks that LoRA adapters travel between Python's PEFT and Scion, in both directions; writes nothing that stays.

    npm run build && python tools/check-peft.py

Needs torch, safetensors, transformers and peft. For every case: an adapter that PEFT saved is loaded by Scion, and one that
Scion wrote is loaded by `PeftModel.from_pretrained`; either way both compute the scaled cosines of pictures and texts.
Ends with 1 where they differ by more than 1e-4, or where PEFT does not find all of an adapter's keys, or more.
"""
import importlib.util
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel
from transformers.utils import logging

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"
TOLERANCE = 1e-4

spec = importlib.util.spec_from_file_location("make_peft_fixtures", HERE / "make-peft-fixtures.py")
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)

CASES = {
    "clip/quick-gelu": list(made.VARIANTS),
    "siglip/sentencepiece": ["query-value", "dora"],
}


class Scion:
    def __init__(self):
        self.process = subprocess.Popen(
            ["node", HERE / "check-peft-side.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, op, **request):
        self.process.stdin.write(json.dumps({"op": op, **{k: v if k == "settings" else str(v) for k, v in request.items()}}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"ok": false, "error": "ended"}')
        if not answer["ok"]:
            raise RuntimeError(f"Scion: {answer['error']}")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def plain(model):
    return AutoModel.from_pretrained(FIXTURES / model, dtype=torch.float32).eval()


@torch.no_grad()
def logits(model, inputs):
    images = torch.nn.functional.normalize(model.get_image_features(inputs["images"]).pooler_output)
    texts = torch.nn.functional.normalize(model.get_text_features(inputs["ids"]).pooler_output)
    return model.logit_scale.exp() * images @ texts.T


def loaded(model, adapter):
    """The model with an adapter; fails where PEFT finds keys missing, or has no use for some."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = PeftModel.from_pretrained(plain(model), adapter)
    for warning in told:
        if "keys" in str(warning.message):
            raise RuntimeError(f"PEFT: {warning.message}")
    before = set(load_file(adapter / "adapter_model.safetensors"))
    known = {name.replace(".default", "") for name, _ in result.named_parameters()}
    known |= {name.replace(".modules_to_save", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector") for name in known}
    if before - known:
        raise RuntimeError(f"PEFT has no use for {sorted(before - known)[:3]}")
    return result.base_model.model.eval()


def from_python(scion, folder, model, options, inputs):
    """→ the largest difference, and what the adapter changes"""
    torch.manual_seed(5)
    adapted = get_peft_model(plain(model), LoraConfig(**options))
    made.randomise(adapted, torch.Generator().manual_seed(6))
    adapted.save_pretrained(folder / "adapter")
    scion.ask("read", model=FIXTURES / model, adapter=folder / "adapter", inputs=folder / "inputs", output=folder / "logits")
    return compare(loaded(model, folder / "adapter"), folder, model, inputs)


def from_scion(scion, folder, model, options, inputs):
    scion.ask("write", model=FIXTURES / model, settings=options, adapter=folder / "own", inputs=folder / "inputs",
              output=folder / "logits")
    return compare(loaded(model, folder / "own"), folder, model, inputs)


def compare(adapted, folder, model, inputs):
    theirs = logits(adapted, inputs)
    ours = load_file(folder / "logits")["logits"]
    return (ours - theirs).abs().max().item(), (theirs - logits(plain(model), inputs)).abs().max().item()


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    scion = Scion()
    worst = 0
    print(f"{'model':21} {'adapter':16} {'Python to Scion':>16} {'Scion to Python':>16} {'change of logits':>17}")
    for model, variants in CASES.items():
        reference = load_file(FIXTURES / model / "expected.safetensors")
        inputs = {k: reference[k] for k in ("images", "ids")}
        for variant in variants:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                save_file(inputs, folder / "inputs")
                options = made.VARIANTS[variant]
                results = [f(scion, folder, model, options, inputs) for f in (from_python, from_scion)]
            worst = max(worst, *(difference for difference, _ in results))
            differences = " ".join(f"{difference:16.1e}" for difference, _ in results)
            print(f"{model:21} {variant:16} {differences} {min(change for _, change in results):17.2f}")
    scion.close()
    print(f"largest difference {worst:.1e}, allowed {TOLERANCE:.0e}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
