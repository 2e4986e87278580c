"""Makes fixtures/features/pictograms.safetensors: features of interface icons from a small dual encoder trained here.

    python3 tools/make-demo-features/make.py [--work FOLDER] [--out FILE]

Installs the icon packages that sources.json pins into FOLDER (default .scion/demo-features, which git ignores), draws
them, trains the encoder on the pretraining sets without the task's own concepts, and writes the features of the train
and test sets and of the class names. One thread and one seed: the same machine writes the same tensors.
"""
import argparse
import json
import subprocess
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import nn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SEED, SIZE, DIM = 20, 32, 64
EPOCHS, BATCH, RATE = 8, 512, 2e-3
PER_FAMILY = 2  # pictures of one name that one icon set may give, so that no drawing style dominates a class
LICENCES = {'MIT', 'Apache-2.0', 'ISC', 'CC0-1.0', 'Unlicense'}
STYLES = set('''alt baseline basic bold broken bulk bx bxs duotone fill filled icon ios large lg light line linear logo
    md medium micro mini o outline outlined regular round rounded s sharp sharpe simple sm small solid standard stroke
    thin twotone'''.split())


def words(name: str) -> str:
    """'ios-mail-open-outline' -> 'mail open': the name without numbers and words of style, the icon's caption."""
    return ' '.join(w for w in name.lower().split('-') if w and w not in STYLES and not w.isdigit())


def install(folder: Path, sources: dict) -> None:
    wanted = {f'@iconify-json/{p}': v for part in ('pretrain', 'train', 'test') for p, v in sources[part].items()}
    wanted['sharp'] = sources['sharp']

    def have(name, version):
        file = folder / 'node_modules' / name / 'package.json'
        return file.exists() and json.loads(file.read_text())['version'] == version

    if not all(have(n, v) for n, v in wanted.items()):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(['npm', 'install', '--prefix', str(folder), '--ignore-scripts', '--no-save',
                        *(f'{n}@{v}' for n, v in wanted.items())], check=True)


def icons(folder: Path, package: str) -> list[dict]:
    """The icons of one package: body, box and all captions (own name first, then those of its aliases)."""
    at = folder / 'node_modules' / '@iconify-json' / package
    licence = json.loads((at / 'info.json').read_text())['license']['spdx']
    if licence not in LICENCES:
        raise SystemExit(f'{package}: licence {licence}; expected one of {", ".join(sorted(LICENCES))}')
    data = json.loads((at / 'icons.json').read_text())
    other = defaultdict(list)
    for name, alias in data.get('aliases', {}).items():
        if not set(alias) & {'hFlip', 'vFlip', 'rotate'}:
            other[alias['parent']].append(words(name))
    sides = {'left': 0, 'top': 0, 'width': 16, 'height': 16}  # what the format says where neither icon nor set does
    return [{'family': package, 'body': icon['body'], 'captions': [words(name), *other[name]],
             'box': [icon.get(s, data.get(s, default)) for s, default in sides.items()]}
            for name, icon in sorted(data['icons'].items()) if not icon.get('hidden') and words(name)]


def draw(folder: Path, chosen: list[dict]) -> np.ndarray:
    """Ink maps in [0, 1], [n, SIZE, SIZE]."""
    lines = ''.join(json.dumps({'body': i['body'], 'box': i['box']}) + '\n' for i in chosen)
    raw = subprocess.run(['node', str(HERE / 'render.mjs'), str(folder), str(SIZE)], input=lines.encode(),
                         stdout=subprocess.PIPE, check=True).stdout
    return (np.frombuffer(raw, np.uint8).reshape(len(chosen), SIZE, SIZE) / 255).astype(np.float32)


def capped(chosen: list[dict], key) -> list[dict]:
    """At most PER_FAMILY icons for one key and family, drawn at random."""
    seen, rng = Counter(), np.random.default_rng(SEED)
    kept = []
    for i in rng.permutation(len(chosen)):
        seen[chosen[i]['family'], key(chosen[i])] += 1
        if seen[chosen[i]['family'], key(chosen[i])] <= PER_FAMILY:
            kept.append(i)
    return [chosen[i] for i in sorted(kept)]


