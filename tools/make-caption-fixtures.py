"""Tokens and scores of captions by pycocoevalcap, for fixtures/captioning/ (needs pycocoevalcap, and Java).

Reads captions.txt and examples.json there, writes tokens.txt and scores.json. METEOR is run twice: as pycocoevalcap
does, and with its modules of exact and stem matches alone.
"""
import json
import os
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
    result['meteorExactStem'] = run_meteor(candidates, references, ['-m', 'exact stem', '-w', '1.0 0.6'])
    return result


captions = (folder / 'captions.txt').read_text(encoding='utf-8').splitlines()
(folder / 'tokens.txt').write_text('\n'.join(tokenize(captions)) + '\n', encoding='utf-8')
examples = json.loads((folder / 'examples.json').read_text(encoding='utf-8'))
result = {'pycocoevalcap': version('pycocoevalcap'), 'all': score(examples), 'one': score(examples[:1])}
(folder / 'scores.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
