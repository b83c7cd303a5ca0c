"""What the model is asked to learn: mean negative log-likelihoods over what was observed.

The dearest step of training is the softmax over a catalogue. Exact: loss and gradients are made
together, a chunk of rows at a time, so that no more than a chunk of scores is ever held and none
is made twice. Sampled: for catalogues that are too large for that, negatives that all rows share.
"""

# B chunks · T events · K queries · N rows · V items · P (row, item) pairs · H bins · M components
# D width · S items drawn
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from habitue.model.backbone import Model
from habitue.model.inputs import Inputs
from habitue.sequences.tokens import BIN_EDGES

# weights of the sum; items speak in more nats than waiting times do
WEIGHTS = {
    "next_order": 1.0, "orders": 1.0, "spend": 0.5, "mean_spend": 0.1,
    "items": 0.15, "next_item": 0.15, "next_kind": 0.2, "next_event": 0.2,
}  # fmt: skip
SAMPLED_ITEMS = 4_096                      # that stand for a catalogue beyond `exact_items`
NO_RIVAL = -1e4                            # a bias whose odds are nil
CHUNK_CELLS = 3_000_000                    # scores held at once: what a core's caches still help


@dataclass(frozen=True, slots=True)
class Losses:
    """The weighted sum to descend, and its parts by name, unweighted, for people to read."""

    total: Tensor
    parts: dict[str, float]


def losses(model: Model, inputs: Inputs, *, spend_dispersion: float = 1.0) -> Losses:
    """Every objective on one batch; deviations of mean spend count less where it is dispersed."""
    vectors = model.items.vectors()                                        # (V + 1, D)
    with torch.autocast(vectors.device.type, torch.bfloat16, enabled=model.config.bfloat16):
        events, queries = model(inputs, vectors)
    # likelihoods want more digits than matrix products
    events, queries = events.float(), queries.float()
    if not inputs.asked.shape[1]:
        # sequences that know order alone: what comes next is all there is to learn
        flat = (events.flatten(0, 1), inputs.next_item_of, inputs.next_item)
        loss = item_loss(model, vectors, *flat, query=False)
        return Losses(loss, {"next_item": float(loss.detach())})
    edges = torch.as_tensor(BIN_EDGES, dtype=torch.float32, device=queries.device)
    log_rates = model.log_rates(queries, inputs.log_prior_rate)
    parts = {
        "next_order": mean_over(
            waiting_time_nll(log_rates, inputs.wait_days, inputs.ordered, edges), inputs.asked
        ),
        **horizon_losses(model, inputs, queries, log_rates, edges),
        "next_kind": kind_loss(model, inputs, events),
        "next_event": mean_over(
            waiting_time_nll(
                model.next_gap(events) - 4.0, inputs.next_gap_days, inputs.followed, edges
            ),
            inputs.followed,
        ),
    }
    if model.items.bias.shape[0] > 1:
        flat = (queries.flatten(0, 1), inputs.query_item_of, inputs.query_item)
        parts["items"] = item_loss(model, vectors, *flat, query=True)
        flat = (events.flatten(0, 1), inputs.next_item_of, inputs.next_item)
        parts["next_item"] = item_loss(model, vectors, *flat, query=False)
    parts["mean_spend"] = parts["mean_spend"] / spend_dispersion
    total = sum((WEIGHTS[name] * loss for name, loss in parts.items()), torch.zeros(()))
    return Losses(total, {name: float(loss.detach()) for name, loss in parts.items()})


def horizon_losses(
    model: Model, inputs: Inputs, queries: Tensor, log_rates: Tensor, edges: Tensor
) -> dict[str, Tensor]:
    """Orders and spend within the drawn horizon, where one was drawn."""
    horizon = inputs.horizon_days
    closed = inputs.asked & (horizon > 0)
    log_mean, log_dispersion = model.order_counts(queries, inputs.log_expected, horizon)
    count_nll = negative_binomial_nll(inputs.orders, log_mean, log_dispersion)
    log_prior = prior_log_spend(inputs.mean_value, log_mean, log_rates, horizon, edges)
    mixture = model.spend_given_order(queries, log_prior.detach(), horizon)
    positive = closed & (inputs.revenue > 0)
    spend_nll = lognormal_mixture_nll(inputs.revenue.clamp_min(1e-3), *mixture)
    mean = expected_spend(log_rates, mixture, horizon, edges)
    # a lognormal's likelihood hardly sees the largest spenders; a mean must
    quasi = mean - inputs.revenue * mean.clamp_min(1e-6).log()
    least = inputs.revenue - torch.xlogy(inputs.revenue, inputs.revenue)   # of a mean that is met
    return {
        "orders": mean_over(count_nll, closed),
        "spend": mean_over(spend_nll, positive),
        "mean_spend": mean_over(quasi - least, closed),
    }


def expected_spend(
    log_rates: Tensor, mixture: tuple[Tensor, Tensor, Tensor], horizon: Tensor, edges: Tensor
) -> Tensor:
    """P(order) times the mixture's mean: spend within the horizon, over the shop's median."""
    log_weight, location, scale = mixture
    given_order = torch.logsumexp(log_weight + location + scale**2 / 2, dim=-1).exp()
    return -torch.expm1(-cumulative_hazard(log_rates, horizon, edges)) * given_order


def prior_log_spend(
    mean_value: Tensor, log_mean: Tensor, log_rates: Tensor, horizon: Tensor, edges: Tensor
) -> Tensor:
    """Log of mean order value times expected orders given at least one, over the shop's median."""
    probability = -torch.expm1(-cumulative_hazard(log_rates, horizon, edges))
    given_one = (log_mean.exp() / probability.clamp_min(1e-4)).clamp(1.0, 200.0)
    return torch.log(mean_value * given_one)


