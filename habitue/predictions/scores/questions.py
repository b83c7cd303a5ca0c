"""What every version of a model answers about a customer, by name. Loads nothing."""

from typing import Literal, TypeAlias, get_args

Explained: TypeAlias = Literal["order", "churn", "orders", "revenue"]
Question: TypeAlias = Literal[Explained, "next_order"]     # why a date is what it is is not told

EXPLAINED: tuple[Explained, ...] = get_args(Explained)
QUESTIONS: tuple[Question, ...] = get_args(Question)
