"""Writes fixtures/optim/*.safetensors: 20 optimizer steps of PyTorch on given gradients.

    python tools/make-optimizer-fixtures.py            write the fixtures
    python tools/make-optimizer-fixtures.py --check    compare the stored files with this machine's PyTorch

The format is described in fixtures/README.md. Needs torch, numpy and safetensors.
"""
import argparse
import json
import math
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

STEPS = 20
SHAPES = {"weight": [3, 4], "bias": [5]}
FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "optim"

# One row per file: what differs from these defaults.
DEFAULTS = {
    "optimizer": "sgd", "lr": 0.1, "betas": [0.9, 0.999], "eps": 1e-8, "momentum": 0.0, "nesterov": False,
    "weight_decay": 0.0, "groups": None, "clip": None, "schedule": "constant", "warmup": 0, "total": STEPS,
}
ADAM = {"optimizer": "adam", "lr": 1e-2}
ADAMW = {"optimizer": "adamw", "lr": 1e-2}
TWO_GROUPS = [
    {"params": ["weight"], "lr": 1e-2, "weight_decay": 0.1},
    {"params": ["bias"], "lr": 3e-3, "weight_decay": 0.0},
]
CASES = {
    "sgd": {},
    "sgd-momentum": {"momentum": 0.9},
    "sgd-nesterov": {"momentum": 0.9, "nesterov": True},
    "sgd-weight-decay": {"momentum": 0.9, "weight_decay": 0.05},
    "adam": ADAM,
    "adam-weight-decay": {**ADAM, "weight_decay": 0.05},
    "adam-eps": {**ADAM, "eps": 1e-4},
    "adamw": {**ADAMW, "weight_decay": 0.01},
    "adamw-eps": {**ADAMW, "weight_decay": 0.01, "eps": 1e-4},
    "adamw-betas": {**ADAMW, "weight_decay": 0.01, "betas": [0.9, 0.98]},
    "groups-sgd": {"lr": 1e-2, "momentum": 0.9, "groups": TWO_GROUPS},
    "groups-adamw": {**ADAMW, "groups": TWO_GROUPS},
    "clip-sgd": {"clip": 4.0},
    "clip-adamw": {**ADAMW, "weight_decay": 0.01, "clip": 4.0},
    "clip-groups-sgd": {"lr": 1e-2, "groups": TWO_GROUPS, "clip": 4.0},
    "schedule-constant-warmup": {**ADAMW, "weight_decay": 0.01, "warmup": 5},
    "schedule-linear": {**ADAMW, "weight_decay": 0.01, "schedule": "linear"},
    "schedule-linear-warmup": {**ADAMW, "weight_decay": 0.01, "schedule": "linear", "warmup": 5},
    "schedule-cosine": {**ADAMW, "weight_decay": 0.01, "schedule": "cosine"},
    "schedule-cosine-warmup": {**ADAMW, "weight_decay": 0.01, "schedule": "cosine", "warmup": 5},
    "schedule-groups-cosine-warmup": {**ADAMW, "groups": TWO_GROUPS, "schedule": "cosine", "warmup": 5, "clip": 4.0},
}
AFTER_WARMUP = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}


def factor(settings, step):
    """What the learning rate of step `step` (from 0) is multiplied by."""
    if step < settings["warmup"]:
        return (step + 1) / settings["warmup"]
    progress = (step - settings["warmup"]) / (settings["total"] - settings["warmup"])
    return AFTER_WARMUP[settings["schedule"]](min(progress, 1.0))


def make_optimizer(settings, params):
    groups = [
        {"params": [params[name] for name in group["params"]], "lr": group["lr"], "weight_decay": group["weight_decay"]}
        for group in settings["groups"]
    ]
    if settings["optimizer"] == "sgd":
        return torch.optim.SGD(groups, momentum=settings["momentum"], nesterov=settings["nesterov"])
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings["optimizer"]]
    return kind(groups, betas=tuple(settings["betas"]), eps=settings["eps"])


def complete(case):
    """Defaults filled in; without groups of its own a case has one group of all parameters."""
    settings = {**DEFAULTS, **case}
    if settings["groups"] is None:
        whole = {"params": list(SHAPES), "lr": settings["lr"], "weight_decay": settings["weight_decay"]}
        settings["groups"] = [whole]
    return settings