class Encoder(nn.Module):
    def __init__(self, vocabulary: int):
        super().__init__()

        def conv(i, o, k, s):
            return [nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o), nn.ReLU()]

        self.image = nn.Sequential(*conv(1, 24, 5, 2), *conv(24, 64, 3, 2), *conv(64, 128, 3, 1), *conv(128, 160, 3, 2),
                                   nn.Flatten(), nn.Dropout(0.2), nn.Linear(160 * (SIZE // 8) ** 2, DIM))
        self.words = nn.EmbeddingBag(vocabulary, 128, mode='mean')
        self.text = nn.Linear(128, DIM)
        self.log_scale = nn.Parameter(torch.tensor(np.log(10.0), dtype=torch.float32))

    def images(self, x):  # [n, SIZE, SIZE] -> [n, DIM]
        return F.normalize(self.image(x[:, None]), dim=1)

    def texts(self, captions, index):  # n captions -> [n, DIM]
        ids = [[index[w] for w in c.split()] for c in captions]
        offsets = torch.tensor(np.cumsum([0] + [len(i) for i in ids[:-1]]))
        return F.normalize(self.text(self.words(torch.tensor(sum(ids, [])), offsets)), dim=1)


def jitter(x: torch.Tensor) -> torch.Tensor:
    """Random size, place, slant and stroke weight of each picture, so that icon sets unlike those seen are readable."""
    n = len(x)
    size, turn = 1 / (0.75 + 0.4 * torch.rand(n)), 0.3 * (torch.rand(n) - 0.5)
    rows = torch.stack([size * torch.cos(turn), -size * torch.sin(turn), 0.3 * (torch.rand(n) - 0.5),
                        size * torch.sin(turn), size * torch.cos(turn), 0.3 * (torch.rand(n) - 0.5)], 1)
    grid = F.affine_grid(rows.view(n, 2, 3), (n, 1, SIZE, SIZE), align_corners=False)
    x = F.grid_sample(x[:, None], grid, align_corners=False)
    thick = F.max_pool2d(x, 3, 1, 1)
    return torch.lerp(x, thick, 0.7 * torch.rand(n, 1, 1, 1) * (torch.rand(n, 1, 1, 1) < 0.5))[:, 0]


def pretrain(pictures: torch.Tensor, captions: list[str]) -> tuple[Encoder, dict[str, int]]:
    index = {w: i for i, w in enumerate(sorted({w for c in captions for w in c.split()}))}
    same = {c: i for i, c in enumerate(sorted(set(captions)))}
    ids = torch.tensor([same[c] for c in captions])
    model = Encoder(len(index))
    steps = EPOCHS * (len(captions) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        total, order = 0.0, torch.randperm(len(captions))
        for at in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[at:at + BATCH]
            text = model.texts([captions[i] for i in rows], index)
            logits = model.images(jitter(pictures[rows])) @ text.T * model.log_scale.exp().clamp(max=50)
            target = (ids[rows, None] == ids[rows]).float()  # pictures of the same caption are all right answers
            target /= target.sum(1, keepdim=True)
            loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f'epoch {epoch + 1}/{EPOCHS}: loss {total / (len(order) // BATCH):.3f}', flush=True)
    return model.eval(), index


def by_centroid(train, labels, test, truth, shots, trials=20) -> float:
    """Accuracy of the nearest mean of `shots` train rows a class, mean over draws."""
    rng, hits = np.random.default_rng(SEED), []
    for _ in range(trials):
        means = np.stack([train[rng.permutation(np.flatnonzero(labels == k))[:shots]].mean(0)
                          for k in range(labels.max() + 1)])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        hits.append(((test @ means.T).argmax(1) == truth).mean())
    return float(np.mean(hits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work', type=Path, default=ROOT / '.scion/demo-features', help='folder for the icon packages')
    parser.add_argument('--out', type=Path, default=ROOT / 'fixtures/features/pictograms.safetensors')
    args = parser.parse_args()
    args.work, args.out = args.work.resolve(), args.out.resolve()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    sources = json.loads((HERE / 'sources.json').read_text())
    install(args.work, sources)

    names = list(sources['classes'])
    label = {alias: k for k, name in enumerate(names) for alias in (name, *sources['classes'][name])}
    part = {p: [i for family in sources[p] for i in icons(args.work, family)] for p in ('pretrain', 'train', 'test')}
    part['pretrain'] = capped([i for i in part['pretrain'] if not label.keys() & set(i['captions'])],
                              lambda i: i['captions'][0])
    for p in ('train', 'test'):
        part[p] = capped([i for i in part[p] if i['captions'][0] in label], lambda i: label[i['captions'][0]])
    ink = {p: draw(args.work, part[p]) for p in part}

    # A drawing that two icon sets share must not be on both sides: the later split loses it.
    kept = {}
    flat = np.zeros((0, SIZE * SIZE), np.float32)
    for p in part:
        unit = ink[p].reshape(len(ink[p]), -1)
        unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-6)
        near = (unit @ flat.T).max(1, initial=0) if p != 'pretrain' else np.zeros(len(unit))
        kept[p] = np.flatnonzero((near < 0.98) & (ink[p].mean((1, 2)) > 0.01))
        flat = np.concatenate([flat, unit[kept[p]]])
        print(f'{p}: {len(unit)} pictures, {len(unit) - len(kept[p])} blank or already in an earlier split')

    model, index = pretrain(torch.tensor(ink['pretrain'][kept['pretrain']]),
                            [part['pretrain'][i]['captions'][0] for i in kept['pretrain']])
    out = {}
    with torch.no_grad():
        for p in ('train', 'test'):
            order = sorted(kept[p], key=lambda i: label[part[p][i]['captions'][0]])
            out[f'{p}.features'] = model.images(torch.tensor(ink[p][order])).numpy().astype(np.float16)
            out[f'{p}.labels'] = np.array([label[part[p][i]['captions'][0]] for i in order], np.int64)
        out['text.features'] = model.texts(names, index).numpy().astype(np.float16)
        scale = model.log_scale.exp().clamp(max=50).item()
    save_file(out, args.out, metadata={
        'class_names': json.dumps(names), 'logit_scale': f'{scale:.4f}', 'model': 'scion-demo-pictograms-v1',
        'licence': 'Apache-2.0; made from icons under MIT, Apache-2.0, ISC and the Unlicense, see README.md',
        'source': 'tools/make-demo-features'})

    train, test, text = (out[k].astype(np.float32) for k in ('train.features', 'test.features', 'text.features'))
    y, truth = out['train.labels'], out['test.labels']
    print(f'{args.out}: {args.out.stat().st_size} bytes, scale {scale:.2f}')
    for k, name in enumerate(names):
        print(f'  {name}: {(y == k).sum()} train, {(truth == k).sum()} test')
    print(f'{len(y)} train, {len(truth)} test; zero-shot {((test @ text.T).argmax(1) == truth).mean():.3f}; ' +
          '; '.join(f'nearest centroid at {s} shots {by_centroid(train, y, test, truth, s):.3f}' for s in (1, 4, 16)))


if __name__ == '__main__':
    main()
