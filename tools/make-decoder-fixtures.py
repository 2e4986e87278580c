"""Writes fixtures/gpt2 and fixtures/bart: tiny checkpoints with random weights, and what transformers computes with them
and generates from them.

    python tools/make-decoder-fixtures.py

Needs torch, transformers, peft and safetensors. fixtures/README.md describes the files.
"""
import json
from collections import Counter
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BartConfig, BartForConditionalGeneration, BartModel, GPT2Config, GPT2LMHeadModel, GPT2Model

from padding import padded

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
WORDS = 96


@torch.no_grad()
def randomise(model, seed):
    """Values of a size at which no part of the model is without effect and generated words vary."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        normal = torch.randn(p.shape, generator=generator)
        if p.ndim == 1:
            p.copy_((3 if name.endswith(("ln_f.weight", "decoder.layers.1.final_layer_norm.weight")) else 1)
                    * (1 + 0.2 * normal) if "ln_" in name or "norm" in name and name.endswith("weight") else 0.3 * normal)
        elif "wte" in name or "shared" in name or "wpe" in name or "positions" in name:
            p.copy_(0.25 * normal)
        else:
            p.copy_(1.5 * normal * p.shape[0] ** -0.5)
    for name, buffer in model.named_buffers():
        if name == "final_logits_bias":
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))


def save(folder, model, dtype, change=lambda tensors: tensors):
    """As save_pretrained writes it; the weights are rounded first."""
    folder.mkdir(parents=True, exist_ok=True)
    model.eval().to(dtype).save_pretrained(folder)
    model.float()
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "model.safetensors"
    save_file({k: v.contiguous() for k, v in change(load_file(path)).items()}, path, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config.pop("transformers_version", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def states(prefix, tensors):
    return {f"{prefix}.{i}": t for i, t in enumerate(tensors)}


def write(folder, tensors):
    metadata = {"torch": torch.__version__, "transformers": transformers.__version__}
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, folder / "expected.safetensors", metadata)


def texts(seed, lengths):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(4, WORDS, (n,), generator=generator).tolist() for n in lengths]


@torch.no_grad()
def generations(model, prompts, pad, left, cases):
    """What `generate` gives for each case. The end is a word that greedy search likes, so that outputs end."""
    ids, mask = padded(prompts, pad, left)
    common = {"pad_token_id": pad, "bos_token_id": None}
    greedy = model.generate(ids, attention_mask=mask, max_new_tokens=20, eos_token_id=None, **common)
    start = ids.shape[1] if left else 1
    likes = [w for w, _ in Counter(w for row in greedy.tolist() for w in row[start + 2:]).most_common()]
    written = []
    for options, chosen in cases:
        rows = [prompts[i] for i in chosen]
        ids, mask = padded(rows, pad, left)
        options = {"eos_token_id": likes[0], **options}
        if options["eos_token_id"] == "two":
            options["eos_token_id"] = likes[:2]
        result = model.generate(ids, attention_mask=mask, return_dict_in_generate=True, output_scores=True,
                                do_sample=False, **{**common, **options})
        scores = getattr(result, "sequences_scores", None)
        written.append({"prompts": rows, "options": options, "sequences": result.sequences[:, ids.shape[1] if left else 0:].tolist(),
                        **({"scores": scores.tolist()} if scores is not None else {})})
    return {"transformers": transformers.__version__, "pad_token_id": pad, "cases": written}


def write_generations(folder, content):
    cases = ",\n".join("  " + json.dumps(case) for case in content.pop("cases"))
    head = json.dumps(content)[1:-1]
    (folder / "generated.json").write_text(f'{{{head}, "cases": [\n{cases}\n]}}\n')


ALL = [0, 1, 2, 3]
CASES = [
    ({"max_new_tokens": 16}, ALL),
    ({"max_new_tokens": 16, "eos_token_id": None}, [1, 0]),
    ({"max_new_tokens": 12, "min_new_tokens": 7}, ALL),
    ({"max_new_tokens": 16, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2}, ALL),
    ({"max_new_tokens": 12, "eos_token_id": "two"}, ALL),
    ({"max_length": 18, "min_length": 14}, ALL),
    ({"max_new_tokens": 16, "num_beams": 3}, ALL),
    ({"max_new_tokens": 16, "num_beams": 5}, [2]),
    ({"max_new_tokens": 16, "num_beams": 5, "length_penalty": 2.0, "num_return_sequences": 3}, ALL),
    ({"max_new_tokens": 16, "num_beams": 5, "length_penalty": -1.0, "early_stopping": True}, ALL),
    ({"max_new_tokens": 16, "num_beams": 5, "length_penalty": 0.5, "early_stopping": "never"}, ALL),
    ({"max_new_tokens": 14, "num_beams": 3, "no_repeat_ngram_size": 2, "min_new_tokens": 4}, ALL),
    ({"max_new_tokens": 14, "num_beams": 4, "repetition_penalty": 1.3, "eos_token_id": "two"}, ALL),
    ({"max_new_tokens": 9, "num_beams": 3, "eos_token_id": None}, ALL),
    ({"max_new_tokens": 10, "num_beams": 2, "forced_eos_token_id": 5, "early_stopping": True}, [0, 3]),
]


def gpt2():
    config = GPT2Config(vocab_size=WORDS, n_positions=40, n_embd=32, n_layer=2, n_head=4, n_inner=48, bos_token_id=1,
                        eos_token_id=1, pad_token_id=3)
    model = GPT2LMHeadModel(config)
    randomise(model, 11)
    folder = FIXTURES / "gpt2" / "lm-head"
    save(folder, model, torch.float32)
    ids, mask = padded(texts(1, [7, 4]), 3, left=True)
    positions = (mask.cumsum(1) - 1).clamp(0)
    labels = ids.masked_fill(mask == 0, -100)
    with torch.no_grad():
        plain = model(ids[:1], labels=ids[:1], output_hidden_states=True)
        hidden = model(ids, attention_mask=mask, position_ids=positions, labels=labels, output_hidden_states=True)
    write(folder, {
        "ids": ids, "mask": mask.float(), "positions": positions, "loss": plain.loss, "padded_loss": hidden.loss,
        "logits": plain.logits, **states("state", plain.hidden_states),
        "padded_logits": hidden.logits, **states("padded_state", hidden.hidden_states),
    })
    write_generations(folder, generations(model, texts(2, [5, 3, 8, 1]), 3, True, CASES))

    adapted = get_peft_model(model, LoraConfig(
        r=2, lora_alpha=6, target_modules=["c_attn", "mlp.c_proj"], fan_in_fan_out=True, task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(13)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_" in name:
                p.copy_(0.4 * torch.randn(p.shape, generator=generator))
        out = adapted.eval()(ids[:1])
    folder = FIXTURES / "gpt2" / "lora"
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "gpt2/lm-head"
    config["target_modules"].sort()
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    write(folder, {"ids": ids[:1], "logits": out.logits})

    # published as `gpt2` is: GPT2Model without a prefix, with the masks of old versions, here in halves
    config = GPT2Config(vocab_size=WORDS, n_positions=40, n_embd=24, n_layer=2, n_head=3, activation_function="relu",
                        bos_token_id=1, eos_token_id=1, layer_norm_epsilon=1e-3)
    base = GPT2Model(config)
    randomise(base, 12)
    folder = FIXTURES / "gpt2" / "base"
    save(folder, base, torch.float16, lambda tensors: {
        **tensors, **{f"h.{i}.attn.bias": torch.ones(1, 1, 40, 40, dtype=torch.bool).tril() for i in range(2)},
        "h.0.attn.masked_bias": torch.tensor(-1e4)})
    with torch.no_grad():
        hidden = base(ids[:1], output_hidden_states=True).hidden_states
    write(folder, {"ids": ids[:1], **states("state", hidden)})


def bart():
    common = dict(vocab_size=WORDS, max_position_embeddings=40, d_model=32, encoder_layers=1, decoder_layers=2,
                  encoder_attention_heads=2, decoder_attention_heads=4, encoder_ffn_dim=40, decoder_ffn_dim=48,
                  bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None)
    config = BartConfig(**common, scale_embedding=False)
    model = BartForConditionalGeneration(config)
    randomise(model, 21)
    folder = FIXTURES / "bart" / "conditional"
    save(folder, model, torch.float32)
    sources, source_mask = padded(texts(3, [9, 5]), 1, left=False)
    ids, mask = padded([[2, *row] for row in texts(4, [6, 3])], 1, left=False)
    labels = torch.cat([ids[:, 1:], torch.full((2, 1), 2)], 1)
    with torch.no_grad():
        out = model(sources, attention_mask=source_mask, decoder_input_ids=ids, labels=labels, output_hidden_states=True)
    write(folder, {
        "sources": sources, "source_mask": source_mask.float(), "ids": ids, "labels": labels, "loss": out.loss,
        "logits": out.logits,
        **states("encoder_state", out.encoder_hidden_states), **states("decoder_state", out.decoder_hidden_states),
    })
    cases = [*CASES, ({"max_new_tokens": 10, "num_beams": 3, "forced_bos_token_id": 7, "forced_eos_token_id": 2}, ALL)]
    write_generations(folder, generations(model, texts(5, [6, 3, 9, 2]), 1, False, cases))

    # no head and no prefix, all copies of the embeddings, their scaling
    base = BartModel(BartConfig(**{**common, "d_model": 24, "activation_function": "relu"}, scale_embedding=True))
    randomise(base, 22)
    folder = FIXTURES / "bart" / "base"
    save(folder, base, torch.float16, lambda tensors: {
        **tensors, **{f"{part}.embed_tokens.weight": tensors["shared.weight"].clone() for part in ("encoder", "decoder")}})
    with torch.no_grad():
        out = base(sources[:1], decoder_input_ids=ids[:1], output_hidden_states=True)
    write(folder, {"sources": sources[:1], "ids": ids[:1], **states("encoder_state", out.encoder_hidden_states),
                   **states("decoder_state", out.decoder_hidden_states)})


gpt2()
bart()