def cumulative_hazard(
    log_rates: Float[Tensor, "... h"], days: Float[Tensor, "..."], edges: Float[Tensor, " h"]
) -> Float[Tensor, "..."]:
    """Integral from 0 to `days` of a hazard that is constant within bins, and past the last one."""
    exposure = exposures(days, edges)                                      # (..., H)
    return (log_rates.exp() * exposure).sum(-1)


def exposures(days: Float[Tensor, "..."], edges: Float[Tensor, " h"]) -> Float[Tensor, "... h"]:
    """Days spent in each bin by time `days`; the last bin has no end."""
    left = functional.pad(edges[:-1], (1, 0))
    width = torch.cat([edges[:-1] - left[:-1], edges.new_tensor([math.inf])])
    return (days[..., None] - left).clamp_min(0).minimum(width)


def waiting_time_nll(
    log_rates: Float[Tensor, "... h"],     # per day, within each bin
    wait_days: Float[Tensor, "..."],       # to the event, or to the cutoff
    observed: Bool[Tensor, "..."],         # False where the cutoff came first
    edges: Float[Tensor, " h"],            # right edges of the bins, days
) -> Float[Tensor, "..."]:
    """Piecewise-exponential survival likelihood, right-censored (Friedman 1982)."""
    # days are written with four decimals, so an event on an edge belongs to the bin before it
    at = torch.searchsorted(edges, wait_days.contiguous()).clamp_max(len(edges) - 1)
    log_rate = log_rates.gather(-1, at[..., None])[..., 0]
    return cumulative_hazard(log_rates, wait_days, edges) - log_rate * observed


def negative_binomial_nll(
    count: Float[Tensor, "..."],
    log_mean: Float[Tensor, "..."],
    log_dispersion: Float[Tensor, "..."],
) -> Float[Tensor, "..."]:
    """Negative binomial with mean exp(log_mean) and size r = exp(log_dispersion)."""
    r = log_dispersion.exp()
    log_total = torch.logaddexp(log_dispersion, log_mean)
    return (
        torch.lgamma(r) + torch.lgamma(count + 1) - torch.lgamma(count + r)
        - r * (log_dispersion - log_total) - count * (log_mean - log_total)
    )  # fmt: skip


def lognormal_mixture_nll(
    value: Float[Tensor, "..."],
    log_weight: Float[Tensor, "... m"],
    location: Float[Tensor, "... m"],
    scale: Float[Tensor, "... m"],
) -> Float[Tensor, "..."]:
    """A mixture of lognormals at positive values (ZILN of arXiv 1912.07753, several components)."""
    log_value = value.log()[..., None]
    z = (log_value - location) / scale
    log_density = -0.5 * z**2 - scale.log() - 0.5 * math.log(2 * math.pi) - log_value
    return -torch.logsumexp(log_weight + log_density, dim=-1)


def item_loss(
    model: Model,
    vectors: Float[Tensor, "v d"],
    states: Float[Tensor, "n d"],
    row: Int[Tensor, " p"],                # in ascending order
    item: Int[Tensor, " p"],
    *,
    query: bool,
) -> Float[Tensor, ""]:
    """Softmax over the catalogue, in large ones over a sample; a row's items share weight one.

    Of more than `item_rows` rows a random choice is scored: the softmax is the dearest step.
    """
    if not len(row):
        return states.sum() * 0.0
    rows, sizes = torch.unique_consecutive(row, return_counts=True)
    place = torch.repeat_interleave(sizes)                                 # (P,) row of each pair
    most = model.config.item_rows
    if len(rows) > most:
        # in their order, so that pairs stay ascending by row
        drawn = torch.randperm(len(rows), device=rows.device)[:most].sort().values
        renumbered = torch.full((len(rows),), -1, device=rows.device)
        renumbered[drawn] = torch.arange(most, device=rows.device)
        rows, sizes, place = rows[drawn], sizes[drawn], renumbered[place]
        item, place = item[place >= 0], place[place >= 0]
    asked, items = model.item_match(states[rows], vectors, query=query)    # (N, D), (V, D)
    weight = 1.0 / sizes[place] / len(rows)                                # (P,)
    pairs = (asked, items, _bias(model, item), place, item, weight)
    if len(items) <= model.config.exact_items:
        return catalogue_loss(*pairs)
    drawn = torch.randint(len(items), (SAMPLED_ITEMS,), device=items.device)
    return sampled_loss(*pairs, drawn)


def _bias(model: Model, item: Tensor) -> Float[Tensor, " v"]:
    """The items' biases; of those nobody ordered so low that they compete with none, if told so.

    Where they compete, training can only teach that what is new is unlikely.
    """
    bias = model.items.bias[1:]
    if model.config.unseen_compete:
        return bias
    unseen = model.items.gate[1:, 0] == 0
    unseen[item] = False                   # what is aimed at counts, whatever is known of it
    return bias.masked_fill(unseen, NO_RIVAL)


def kind_loss(model: Model, inputs: Inputs, events: Tensor) -> Float[Tensor, ""]:
    """Cross-entropy of the next event's kind, where one followed."""
    logits = model.next_kind(events).flatten(0, 1)
    nll = functional.cross_entropy(logits, inputs.next_kind.flatten(), reduction="none")
    return mean_over(nll.view_as(inputs.next_gap_days), inputs.followed)


def mean_over(values: Float[Tensor, "..."], mask: Bool[Tensor, "..."]) -> Float[Tensor, ""]:
    """Mean where the mask holds; zero where it holds nowhere."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)


# the softmax over a catalogue


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
