export * from '../nn/text-model.js';
