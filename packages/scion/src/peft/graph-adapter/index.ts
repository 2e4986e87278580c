/** GraphAdapter (Li et al., NeurIPS 2023, arXiv 2309.13625). */
import { z } from 'zod';
import type { Graph, Value } from '../../ir/graph.js';
import { type Parameter, bind, frozen, init, trained } from '../../nn/parameter.js';
import { type FeatureInputs, type FeatureMethod, FeatureModule, classMeans, classTexts } from '../feature-method.js';
import { cosineLogits } from '../zero-shot/index.js';
import { type SubGraph, adaptedTexts, aggregate } from './layer.js';

const config = z.strictObject({
  alpha: z.number().min(0).max(1).default(0.7).describe('share of the textual sub-graph against the visual one'),
  beta: z.number().min(0).max(1).default(0.6).describe('share of the original text feature'),
  partitions: z.number().int().min(1).default(4).describe('P: groups into which the graph nodes are split'),
});

class GraphAdapter extends FeatureModule {
  private readonly text: Parameter;
  private readonly visual: Parameter;
  private readonly weights: Readonly<Record<'text' | 'visual', { weight: Parameter; bias: Parameter }>>;

  constructor(inputs: FeatureInputs, private readonly options: z.output<typeof config>) {
    super(inputs);
    const { classes, dim } = inputs;
    this.text = this.parameter('text', frozen(classTexts(inputs.text!)));
    this.visual = this.parameter('visual', frozen(classMeans(inputs)));
    const layer = (name: string): { weight: Parameter; bias: Parameter } => ({
      weight: this.parameter(`${name}.weight`, trained([dim, dim], init.uniform(1 / Math.sqrt(dim)))),
      bias: this.parameter(`${name}.bias`, trained([classes, dim], init.zeros)),
    });
    this.weights = { text: layer('text_gcn'), visual: layer('visual_gcn') };
  }

  /** [K, d] */
  private texts(graph: Graph): Value {
    const t = bind(graph, this.text);
    const { alpha, beta, partitions } = this.options;
    const subGraph = (nodes: Value, { weight, bias }: { weight: Parameter; bias: Parameter }): SubGraph => ({
      aggregated: aggregate(t, nodes, partitions), weight: bind(graph, weight), bias: bind(graph, bias),
    });
    return adaptedTexts(t, subGraph(t, this.weights.text), subGraph(bind(graph, this.visual), this.weights.visual),
      alpha, beta);
  }

  logits(features: Value): Value {
    return cosineLogits(features, this.texts(features.graph), this.inputs.logitScale);
  }
}

const tied = 'each class text is mixed over the graph of all classes, so that one more or less changes every other; '
  + 'train again';

export const graphAdapter: FeatureMethod<typeof config> = {
  name: 'graph-adapter',
  title: 'GraphAdapter',
  paper: 'https://arxiv.org/abs/2309.13625',
  summary: 'class texts adapted by a textual and a visual knowledge graph over the classes',
  needsText: true,
  config,
  training: { optimizer: 'adam', lr: 1e-3, epochs: 100, batch_size: 256, schedule: 'cosine' },
  search: { when: 'train', published: false, grid: { beta: [0.5, 0.6, 0.7, 0.8] } },
  classes: { add: tied, remove: tied },
  create: (inputs, options) => new GraphAdapter(inputs, options).named(),
};
