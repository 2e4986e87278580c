"""Tokens and scores of captions by pycocoevalcap, for fixtures/captioning/ (needs pycocoevalcap, and Java).

Reads captions.txt and examples.json there, writes tokens.txt, scores.json and meteor.json. METEOR is run twice on the
examples: as pycocoevalcap does, and with its modules of exact and stem matches alone, which is done for meteor.json too:
the captions with words left out and moved, and texts that repeat few words so often that METEOR's search is cut.
"""
import json
import os
import random
import subprocess
from importlib.metadata import version
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor import meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

folder = Path(__file__).resolve().parent.parent / 'fixtures' / 'captioning'


def tokenize(captions):
    lists = PTBTokenizer().tokenize({i: [{'caption': c}] for i, c in enumerate(captions)})
    return [lists[i][0] for i in range(len(captions))]


def run_meteor(candidates, references, options):
    """EVAL lines: a score per image, then that of the corpus."""
    command = ['java', '-Xmx2G', '-jar', 'meteor-1.5.jar', '-', '-', '-stdio', '-l', 'en', '-norm', *options]
    process = subprocess.Popen(command, cwd=os.path.dirname(meteor.__file__), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(line):
        process.stdin.write(line + '\n')
        process.stdin.flush()
        return process.stdout.readline().strip()

    stats = [ask('SCORE ||| ' + ' ||| '.join(r) + ' ||| ' + c) for c, r in zip(candidates, references)]
    first = ask('EVAL ||| ' + ' ||| '.join(stats))
    values = [float(x) for x in [first] + [process.stdout.readline() for _ in stats]]
    process.stdin.close()
    process.wait()
    return {'score': values[-1], 'perExample': values[:-1], 'stats': [[int(float(x)) for x in s.split()] for s in stats]}


def score(examples):
    candidates = tokenize([e['candidate'] for e in examples])
    references = [tokenize(e['references']) for e in examples]
    res = {i: [c] for i, c in enumerate(candidates)}
    gts = dict(enumerate(references))
    bleu, bleus = Bleu(4).compute_score(gts, res, verbose=0)
    result = {f'bleu{k + 1}': {'score': bleu[k], 'perExample': bleus[k]} for k in range(4)}
    for name, metric in (('rougeL', Rouge()), ('ciderD', Cider())):
        value, values = metric.compute_score(gts, res)
        result[name] = {'score': float(value), 'perExample': [float(v) for v in values]}
    result['meteor'] = run_meteor(candidates, references, [])
    result['meteorExactStem'] = run_meteor(candidates, references, TWO_MODULES)
    return result


WORDS = """a the man men dog dogs runs running horse horses riding rides on beach happily played plays with and of in
city cities children child nation nationally national abruptly abruption u.s. st. vs. n't 's 5 3,000 ... -lrb- & / wi-fi
o'clock""".split()


def drawn_pairs(tokens):
    """Candidates, and of each its references."""
    draw = random.Random(2026)

    def disturbed(words):
        words = words[:]
        if draw.random() < 0.5:
            a, b = sorted(draw.sample(range(len(words) + 1), 2))
            words = words[a:b] + words[:a] + words[b:]
        if draw.random() < 0.6:
            words.pop(draw.randrange(len(words)))
        return ' '.join(words)

    def drawn(words, fewest, most):
        return ' '.join(draw.choices(words, k=draw.randint(fewest, most)))

    pairs = [(caption, [disturbed(caption.split())]) for caption in tokens if len(caption.split()) > 3]
    pairs += [(drawn(WORDS, 4, 14), [drawn(WORDS, 4, 14) for _ in range(3)]) for _ in range(250)]
    for _ in range(50):
        few = draw.sample(WORDS, 8)
        pairs.append((drawn(few, 20, 40), [drawn(few, 20, 40) for _ in range(2)]))
    return [candidate for candidate, _ in pairs], [references for _, references in pairs]


TWO_MODULES = ['-m', 'exact stem', '-w', '1.0 0.6']
captions = (folder / 'captions.txt').read_text(encoding='utf-8').splitlines()
tokens = tokenize(captions)
(folder / 'tokens.txt').write_text('\n'.join(tokens) + '\n', encoding='utf-8')
examples = json.loads((folder / 'examples.json').read_text(encoding='utf-8'))
result = {'pycocoevalcap': version('pycocoevalcap'), 'all': score(examples), 'one': score(examples[:1])}
(folder / 'scores.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')

candidates, references = drawn_pairs(tokens)
meteor_scores = run_meteor(candidates, references, TWO_MODULES)
rows = [json.dumps({'candidate': c, 'references': r, 'score': v}, ensure_ascii=False)
        for c, r, v in zip(candidates, references, meteor_scores['perExample'])]
(folder / 'meteor.json').write_text(
    f'{{"score": {meteor_scores["score"]}, "examples": [\n' + ',\n'.join(rows) + '\n]}\n', encoding='utf-8')
