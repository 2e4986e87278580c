/** How a reference file `graph-adapter-*` is computed here. */
import type { ParityCheck } from '../parity.js';
import * as f from '../../nn/functional.js';
import { cosineLogits } from '../zero-shot/index.js';
import { type SubGraph, adaptedTexts, aggregate } from './layer.js';

export const graphAdapterParity: ParityCheck = {
  prefix: 'graph-adapter',
  build({ input, number }) {
    const t = input('text_features');
    const subGraph = (kind: 'text' | 'visual'): SubGraph => ({
      aggregated: aggregate(t, input(`${kind}_features`), number('partitions')),
      weight: input(`${kind}_gcn_weight`),
      bias: input(`${kind}_gcn_bias`),
    });
    const texts = adaptedTexts(t, subGraph('text'), subGraph('visual'), number('alpha'), number('beta'));
    const logits = cosineLogits(input('image_features'), texts, number('logit_scale'));
    const loss = f.crossEntropy(logits, input('labels'));
    return { objective: loss, outputs: { adapted_text_features: texts, logits, loss: f.reshape(loss, [1]) } };
  },
};
