/** The compiled program of a recipe or a run, to read and to open in Netron. */
import { join } from 'node:path';
import { readSafetensors } from '../formats/safetensors-node.js';
import type { Graph } from '../ir/graph.js';
import { printGraph } from '../ir/print.js';
import { encodeModel } from '../onnx/encode.js';
import { inputError } from '../util/errors.js';
import { type Method, isBackboneMethod, needText } from '../peft/index.js';
import type { Classifying } from './adapted.js';
import { checkDevice } from './check-runtime.js';
import { compileClassifier } from './classifier.js';
import { compileFeatureTraining } from './fit.js';
import { type SourceOptions, recipeFeatures } from './pictures.js';
import { type RecipeInput, resolveRecipe } from './recipe.js';
import { files, readRunInfo } from './run-folder.js';
import { storedInputs } from './run.js';
import { moduleMaker } from './maker.js';
import { prepareRows } from './select.js';
import type { Recipe } from './recipe.js';

export interface ProgramDescription {
  method: string;
  /** Parts in the order in which they run: `prologue` once, `step` at every step, `predict` afterwards. */
  parts: { name: string; nodes: number; text: string; onnx: Uint8Array }[];
}

/** Of a recipe: the same program that `train` would run. */
export async function describeRecipe(input: RecipeInput, options: SourceOptions = {}): Promise<ProgramDescription> {
  const { recipe, method } = resolveRecipe(input);
  if (recipe.data !== undefined) await checkDevice(recipe.device);
  const file = await recipeFeatures(recipe, { train: true, text: needText([method]) }, options);
  const { support } = prepareRows(file, recipe);
  return describe(method, recipe, await moduleMaker(method, file)(recipe.config, support));
}

/** Of a run folder, finished or not. */
export async function describeRun(path: string): Promise<ProgramDescription> {
  const info = await readRunInfo(path);
  const { recipe, method } = resolveRecipe(info.recipe);
  const support = Object.fromEntries((await readSafetensors(join(path, files.support))).tensors);
  if (isBackboneMethod(method)) {
    throw inputError(path, `${info.method} adapts its model, which the run folder does not hold; describe its recipe: `
      + 'scion graph --data … --method …');
  }
  return describe(
    method,
    recipe,
    method.create(storedInputs(info, support, path), info.result?.config ?? recipe.config),
  );
}

function describe(method: Method, { training }: Recipe, module: Classifying): ProgramDescription {
  const parts: ProgramDescription['parts'] = [];
  const add = (name: string, graph: Graph | undefined): void => {
    if (graph)
      parts.push({ name, nodes: graph.nodes.length, text: printGraph(graph), onnx: encodeModel(graph, name).bytes });
  };
  if (training && training.optimizer !== 'lbfgs') {
    const program = compileFeatureTraining(module, module.inputs.support, training);
    add('prologue', program.prologue);
    add('step', program.step);
  }
  const inference = compileClassifier(module);
  add('predict-prologue', inference.prologue);
  add('predict', inference.step);
  return { method: method.name, parts };
}
