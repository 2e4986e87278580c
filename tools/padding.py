"""Rows of token ids filled up to one length, for the tools beside it."""
import torch


def padded(rows, pad, left):
    longest = max(map(len, rows))
    fill = [[pad] * (longest - len(row)) for row in rows]
    ids = [f + row if left else row + f for f, row in zip(fill, rows)]
    mask = [[0] * len(f) + [1] * len(row) if left else [1] * len(row) + [0] * len(f) for f, row in zip(fill, rows)]
    return torch.tensor(ids), torch.tensor(mask)
