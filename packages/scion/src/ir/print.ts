/** The program as text, one line a node: `%12 = MatMul(%3, weight) : float32[8, 50, 768]  @ layers.0.mlp`. */
import type { Graph, TypeInfo, Value } from './graph.js';

export function printType(type: TypeInfo): string {
  return `${type.dtype}[${type.shape.join(', ')}]`;
}

export function valueName(value: Value): string {
  return value.source.kind === 'node' ? `%${value.id}` : value.source.name;
}

/** `constants: false` leaves the constants' own lines out. */
export function printGraph(graph: Graph, options: { constants?: boolean } = {}): string {
  const lines: string[] = [];
  for (const v of graph.inputs) {
    if (v.source.kind === 'input') lines.push(`input ${v.source.name} : ${printType(v)}  (${v.source.role})`);
  }
  if (options.constants ?? true) {
    for (const v of graph.constants) {
      if (v.source.kind !== 'constant') continue;
      const { data, name } = v.source;
      const where = 'path' in data
        ? `${data.path} at ${data.offset}`
        : data.data.length <= 8 ? `{${Array.from(data.data as ArrayLike<number>, String).join(', ')}}` : 'inline';
      lines.push(`constant ${name} : ${printType(v)} = ${where}`);
    }
  }
  for (const node of graph.nodes) {
    const attributes = Object.entries(node.attributes as Record<string, unknown>)
      .map(([k, v]) => ` ${k}=${Array.isArray(v) ? `[${v.join(', ')}]` : String(v)}`).join('');
    const inputs = node.inputs.map(valueName).join(', ');
    const path = node.path ? `  @ ${node.path}` : '';
    lines.push(`${node.outputs.map(valueName).join(', ')} = ${node.op}(${inputs})${attributes} : `
      + `${node.outputs.map(printType).join(', ')}${path}`);
  }
  for (const [name, v] of graph.outputs) lines.push(`output ${name} = ${valueName(v)} : ${printType(v)}`);
  return `${lines.join('\n')}\n`;
}
