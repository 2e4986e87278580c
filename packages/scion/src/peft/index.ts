/** The methods that Scion has. */
import { clipAdapter } from './clip-adapter/index.js';
import { graphAdapterParity } from './graph-adapter/parity.js';
import { graphAdapter } from './graph-adapter/index.js';
import { adapter } from './adapter/index.js';
import { adaptFormer } from './adaptformer/index.js';
import { bitFit } from './bitfit/index.js';
import { coop } from './coop/index.js';
import { fullFineTuning } from './full-finetuning/index.js';
import { layerNormTuning } from './layernorm-tuning/index.js';
import { prefixTuning } from './prefix-tuning/index.js';
import { promptTuning } from './prompt-tuning/index.js';
import { clipLora, lora } from './lora/index.js';
import { linearProbe } from './linear-probe/index.js';
import type { ParityCheck } from './parity.js';
import { registerMethod } from './registry.js';
import { routingAdapterParity, routingLoraParity } from './routing/parity.js';
import { simpleShot } from './simpleshot/index.js';
import { taskRes } from './taskres/index.js';
import { tipAdapter, tipAdapterF } from './tip-adapter/index.js';
import { zeroShot } from './zero-shot/index.js';

registerMethod(zeroShot);
registerMethod(linearProbe);
registerMethod(simpleShot);
registerMethod(tipAdapter);
registerMethod(tipAdapterF);
registerMethod(clipAdapter);
registerMethod(taskRes);
registerMethod(graphAdapter);
registerMethod(lora);
registerMethod(clipLora);
registerMethod(adapter);
registerMethod(adaptFormer);
registerMethod(bitFit);
registerMethod(layerNormTuning);
registerMethod(coop);
registerMethod(promptTuning);
registerMethod(prefixTuning);
registerMethod(fullFineTuning);

/** Checks against reference files, by the prefix of the file's name. */
export const parityChecks: readonly ParityCheck[] = [graphAdapterParity, routingLoraParity, routingAdapterParity];

export { mergedWeights, unmergeable } from './merge.js';
export { peftWeights } from './python/apply.js';
export { writePeftAdapter } from './python/folder.js';
export { peftAdapterFiles } from './python/keys.js';
export { type LoraConfig } from './lora/index.js';
export { namesIn } from './targets.js';
export { type Method, getMethod, methodNames, needText } from './registry.js';
export { type AttachContext, type BackboneMethod, type PromptWords, isBackboneMethod } from './backbone-method.js';
export { type FeatureInputs, type FeatureMethod, FeatureModule, classMeans, normaliseRows } from './feature-method.js';
export { cosineLogits } from './zero-shot/index.js';
export type { ClassChanges, MethodInfo, Search, TrainingDefaults } from './method.js';
