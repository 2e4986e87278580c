# coding=utf-8
"""Writes fixtures/vqa/official.json: what the official evaluation of VQA makes of made-up answers.

    git clone https://github.com/GT-Vision-Lab/VQA && git -C VQA checkout a013f00
    python2.7 tools/make-vqa-fixtures.py VQA

The evaluation is written for Python 2 and is run unchanged. The answers are drawn from the word lists below with a
generator of its own, so that every run writes the same file.
"""
from __future__ import print_function, unicode_literals
import io
import json
import os
import sys

checkout = sys.argv[1]
sys.path.insert(0, os.path.join(checkout, 'PythonEvaluationTools'))
from vqaEvaluation.vqaEval import VQAEval  # noqa: E402

SIGNS = [';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!',
         '.', ':', "'", '&', '%', '$', '#', '*', '\u2019', '\u2026', '\u00bf']
WORDS = ['yes', 'no', 'Yes', 'NO', 'two', 'Ten', 'zero', 'none', 'eleven', 'a', 'an', 'The', 'dog', 'dogs', 'red', 'Red',
         '2', '10', '3.5', '.5', '5.', '1,000', '10:30', '12/25/2010', 't-shirt', 'wii remote', 'dont', "don't", 'Im',
         "I'm", 'couldntve', "couldn'tve", 'lets', 'shes', 'wont', 'oclock', "somebody'd", 'yall', "y'alld've", 'theyre',
         'u.s.a.', 'St. Pauls', 'caf\u00e9', '\u0441\u043e\u0431\u0430\u043a\u0430', '\u72d7', '\u0663', '1\u066c2',
         '\u00c9TUDE', 'a.m.', 'p.m', 'black and white', 'on/off', 'left-right', '50%', '$5', '7up', 'mid-air', 'a-b']
EDGES = ['', ' ', 'a', 'the an a', '.', '...', '?', ', ', ' ,', '1,2,3 a,b', 'a,b', 'x , y', 'one two three', 'none',
         'tab\there', 'line\nbreak', '  two   spaces  ', '\u00a0no\u00a0break ', '.' * 40, 'a.' * 40, '1.' * 5 + '2',
         '-', '- -', 'well-known - fact', '"quoted"', "'twas twas", 'U.S.', '1.5.', '.5.5', '5 .', 'x.5', '1,000.00',
         'Is it? Yes!', 'yes,no', 'yes, no', 'yes ,no', '(left)', '( left )', 'a/b/c', 'a /b/c', '[1,2]', '\u2003wide']


class Draw(object):
    """The minimal standard generator of Park and Miller: the same numbers in every version of Python."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = self.state * 48271 % 2147483647
        return self.state % n

    def of(self, items):
        return items[self.below(len(items))]


draw = Draw(20261124)


def text():
    out = ''
    for _ in range(1 + draw.below(4)):
        out += draw.of(['', '', ' ', '  ', draw.of(SIGNS), ' ' + draw.of(SIGNS), draw.of(SIGNS) + ' ']) + draw.of(WORDS)
    return out + draw.of(['', '', '', draw.of(SIGNS), ' ' + draw.of(SIGNS)])


def question(i):
    """Ten answers of some candidates, the first of which the most often, and a prediction."""
    candidates = [text() for _ in range(1 + draw.below(4))]
    if draw.below(3) == 0:  # spellings that become equal
        word = draw.of(['dog', 'two', 'dont', 'red'])
        candidates = [word, 'The ' + word, word + '.', word.upper() + '!', ' ' + word + '\n']
    given = [candidates[0] if draw.below(3) else draw.of(candidates) for _ in range(10)]
    if draw.below(8) == 0:
        given = [candidates[0]] * 10  # then nothing is normalised
    predicted = draw.of(candidates + [candidates[0], candidates[0].upper(), text()])
    return {'answers': given, 'answer': predicted, 'questionType': draw.of(['how many', 'is the', 'none of the above']),
            'answerType': draw.of(['yes/no', 'number', 'other'])}


class Data(object):
    """What the evaluation reads of its own classes of data."""

    def __init__(self, qa):
        self.qa = qa

    def getQuesIds(self):
        return sorted(self.qa)


questions = [question(i) for i in range(160)]
truth = Data({i: {'question_type': q['questionType'], 'answer_type': q['answerType'],
                  'answers': [{'answer': a, 'answer_id': k + 1} for k, a in enumerate(q['answers'])]}
              for i, q in enumerate(questions)})
predicted = Data({i: {'answer': q['answer']} for i, q in enumerate(questions)})
evaluation = VQAEval(truth, predicted, n=10)
sys.stdout, stdout = io.BytesIO(), sys.stdout  # its progress bar
evaluation.evaluate()
sys.stdout = stdout


def normalise(answer):
    """The steps that `evaluate` applies to an answer."""
    answer = answer.replace('\n', ' ').replace('\t', ' ').strip()
    return evaluation.processDigitArticle(evaluation.processPunctuation(answer))


answers = EDGES + WORDS + sorted(evaluation.contractions) + [text() for _ in range(250)]
result = {
    'source': 'github.com/GT-Vision-Lab/VQA a013f00, vqaEval.py, by Python %d.%d' % sys.version_info[:2],
    'normalised': [[a, normalise(a)] for a in answers],
    'evaluation': {
        'questions': questions,
        'overall': evaluation.accuracy['overall'],
        'perQuestionType': evaluation.accuracy['perQuestionType'],
        'perAnswerType': evaluation.accuracy['perAnswerType'],
        'perQuestion': [evaluation.evalQA[i] for i in range(len(questions))],
    },
}
target = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fixtures', 'vqa', 'official.json')
with io.open(target, 'w', encoding='utf-8') as file:
    file.write(json.dumps(result, ensure_ascii=False, indent=1, sort_keys=True, separators=(',', ': ')) + '\n')
print(len(answers), 'answers,', len(questions), 'questions')
