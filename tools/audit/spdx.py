"""Licence expressions as packages state them."""

import re


def accepted(expression: str, allowed: set[str]) -> set[str] | None:
    """The allowed licences that the expression asks for, or None if they do not suffice.

    A slash, as older packages write, means OR. AND binds more than OR.
    """
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    used, rest = _any_of(tokens, allowed)
    if rest:
        raise ValueError(f"`{expression}` is no licence expression")
    return used


def _any_of(tokens, allowed):
    used, tokens = _all_of(tokens, allowed)
    while tokens and tokens[0] == "OR":
        other, tokens = _all_of(tokens[1:], allowed)
        used = other if used is None else used
    return used, tokens


def _all_of(tokens, allowed):
    used, tokens = _one(tokens, allowed)
    while tokens and tokens[0] == "AND":
        other, tokens = _one(tokens[1:], allowed)
        used = None if used is None or other is None else used | other
    return used, tokens


def _one(tokens, allowed):
    if not tokens or tokens[0] in ("OR", "AND", "WITH", ")"):
        raise ValueError("a licence is missing")
    if tokens[0] == "(":
        used, tokens = _any_of(tokens[1:], allowed)
        if not tokens or tokens[0] != ")":
            raise ValueError("a `)` is missing")
        return used, tokens[1:]
    name, tokens = tokens[0], tokens[1:]
    if len(tokens) > 1 and tokens[0] == "WITH":
        name, tokens = f"{name} WITH {tokens[1]}", tokens[2:]
    return ({name} if name in allowed else None), tokens
