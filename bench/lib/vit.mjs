// A ViT-B/16-sized encoder with LoRA on q and v, from Scion's own layers; the PyTorch twin is peers/engine.py.
import { LayerNorm, Linear, below } from '../../packages/scion/dist/nn/layers.js';
import { Module } from '../../packages/scion/dist/nn/module.js';
import { Parameter, bind } from '../../packages/scion/dist/nn/parameter.js';
import { Encoder } from '../../packages/scion/dist/nn/transformer.js';
import * as b from '../../packages/scion/dist/ops/build.js';

export const config = {
  hidden_size: 768, intermediate_size: 3072, num_hidden_layers: 12, num_attention_heads: 12, hidden_act: 'gelu',
  layer_norm_eps: 1e-5,
};

class LoraLinear extends Module {
  constructor(base, a, bb) {
    super();
    this.base = base;
    this.weight = this.parameter('weight', base.weight);
    this.bias = this.parameter('bias', base.bias);
    this.a = this.parameter('lora_A.weight', a);
    this.b = this.parameter('lora_B.weight', bb);
  }

  forward(x) {
    const low = b.fusedMatMul(x, bind(x.graph, this.a), { transB: 1 });
    return b.add(this.base.forward(x), b.fusedMatMul(low, bind(x.graph, this.b), { transB: 1 }));
  }
}

class Vit extends Module {
  constructor(weights) {
    super();
    this.encoder = this.child('encoder', new Encoder(weights, config));
    this.norm = this.child('final_layer_norm', new LayerNorm(below(weights, 'final_layer_norm'), 768));
    this.head = this.child('head', new Linear(below(weights, 'head'), 768, 512));
  }

  /** [batch, tokens, 768] → [batch, 512] */
  forward(x) {
    const states = this.encoder.forward(x);
    const first = b.reshape(b.slice(states, 0, 0, 1), [x.shape[0], 768]);
    return this.head.forward(this.norm.forward(first));
  }
}

/** `file` is a safetensors header (readSafetensorsHeader); `read` gives the initial LoRA factors. */
export function vit(file, lora) {
  const external = (name, shape) => {
    const t = file.tensors.get(name);
    return new Parameter(shape, {
      kind: 'external', dtype: t.dtype, data: { path: file.path, offset: t.offset, byteLength: t.byteLength },
    });
  };
  const model = new Vit(external);
  if (lora) {
    for (let i = 0; i < config.num_hidden_layers; i++) {
      for (const p of ['q_proj', 'v_proj']) {
        const at = `layers.${i}.self_attn.${p}`;
        const trained = (name, shape) =>
          new Parameter(shape, { kind: 'trained', init: () => lora(`${at}.${name}.weight`) });
        model.replace(`encoder.${at}`, (base) =>
          new LoraLinear(base, trained('lora_A', [8, 768]), trained('lora_B', [768, 8])));
      }
    }
  }
  return model.named();
}
