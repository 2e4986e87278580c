/** BitFit (Ben Zaken et al., ACL 2022, arXiv 2106.10199, section 3): the biases are trained, and nothing else. */
import { z } from 'zod';
import { nearest } from '../../util/errors.js';
import { type BackboneMethod, refuse, unfreeze } from '../backbone-method.js';
import { endsWith, nameList } from '../targets.js';
import { isBias, modality, towerParameters } from '../towers.js';

/** The paper's b_q and b_m2 (section 4, "fewer bias parameters"), by the models' names for their modules. */
const groups: Readonly<Record<string, readonly string[]>> = {
  query: ['q_proj', 'query'],
  'mid-mlp': ['fc1', 'intermediate.dense', 'weights_in'],
};

export const bitFitConfig = z.strictObject({
  biases: nameList.default('all')
    .describe('all, or a list of query, mid-mlp (the first layer of the feed-forward part) and ends of paths'),
  modality,
});

const moduleOf = (name: string): string => name.slice(0, name.lastIndexOf('.'));

export const bitFit: BackboneMethod<typeof bitFitConfig> = {
  name: 'bitfit',
  title: 'BitFit',
  paper: 'https://arxiv.org/abs/2106.10199',
  summary: 'the biases of linear layers, convolutions and norms are trained',
  needsText: false,
  config: bitFitConfig,
  // within the paper's 1e-4 to 1e-3
  training: { optimizer: 'adamw', lr: 4e-4, epochs: 30, batch_size: 16, schedule: 'linear', augment: true },
  async attach(model, { biases, modality: towers }, context) {
    const all = towerParameters(model, towers).filter(([name]) => isBias(name));
    if (all.length === 0) refuse(['modality', `${towers}: what it names has no bias; use another tower or method`]);
    const wanted = biases === 'all' ? [''] : [biases].flat();
    const found = wanted.map((name) => all.filter(([path]) =>
      (groups[name] ?? [name]).some((end) => end === '' || endsWith(moduleOf(path), end))));
    const missing = wanted.filter((_, i) => found[i]!.length === 0);
    if (missing.length > 0) {
      const ends = [...Object.keys(groups), ...new Set(all.map(([path]) => moduleOf(path).split('.').at(-1)!))];
      refuse(...missing.map((name): [string, string] => ['biases', `${JSON.stringify(name)} is the end of the path of `
        + `no module with a bias; there are ${nearest(name, ends).join(', ')}`]));
    }
    await unfreeze(found.flat().map(([, p]) => p), context);
  },
};
