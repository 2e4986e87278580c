"""PyTorch peer of the engine benchmark: one training step of a ViT-B/16-sized encoder with LoRA.

The encoder is pre-norm, width 768, 12 layers, 12 heads, MLP 3072, exact GELU. Its input is a batch of embedded tokens
[batch, tokens, 768]; the final LayerNorm reads token 0, a frozen head maps it to 512 and the loss is the mean squared
difference to a target [batch, 512]. LoRA (r 8, alpha 8) on q and v, written as PEFT writes it, is all that is trained
(AdamW, lr 1e-4, weight decay 0.01). Eager mode with scaled_dot_product_attention; torch.compile is not used.

    python engine.py --make-weights FILE [--seed 0]
    python engine.py --make-inputs FILE [--seed 0] [--batch 8] [--tokens 50]
    python engine.py            one JSON request per line on stdin, one JSON answer per line on stdout

    {"op": "load", "weights": PATH, "inputs": PATH, "batch": 8, "tokens": 50, "threads": 2}
                                            {"ok": true, "torch": "2.13.0", "threads": 2}
    {"op": "forward"}                       {"ok": true, "seconds": s, "loss": l}
    {"op": "train"}                         {"ok": true, "seconds": s, "loss": l}    the loss before the update
    {"op": "output"}                        {"ok": true, "shape": [batch, 512], "values": [..]}
    {"op": "params", "names": [..]}         {"ok": true, "params": {name: [..]}}     row-major
    {"op": "reset_memory"}                  {"ok": true}                             false where it is not permitted
    {"op": "memory"}                        {"ok": true, "peak_rss_bytes": n}
    {"op": "quit"}                          {"ok": true}, then exit

A request that fails is answered {"ok": false, "error": text}. Without torch, load answers {"ok": false, "error":
"no torch"} and the process ends with status 0. The parameters are those of the file again after every load. Loading
holds the weights twice for a moment, so reset_memory belongs between load and what is to be measured.
"""
import argparse
import json
import os
import sys
import time

try:
    import torch
    from safetensors.torch import load_file, save_file
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    torch = None

WIDTH, LAYERS, HEADS, MLP, CLASSES = 768, 12, 12, 3072, 512
RANK, ALPHA = 8, 8


def serve(ops):
    """Answers requests until quit or the end of stdin. Stdout carries answers only: prints go to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(answer):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            request = json.loads(line)
            op = request.pop("op")
            if op == "quit":
                return reply({"ok": True})
            if op == "load" and torch is None:
                return reply({"ok": False, "error": "no torch"})
            if op not in ops:
                raise ValueError(f"op {op!r}: expected one of {', '.join([*ops, 'quit'])}")
            reply({"ok": True, **ops[op](**request)})
        except Exception as error:  # the driver decides what a failed request means
            reply({"ok": False, "error": f"{type(error).__name__}: {error}"})


def memory():
    """Peak resident memory of this process, in bytes (Linux)."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return {"peak_rss_bytes": int(line.split()[1]) * 1024}


def reset_memory():
    """Sets the peak to what is resident now."""
    try:
        with open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")
        return {"ok": True}
    except OSError:
        return {"ok": False}


def torch_version():
    return torch.__version__.split("+")[0]