def trajectory(settings, seed):
    random = torch.Generator().manual_seed(seed)
    params = {name: torch.randn(shape, generator=random).requires_grad_() for name, shape in SHAPES.items()}
    # The size of the gradients differs from step to step, so that clipping is active in some steps only and
    # the second moment moves; it is small where eps is to be visible.
    size = torch.exp(torch.randn(STEPS, generator=random)) * (1e-3 if settings["eps"] > 1e-6 else 1.0)
    grads = {
        name: torch.randn([STEPS, *shape], generator=random) * size.reshape([STEPS] + [1] * len(shape))
        for name, shape in SHAPES.items()
    }
    tensors = {f"param.{name}": value.detach().clone() for name, value in params.items()}
    tensors |= {f"grad.{name}": value for name, value in grads.items()}
    after = {name: [] for name in SHAPES}
    rates, norms = [], []
    optimizer = make_optimizer(settings, params)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(settings, step))
    for step in range(STEPS):
        for name, value in params.items():
            value.grad = grads[name][step].clone()
        if settings["clip"] is not None:
            norms.append(torch.nn.utils.clip_grad_norm_(params.values(), settings["clip"]))
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
        for name, value in params.items():
            after[name].append(value.detach().clone())
    tensors |= {f"after.{name}": torch.stack(values) for name, values in after.items()}
    tensors["lr"] = torch.tensor([settings["lr"] * factor(settings, step) for step in range(STEPS)])
    tensors["group_lr"] = torch.tensor(rates)
    if settings["clip"] is not None:
        tensors["norm"] = torch.stack(norms)
    return tensors


def self_check(name, settings, tensors):
    """Stops where a fixture would not test what it is there for."""
    broken = [key for key, value in tensors.items() if not value.isfinite().all()]
    assert not broken, f"{name}: not finite: {', '.join(broken)}"
    if settings["clip"] is not None:
        active = int((tensors["norm"] > settings["clip"]).sum())
        assert 4 <= active <= STEPS - 4, f"{name}: clipping is active in {active} of {STEPS} steps"
    if settings["schedule"] == "cosine" and settings["warmup"] == 0:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=settings["lr"])
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings["total"])
        for step in range(STEPS):
            difference = abs(optimizer.param_groups[0]["lr"] - tensors["lr"][step].item())
            assert difference < 1e-8, f"{name}: step {step} differs from CosineAnnealingLR by {difference}"
            optimizer.step()
            cosine.step()


def largest_difference(path, tensors, settings):
    """Over all tensors; infinite where names or settings differ. The version of PyTorch may differ."""
    with safe_open(path, "pt") as stored:
        known = {**json.loads(stored.metadata()["settings"]), "torch": settings["torch"]}
        if known != settings or set(stored.keys()) != set(tensors):
            return math.inf
        differences = [(stored.get_tensor(key) - value).abs().max() for key, value in tensors.items()]
        return torch.stack(differences).max().item()  # torch's max, unlike Python's, keeps NaN


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the stored files, write nothing")
    check = parser.parse_args().check
    FOLDER.mkdir(parents=True, exist_ok=True)
    failed = []
    for seed, (name, case) in enumerate(CASES.items()):
        settings = complete(case)
        tensors = trajectory(settings, seed)
        self_check(name, settings, tensors)
        path = FOLDER / f"{name}.safetensors"
        settings |= {"steps": STEPS, "seed": seed, "torch": torch.__version__.split("+")[0]}
        if not check:
            save_file(tensors, path, metadata={"settings": json.dumps(settings)})
            path.chmod(0o644)
            continue
        difference = largest_difference(path, tensors, settings) if path.exists() else math.inf
        print(f"{name}: largest difference {difference:.1e}")
        if not difference <= 1e-6:
            failed.append(name)
    if failed:
        sys.exit(f"differs from the stored file: {', '.join(failed)}")
    print(f"{len(CASES)} fixtures {'agree' if check else 'written to ' + str(FOLDER)}")


if __name__ == "__main__":
    main()
