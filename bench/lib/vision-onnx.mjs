// CLIP's vision tower as PyTorch's exporter writes it for transformers.js: batch first, a Conv over the patches, MatMul
// and Add for linear layers, heads split by Reshape and Transpose, a symbolic batch axis. Fusing is left to ONNX
// Runtime, as it is for published exports.
import { create, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProtoSchema, AttributeProto_AttributeType as Kind, ModelProtoSchema, NodeProtoSchema, TensorProtoSchema,
  ValueInfoProtoSchema,
} from '../../packages/scion/dist/onnx/generated/onnx_pb.js';
import { onnxTypes } from '../../packages/scion/dist/onnx/dtypes.js';

const attribute = (name, value) => create(AttributeProtoSchema, {
  name,
  ...(Array.isArray(value) ? { type: Kind.INTS, ints: value.map(BigInt) }
    : name === 'epsilon' ? { type: Kind.FLOAT, f: value } : { type: Kind.INT, i: BigInt(value) }),
});

const info = (name, dims) => create(ValueInfoProtoSchema, {
  name,
  type: { value: { case: 'tensorType', value: { elemType: onnxTypes.float32, shape: { dim: dims.map((d) => ({
    value: typeof d === 'string' ? { case: 'dimParam', value: d } : { case: 'dimValue', value: BigInt(d) },
  })) } } } },
});

/**
 * @param {Record<string, { shape: readonly number[], data: Float32Array }>} weights by the checkpoint's names
 * @param {object} config vision_config
 * @returns {Uint8Array} a model with input `pixel_values` [batch, 3, size, size] and output `image_embeds` [batch, d]
 */
export function exportVision(weights, config) {
  const { hidden_size: width, num_attention_heads: heads, num_hidden_layers: layers, patch_size: patch } = config;
  const { image_size: size, layer_norm_eps: epsilon } = config;
  const [nodes, initializers] = [[], new Map()];
  const op = (opType, input, attributes = {}) => {
    const output = `${opType}_${nodes.length}`;
    nodes.push(create(NodeProtoSchema, {
      opType, input, output: [output], name: output,
      attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
    }));
    return output;
  };
  const store = (name, dataType, dims, data) => {
    if (!initializers.has(name)) {
      initializers.set(name, create(TensorProtoSchema, {
        name, dataType, dims: dims.map(BigInt), rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      }));
    }
    return name;
  };
  const integers = (...values) =>
    store(`int64(${values})`, onnxTypes.int64, [values.length], BigInt64Array.from(values, BigInt));
  const number = (value) => store(`float(${value})`, onnxTypes.float32, [], Float32Array.of(value));
  const weight = (name, shape = weights[name].shape) => store(name, onnxTypes.float32, shape, weights[name].data);
  const transposed = (name) => {
    const { shape: [rows, columns], data } = weights[name];
    const turned = new Float32Array(data.length);
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) turned[j * rows + i] = data[i * columns + j];
    return store(`${name}.T`, onnxTypes.float32, [columns, rows], turned);
  };
  const linear = (name, x) =>
    op('Add', [weight(`${name}.bias`), op('MatMul', [x, transposed(`${name}.weight`)])]);
  const norm = (name, x) =>
    op('LayerNormalization', [x, weight(`${name}.weight`), weight(`${name}.bias`)], { axis: -1, epsilon });

  const model = 'vision_model';
  const conv = op('Conv', ['pixel_values', weight(`${model}.embeddings.patch_embedding.weight`)],
    { kernel_shape: [patch, patch], strides: [patch, patch] });
  const patches = op('Transpose', [op('Reshape', [conv, integers(0, width, -1)])], { perm: [0, 2, 1] });
  const batch = op('Gather', [op('Shape', ['pixel_values']), integers(0)], { axis: 0 });
  const first = op('Expand', [
    weight(`${model}.embeddings.class_embedding`, [1, 1, width]),
    op('Concat', [batch, integers(1), integers(width)], { axis: 0 }),
  ]);
  const tokens = (size / patch) ** 2 + 1;
  let x = norm(`${model}.pre_layrnorm`, op('Add', [
    op('Concat', [first, patches], { axis: 1 }),
    weight(`${model}.embeddings.position_embedding.weight`, [1, tokens, width]),
  ]));
  const perHead = width / heads;
  for (let i = 0; i < layers; i++) {
    const at = `${model}.encoder.layers.${i}`;
    const normal = norm(`${at}.layer_norm1`, x);
    const split = (v, perm) =>
      op('Transpose', [op('Reshape', [v, integers(0, 0, heads, perHead)])], { perm });
    const part = (name) => linear(`${at}.self_attn.${name}`, normal);
    const q = split(op('Mul', [part('q_proj'), number(perHead ** -0.5)]), [0, 2, 1, 3]);
    const scores = op('MatMul', [q, split(part('k_proj'), [0, 2, 3, 1])]);
    const mixed = op('MatMul', [op('Softmax', [scores], { axis: -1 }), split(part('v_proj'), [0, 2, 1, 3])]);
    const joined = op('Reshape', [op('Transpose', [mixed], { perm: [0, 2, 1, 3] }), integers(0, 0, width)]);
    x = op('Add', [x, linear(`${at}.self_attn.out_proj`, joined)]);
    const hidden = linear(`${at}.mlp.fc1`, norm(`${at}.layer_norm2`, x));
    const active = op('Mul', [hidden, op('Sigmoid', [op('Mul', [hidden, number(1.702)])])]); // quick_gelu
    x = op('Add', [x, linear(`${at}.mlp.fc2`, active)]);
  }
  const zero = store('zero', onnxTypes.int64, [], BigInt64Array.of(0n));
  const pooled = norm(`${model}.post_layernorm`, op('Gather', [x, zero], { axis: 1 }));
  const features = transposed('visual_projection.weight');
  nodes.push(create(NodeProtoSchema, { opType: 'MatMul', input: [pooled, features], output: ['image_embeds'] }));
  return toBinary(ModelProtoSchema, create(ModelProtoSchema, {
    irVersion: 8n, producerName: 'scion-bench', opsetImport: [{ domain: '', version: 17n }],
    graph: {
      name: 'vision', node: nodes, initializer: [...initializers.values()],
      input: [info('pixel_values', ['batch', 3, size, size])],
      output: [info('image_embeds', ['batch', weights['visual_projection.weight'].shape[0]])],
    },
  }));
}