if torch is not None:

    class LoraLinear(nn.Linear):
        def __init__(self, inputs, outputs):
            super().__init__(inputs, outputs)
            self.lora_A = nn.Linear(inputs, RANK, bias=False)
            self.lora_B = nn.Linear(RANK, outputs, bias=False)
            self.scaling = ALPHA / RANK

        def forward(self, x):
            return super().forward(x) + self.lora_B(self.lora_A(x)) * self.scaling

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q_proj = LoraLinear(WIDTH, WIDTH)
            self.k_proj = nn.Linear(WIDTH, WIDTH)
            self.v_proj = LoraLinear(WIDTH, WIDTH)
            self.out_proj = nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            batch, tokens, _ = x.shape
            q, k, v = (
                project(x).view(batch, tokens, HEADS, WIDTH // HEADS).transpose(1, 2)  # [batch, heads, tokens, 64]
                for project in (self.q_proj, self.k_proj, self.v_proj)
            )
            y = F.scaled_dot_product_attention(q, k, v)
            return self.out_proj(y.transpose(1, 2).reshape(batch, tokens, WIDTH))

    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(WIDTH, MLP)
            self.fc2 = nn.Linear(MLP, WIDTH)

        def forward(self, x):
            return self.fc2(F.gelu(self.fc1(x)))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer_norm1 = nn.LayerNorm(WIDTH, eps=1e-5)
            self.self_attn = Attention()
            self.layer_norm2 = nn.LayerNorm(WIDTH, eps=1e-5)
            self.mlp = Mlp()

        def forward(self, x):
            x = x + self.self_attn(self.layer_norm1(x))
            return x + self.mlp(self.layer_norm2(x))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
            self.final_layer_norm = nn.LayerNorm(WIDTH, eps=1e-5)
            self.head = nn.Linear(WIDTH, CLASSES)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.head(self.final_layer_norm(x[:, 0]))


def empty_encoder():
    with torch.device("meta"):  # no memory: the parameters come from the file
        return Encoder()


def make_weights(path, seed):
    """Normal values: 0.02 for weights, biases and lora_B (so that both factors have a gradient), r^-1/2 for lora_A."""
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, value in empty_encoder().state_dict().items():
        std = RANK**-0.5 if "lora_A" in name else 0.02
        mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        tensors[name] = mean + std * torch.randn(value.shape, generator=random)
    save_file(tensors, path)


def make_inputs(path, seed, batch, tokens):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, tokens, WIDTH, generator=random)
    save_file({"x": x, "target": torch.randn(batch, CLASSES, generator=random)}, path)


class Engine:
    def load(self, weights, inputs, batch, tokens, threads):
        torch.set_num_threads(threads)
        given = load_file(inputs)
        self.x, self.target = given["x"], given["target"]
        if list(self.x.shape) != [batch, tokens, WIDTH] or list(self.target.shape) != [batch, CLASSES]:
            raise ValueError(f"{inputs}: x {list(self.x.shape)}, target {list(self.target.shape)}; "
                             f"expected x {[batch, tokens, WIDTH]}, target {[batch, CLASSES]}")
        self.model = empty_encoder()
        # Cloned: the mapped file is not aligned to 64 bytes, which costs matrix products 1 to 2 %.
        self.model.load_state_dict({name: value.clone() for name, value in load_file(weights).items()}, assign=True)
        for name, value in self.model.named_parameters():
            value.requires_grad_("lora_" in name)
        trained = [value for value in self.model.parameters() if value.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01)
        return {"torch": torch_version(), "threads": torch.get_num_threads()}

    def loss(self):
        return F.mse_loss(self.model(self.x), self.target)

    def forward(self):
        start = time.perf_counter()
        with torch.inference_mode():
            loss = self.loss().item()
        return {"seconds": time.perf_counter() - start, "loss": loss}

    def train(self):
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        value = loss.item()
        return {"seconds": time.perf_counter() - start, "loss": value}

    def output(self):
        with torch.inference_mode():
            y = self.model(self.x)
        return {"shape": list(y.shape), "values": y.flatten().tolist()}

    def params(self, names):
        known = dict(self.model.named_parameters())
        return {"params": {name: known[name].detach().flatten().tolist() for name in names}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make-weights", metavar="FILE")
    parser.add_argument("--make-inputs", metavar="FILE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=50)
    args = parser.parse_args()
    if torch is None and (args.make_weights or args.make_inputs):
        sys.exit("needs torch and safetensors: pip install torch safetensors")
    if args.make_weights:
        make_weights(args.make_weights, args.seed)
    if args.make_inputs:
        make_inputs(args.make_inputs, args.seed + 1, args.batch, args.tokens)
    if not (args.make_weights or args.make_inputs):
        engine = Engine()
        measured = {name: getattr(engine, name) for name in ("load", "forward", "train", "output", "params")}
        serve({**measured, "memory": memory, "reset_memory": reset_memory})


if __name__ == "__main__":
    main()
