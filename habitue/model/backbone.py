"""The model, top to bottom: items, tokens, attention, heads.

    lines ─> item tower ─┐
    events ─────────────┴─> event tokens ─┐
    query columns ────────> query tokens ─┴─> transformer ─> query state ─> hazards, orders, spend
                                                          └> event state ─> next item, next event

A query sees every event up to its instant and nothing sees a query, so asking changes nothing and
serving is training. Events of one instant do not see each other.
"""

# B chunks · T events · K queries · S = T + K tokens · D width · N heads · L lines
# V items · A query columns · H hazard bins · M spend components · G n-grams
import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from habitue.config import TrainConfig
from habitue.model.inputs import Inputs, Vocabulary

TIME_BUCKETS = 24                          # of the logarithm of a distance in time, 1 min to 4 y
SPEND_COMPONENTS = 3
TEXT_DIRECTIONS = 128                      # of sentence vectors that are read
TEXT_NOISE = 0.3                           # of their mean spread, added before it is made equal
MAX_LOG_RATE_SHIFT = 4.0                   # of a hazard from its prior: a factor of 55
Turns = tuple[Float[Tensor, "b s e"], Float[Tensor, "b s e"]]    # cosines and sines


class Model(nn.Module):
    """Reads batches of one shop; `vocabulary` says which kinds and items its rows stand for."""

    def __init__(self, config: TrainConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config = config
        self.kinds = vocabulary.kinds
        width = config.width
        self.items = ItemTower(config, vocabulary)
        self.kind = nn.Embedding(len(vocabulary.kinds) + 2, width, padding_idx=0)
        self.event_columns = small_net(vocabulary.event_columns, width, width)
        self.line_columns = nn.Linear(vocabulary.line_columns, width)
        self.line_weight = nn.Linear(width, 1)
        self.line_out = nn.Linear(width, width)
        self.query_encoding = QuantileEncoding(vocabulary.query_edges)
        self.query_columns = small_net(self.query_encoding.outputs, 2 * width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(width)
        self.next_item = nn.Linear(width, width)
        self.query_item = nn.Linear(width, width)
        self.next_kind = nn.Linear(width, len(vocabulary.kinds) + 2)
        self.next_gap = nn.Linear(width, vocabulary.bins)
        self.hazard = nn.Linear(width, vocabulary.bins)
        self.orders = HorizonHead(width, 2)
        self.spend = HorizonHead(width, 3 * SPEND_COMPONENTS)
        self.shop = small_net(vocabulary.shop_columns, width, width)
        initialise(self)

    def forward(
        self, inputs: Inputs, vectors: Float[Tensor, "v d"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b k d"]]:
        """States of events and of queries; `vectors` are those of the item tower."""
        x = torch.cat([self.events(inputs, vectors), self.queries(inputs)], dim=1)    # (B, S, D)
        x = self.dropout(x)
        bucket, seen = distances(inputs)                                   # (B, S, S)
        turn = turns(positions(inputs), self.config.width // self.config.heads)
        for block in self.blocks:
            x = block(x, bucket, seen, turn)
        x = self.norm(x)
        events = inputs.kind.shape[1]
        return x[:, :events], x[:, events:]

    def events(self, inputs: Inputs, vectors: Tensor) -> Float[Tensor, "b t d"]:
        """One token per event; an order is the weighted mean of its lines, an attention of one."""
        tokens = self.kind(inputs.kind) + self.event_columns(inputs.columns)
        flat = tokens.flatten(0, 1)                                        # (B * T, D)
        lines = vectors[inputs.line_item] + self.line_columns(inputs.line_columns)    # (L, D)
        weight = self.line_weight(lines).float().clamp(-10, 10).exp()      # (L, 1)
        total = flat.new_zeros(len(flat), 1).index_add(0, inputs.line_event, weight)
        pooled = torch.zeros_like(flat).index_add(0, inputs.line_event, weight * lines)
        return (flat + self.line_out(pooled / total.clamp_min(1e-9))).view_as(tokens)

    def queries(self, inputs: Inputs) -> Float[Tensor, "b k d"]:
        """One token per query: what is known of the customer as numbers, and of the shop.

        Some queries do without the shop, so that none leans on it; one shop alone has no other to
        differ from.
        """
        tokens = self.query_columns(self.query_encoding(inputs.query_columns))
        shop = self.shop(inputs.shop_columns)                              # (B, K, D)
        if self.config.shop_dropout >= 1:
            return tokens + 0.0 * shop
        if self.training:
            shop = shop * (torch.rand_like(shop[..., :1]) >= self.config.shop_dropout)
        return tokens + shop

    def log_rates(
        self, state: Float[Tensor, "b k d"], log_prior: Float[Tensor, "b k h"]
    ) -> Float[Tensor, "b k h"]:
        """Log hazard of the next order, per day, within each bin: a shift of the prior's."""
        shift = MAX_LOG_RATE_SHIFT * torch.tanh(self.hazard(state) / MAX_LOG_RATE_SHIFT)
        return log_prior + shift

    def order_counts(
        self,
        state: Float[Tensor, "b k d"],
        log_expected: Float[Tensor, "b k"],
        horizon_days: Float[Tensor, "b k"],
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        """Log mean and log dispersion of the negative binomial number of orders in a horizon."""
        shift, log_dispersion = self.orders(state, horizon_days).unbind(-1)
        mean = log_expected + MAX_LOG_RATE_SHIFT * torch.tanh(shift / MAX_LOG_RATE_SHIFT)
        return mean, log_dispersion.clamp(-4, 4)

    def spend_given_order(
        self,
        state: Float[Tensor, "b k d"],
        log_prior_spend: Float[Tensor, "b k"],
        horizon_days: Float[Tensor, "b k"],
    ) -> tuple[Float[Tensor, "b k m"], Float[Tensor, "b k m"], Float[Tensor, "b k m"]]:
        """Log weights, locations and scales of a lognormal mixture of positive spend."""
        logits, shift, raw = self.spend(state, horizon_days).chunk(3, dim=-1)
        start = torch.linspace(-0.8, 0.5, SPEND_COMPONENTS, device=state.device)
        location = log_prior_spend[..., None] + start + shift
        scale = 0.1 + 1.1 * torch.sigmoid(raw)          # capped: exp(s^2 / 2) stays a mean
        return functional.log_softmax(logits, dim=-1), location, scale

    def item_scores(
        self, state: Float[Tensor, "n d"], vectors: Float[Tensor, "v d"], *, query: bool
    ) -> Float[Tensor, "n w"]:
        """Logits over the shop's items (the unknown one left out), from query or event states."""
        asked, items = self.item_match(state, vectors, query=query)
        return asked @ items.T + self.items.biases()

    def item_match(
        self, state: Float[Tensor, "n d"], vectors: Float[Tensor, "v d"], *, query: bool
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "w d"]]:
        """What is asked for and the shop's items, such that the scores are their dot products."""
        asked = (self.query_item if query else self.next_item)(state)
        temperature = self.config.item_temperature
        if temperature > 0:
            unit = functional.normalize(vectors[1:], dim=-1)
            return functional.normalize(asked, dim=-1) / temperature, unit
        return asked / math.sqrt(self.config.width), vectors[1:]


class ItemTower(nn.Module):
    """An item is its content, plus a residual of its own that grows with its evidence.

    Row 0 stands for an item that the model has never seen.
    """

    ngram: Tensor                          # (G,)
    ngram_offset: Tensor                   # (V + 1,)
    gate: Tensor                           # (V + 1, 1) share of the residual

    def __init__(self, config: TrainConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        count = vocabulary.items + 1
        self.drop, self.unseen_compete = config.item_dropout, config.unseen_compete
        self.content = nn.EmbeddingBag(config.text_buckets, config.width, mode="mean")
        self.adapter = small_net(config.width, config.width, config.width)
        self.residual = nn.Embedding(count, config.width)
        self.bias = nn.Parameter(torch.zeros(count))
        self.register_buffer("ngram", vocabulary.ngram, persistent=False)
        self.register_buffer("ngram_offset", vocabulary.ngram_offset, persistent=False)
        # n / (n + k): an item ordered k times is half its own
        gate = vocabulary.evidence / (vocabulary.evidence + config.item_trust)
        self.register_buffer("gate", gate[:, None], persistent=False)
        self.text = None if vocabulary.text is None else TextAdapter(vocabulary.text, config.width)
        self.frozen: Tensor | None = None  # the vectors, where they stay as they are

    def vectors(self) -> Float[Tensor, "v d"]:
        """(V + 1, D) every item's vector, the unknown one first."""
        if self.frozen is not None and not self.training:
            return self.frozen
        if len(self.ngram):
            content = self.adapter(self.content(self.ngram, self.ngram_offset))
        else:
            # where nothing is written of any item, the content of all is the same
            content = self.adapter(self.content.weight.new_zeros(1, self.content.embedding_dim))
        if self.text is not None:
            content = content + self.text()
        gate = self.gate
        if self.training and self.drop > 0:
            gate = gate * (torch.rand_like(gate) >= self.drop)
        return content + gate * self.residual.weight

    def freeze(self) -> None:
        """Work the vectors out once, for a model that is asked often and trained no more."""
        training, self.frozen = self.training, None
        self.eval()
        with torch.no_grad():
            self.frozen = self.vectors()
        self.train(training)

    def biases(self) -> Float[Tensor, " w"]:
        """(V,) every item's bias; one that nobody ordered, if it never competed, has the mean."""
        bias, seen = self.bias[1:], self.gate[1:, 0] > 0
        if self.unseen_compete or not seen.any():
            return bias
        return torch.where(seen, bias, bias[seen].mean())


class TextAdapter(nn.Module):
    """Sentence vectors of the items, which stay as they are, and the map that is learnt of them.

    Whitened over the items that were trained with: in a sentence encoder's own space all of a shop
    lies close together (Hou et al. 2022, UniSRec).
    """

    vectors: Tensor                        # (V + 1, W)
    mean: Tensor                           # (W,)
    turn: Tensor                           # (W, P)

    def __init__(self, vectors: Float[Tensor, "v w"], width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors, persistent=False)
        mean, turn = whitening(vectors)
        self.register_buffer("mean", mean)
        self.register_buffer("turn", turn)
        self.out = nn.Linear(turn.shape[1], width)

    def forward(self) -> Float[Tensor, "v d"]:
        """What the texts say of every item; nothing where there is no text."""
        written = self.vectors.any(dim=-1, keepdim=True)                   # (V + 1, 1)
        return written * self.out(self.whitened())

    def whitened(self) -> Float[Tensor, "v p"]:
        """The vectors, about as wide in every direction."""
        return (self.vectors - self.mean) @ self.turn


class Block(nn.Module):
    """Pre-norm attention with a bias per head for the distance in time, then a gated net."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm_1 = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.time_bias = nn.Embedding(TIME_BUCKETS, config.heads)
        self.out = nn.Linear(width, width, bias=False)
        self.norm_2 = nn.RMSNorm(width)
        hidden = 8 * round(width * 8 / 3 / 8)
        self.up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "b s d"],
        bucket: Int[Tensor, "b s s"],
        seen: Bool[Tensor, "b s s"],
        turn: Turns,
    ) -> Float[Tensor, "b s d"]:
        """Each token after looking at those it has `seen`."""
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm_1(x)).view(batch, tokens, 3, self.heads, -1)
        # both turned at once: (B, S, 2 N, E), then each (B, N, S, E)
        turned = rotate(qkv[:, :, :2].flatten(2, 3), turn)
        q, k = turned.unflatten(2, (2, self.heads)).permute(2, 0, 3, 1, 4)
        bias = self.time_bias(bucket).permute(0, 3, 1, 2)                  # (B, N, S, S)
        bias = bias.masked_fill(~seen[:, None], -1e9)
        mixed = functional.scaled_dot_product_attention(
            q, k, qkv[:, :, 2].transpose(1, 2), attn_mask=bias
        )
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, tokens, width)))
        gate, value = self.up(self.norm_2(x)).chunk(2, dim=-1)
        return x + self.dropout(self.down(functional.silu(gate) * value))


class QuantileEncoding(nn.Module):
    """Each number as how far it fills each of its quantile bins (Gorishniy et al. 2022, PLE).

    What lets a net cut a column where a tree would.
    """

    edges: Tensor                          # (A, E)

    def __init__(self, edges: Float[Tensor, "a e"]) -> None:
        super().__init__()
        self.register_buffer("edges", edges)
        self.outputs = edges.shape[0] * edges.shape[1]

    def forward(self, x: Float[Tensor, "b k a"]) -> Float[Tensor, "b k c"]:
        """How far each bin is filled, and the numbers themselves."""
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        # a bin of no width is a step: filled or not
        filled = ((x[..., None] - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
        return torch.cat([filled.flatten(-2), x], dim=-1)


class HorizonHead(nn.Module):
    """A function of a state and a horizon; zero at the start, so that the prior stands alone."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width + 3, width)
        self.out = nn.Linear(width, outputs)

    def forward(
        self, state: Float[Tensor, "b k d"], horizon_days: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b k o"]:
        """The outputs at one horizon per query."""
        log_horizon = torch.log(horizon_days.clamp_min(1.0) / 90.0)
        bend = torch.stack([log_horizon, log_horizon**2 / 4, torch.sin(log_horizon)], dim=-1)
        return self.out(functional.silu(self.hidden(torch.cat([state, bend], dim=-1))))


def small_net(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two layers, one bend."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


def whitening(vectors: Float[Tensor, "v w"]) -> tuple[Float[Tensor, " w"], Float[Tensor, "w p"]]:
    """The mean of the texts' vectors, and a map to their leading directions at equal spread.

    Directions of little spread are raised less, for they are noise; rows of zeros are no texts.
    """
    width = vectors.shape[1]
    written = vectors[vectors.any(dim=-1)].double()
    if len(written) < 2:
        return vectors.new_zeros(width), torch.eye(width, min(width, TEXT_DIRECTIONS))
    mean = written.mean(dim=0)
    spread, turn = torch.linalg.eigh((written - mean).T @ (written - mean) / len(written))
    spread, turn = spread.flip(0)[:TEXT_DIRECTIONS], turn.flip(1)[:, :TEXT_DIRECTIONS]
    turn = turn * turn.gather(0, turn.abs().argmax(dim=0)[None]).sign()    # one sign of two
    turn = turn / (spread + TEXT_NOISE * spread.mean()).sqrt()
    return mean.float(), turn.float()


def distances(inputs: Inputs) -> tuple[Int[Tensor, "b s s"], Bool[Tensor, "b s s"]]:
    """Buckets of the logarithm of every distance in time, and who sees whom."""
    time = torch.cat([inputs.event_days, inputs.query_days], dim=1)        # (B, S) float64
    apart = (time[:, :, None] - time[:, None, :]).float()                  # (B, S, S) days
    bucket = (torch.log2(apart.clamp_min(0) * 1440 + 1) + 0.5).long().clamp(0, TIME_BUCKETS - 1)
    events = inputs.kind.shape[1]
    tokens = time.shape[1]
    is_query = torch.arange(tokens, device=time.device) >= events          # (S,)
    real = functional.pad(inputs.kind > 0, (0, tokens - events))           # (B, S) events only
    itself = torch.eye(tokens, dtype=torch.bool, device=time.device)
    before = torch.where(is_query[:, None], apart >= 0, apart > 0)
    return bucket, (before & real[:, None, :]) | itself


def positions(inputs: Inputs) -> Int[Tensor, "b s"]:
    """An event's place in its chunk; a query stands after the last event it sees."""
    batch, events = inputs.kind.shape
    place = torch.arange(events, device=inputs.kind.device).expand(batch, events)
    past = inputs.event_days[:, None, :] <= inputs.query_days[:, :, None]
    seen = (past & (inputs.kind > 0)[:, None, :]).sum(-1)                  # (B, K)
    return torch.cat([place, seen], dim=1)


def turns(position: Int[Tensor, "b s"], channels: int) -> Turns:
    """Cosine and sine by which each of so many channels turns at each position."""
    half = channels // 2
    rate = 1000.0 ** (-torch.arange(half, device=position.device) / half)
    angle = position[:, :, None] * rate                                    # (B, S, E / 2)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def rotate(x: Float[Tensor, "b s n e"], turn: Turns) -> Float[Tensor, "b s n e"]:
    """Rotary positions (Su et al. 2021, RoFormer): pairs of channels turn with the position.

    A channel's other one stands half of all channels away.
    """
    cos, sin = turn
    return x * cos[:, :, None] + x.roll(x.shape[-1] // 2, dims=-1) * sin[:, :, None]


def initialise(model: Model) -> None:
    """All weights of the model, in one place.

    Linear: normal, 1 / sqrt(inputs). Embeddings: normal .05; item residuals: .02. Residual outputs:
    divided by sqrt(2 layers). Heads, time biases and what the shop adds: zero, so that the first
    forecast is the prior.
    """
    for name, parameter in model.named_parameters():
        if "time_bias" in name or name.startswith(("hazard", "next_gap", "shop.2")):
            nn.init.zeros_(parameter)
        elif parameter.ndim >= 2:
            nn.init.normal_(parameter, std=_spread(name, parameter.shape[1]))
    depth = math.sqrt(2 * len(model.blocks))
    for module in model.modules():
        match module:
            case nn.Linear(bias=nn.Parameter()):
                nn.init.zeros_(module.bias)
            case HorizonHead():
                nn.init.zeros_(module.out.weight)
            case Block():
                module.out.weight.data /= depth
                module.down.weight.data /= depth


def _spread(name: str, inputs: int) -> float:
    """Standard deviation of a matrix's initial weights."""
    if "content" in name or name == "kind.weight":
        return 0.05
    if "residual" in name:
        return 0.02
    return inputs**-0.5
