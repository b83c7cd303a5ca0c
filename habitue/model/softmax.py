"""The softmax over a catalogue: exact in chunks, or over a sample whose odds are corrected.

The dearest step of training. Exact: loss and gradients are made together, a chunk of rows at a
time, so that no more than a chunk of scores is ever held and none is made twice. Sampled: for
catalogues that are too large for that, negatives that all rows share.
"""

# N rows · P (row, item) pairs · V items · D width · S items drawn
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_CELLS = 3_000_000                    # scores held at once: what a core's caches still help


class _Catalogue(torch.autograd.Function):
    """Weighted cross-entropies of pairs, their gradients made on the way."""

    @staticmethod
    def forward(  # noqa: PLR0913 - torch hands over what catalogue_loss is told, and its own
        ctx: torch.autograd.function.FunctionCtx,
        states: Tensor,
        vectors: Tensor,
        bias: Tensor,
        row: Tensor,
        item: Tensor,
        weight: Tensor,
    ) -> Tensor:
        count, items = len(states), len(vectors)
        size = max(1, min(count, CHUNK_CELLS // max(items, 1)))
        scores = states.new_empty(size, items)
        to_states, to_vectors = torch.empty_like(states), torch.zeros_like(vectors)
        to_bias, total = torch.zeros_like(bias), states.new_zeros(())
        of_row = states.new_zeros(count).index_add_(0, row, weight)
        cuts = torch.searchsorted(row, torch.arange(0, count + size, size, device=row.device))
        for number, begin in enumerate(range(0, count, size)):
            state = states[begin : begin + size]
            chunk = scores[: len(state)]
            pairs = slice(int(cuts[number]), int(cuts[number + 1]))
            at, aim, share = row[pairs] - begin, item[pairs], weight[pairs]
            torch.addmm(bias, state, vectors.T, out=chunk)                 # (n, V)
            most = chunk.amax(dim=1, keepdim=True)
            aimed = chunk[at, aim]
            chunk.sub_(most).exp_()
            mass = chunk.sum(dim=1, keepdim=True)
            total += (share * ((mass.log() + most)[at, 0] - aimed)).sum()
            # what is left in the scores' place is the gradient by them
            chunk.mul_(of_row[begin : begin + size, None] / mass)
            chunk.view(-1).index_add_(0, at * items + aim, -share)
            torch.mm(chunk, vectors, out=to_states[begin : begin + size])
            to_vectors.addmm_(chunk.T, state)
            to_bias.add_(chunk.sum(dim=0))
        ctx.save_for_backward(to_states, to_vectors, to_bias)
        return total

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        to_states, to_vectors, to_bias = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad * to_states, grad * to_vectors, grad * to_bias, None, None, None


def catalogue_loss(
    states: Float[Tensor, "n d"],
    vectors: Float[Tensor, "v d"],
    bias: Float[Tensor, " v"],
    row: Int[Tensor, " p"],                # in ascending order
    item: Int[Tensor, " p"],
    weight: Float[Tensor, " p"],
) -> Float[Tensor, ""]:
    """Sum of weight * -log softmax(states @ vectors.T + bias)[row, item] over the pairs."""
    loss: Tensor = _Catalogue.apply(states, vectors, bias, row, item, weight)
    return loss


def sampled_loss(  # noqa: PLR0913 - those of catalogue_loss, and the sample
    states: Float[Tensor, "n d"],
    vectors: Float[Tensor, "v d"],
    bias: Float[Tensor, " v"],
    row: Int[Tensor, " p"],
    item: Int[Tensor, " p"],
    weight: Float[Tensor, " p"],
    drawn: Int[Tensor, " s"],              # items drawn evenly from the catalogue
) -> Float[Tensor, ""]:
    """The same sum, the catalogue stood for by the items `drawn`, which all rows share.

    Each of them stands for V / S, so its odds are raised by that; the item that followed is sure to
    be there and is left out of the correction (arXiv 2507.09331), and struck out of the sample.
    """
    asked = states[row]                                                    # (P, D)
    aimed = (asked * vectors[item]).sum(dim=-1) + bias[item]               # (P,)
    raised = math.log((len(vectors) - 1) / len(drawn))
    rest = asked @ vectors[drawn].T + bias[drawn] + raised                 # (P, S)
    rest = rest.masked_fill(item[:, None] == drawn[None, :], -math.inf)
    nll = torch.logaddexp(aimed, rest.logsumexp(dim=-1)) - aimed
    return (weight * nll).sum()
