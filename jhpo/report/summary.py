"""A study in a few sentences: how sure its best value is, what mattered, what to try next."""

from __future__ import annotations

import numpy as np

from jhpo.errors import JhpoError
from jhpo.objectives import knee
from jhpo.report.importance import FEWEST, importance_with_errors
from jhpo.report.spent import where_time_went
from jhpo.report.trials import Trials, best_so_far, measured
from jhpo.space.cells import index_of
from jhpo.space.host_rows import active_rows
from jhpo.space.parameters import Float, Int
from jhpo.trial import TrialState
from jhpo.words.markup import counted

_EDGE = 0.05  # share of a scale that counts as its end
_LATE = 0.8  # of the trials: an improvement after it is a late one


def sentences(trials: Trials) -> list[str]:
    """The study in words, most important first."""
    if not len(trials.table.successes()):
        return [f"No trial has succeeded yet{trials.why_beside_failures()}."] + failed(trials)
    if trials.objectives is not None:
        return [*_front(trials), *failed(trials), *time_spent(trials)]
    return [
        _best(trials),
        *_certainty(trials),
        *_progress(trials),
        *mattered(trials),
        *edges(trials),
        *failed(trials),
        *time_spent(trials),
    ]


def _best(trials: Trials) -> str:
    ids = trials.table.ranked(trials.sign)
    value = trials.table.value.array[ids]
    text = f"The best of {len(ids):,} successful trials is {value[0]:.6g} (trial {ids[0]})."
    if len(ids) >= FEWEST:
        text += f" The median trial has {np.median(value):.4g}, the best tenth {value[len(ids) // 10]:.4g} or better."
    return text


def _certainty(trials: Trials) -> list[str]:
    """How far the best value can be trusted."""
    ids = trials.table.ranked(trials.sign)
    variance = trials.table.extra.get("variance")
    if variance is not None and np.isfinite(variance.array[ids[0]]):
        error = float(np.sqrt(variance.array[ids[0]]))
        value = trials.sign * trials.table.value.array[ids]
        near = int((value <= value[0] + 2 * error).sum()) - 1
        rivals = (
            "no other trial comes"
            if near == 0
            else f"{near} other trial{'s' if near > 1 else ''} come{'' if near > 1 else 's'}"
        )
        return [f"Its standard error over the replicates is {error:.2g}; {rivals} within two of them."]
    if len(ids) < FEWEST:
        return []
    return [
        "Each trial was evaluated once. If the objective is random, the best of many values is too good by chance: "
        "evaluate the best few again with other seeds before you rely on the number."
    ]


def _progress(trials: Trials) -> list[str]:
    """Whether more trials may help."""
    best = best_so_far(trials)
    there = np.flatnonzero(np.isfinite(best))
    if len(there) < 2 * FEWEST or trials.table.generation.array.max() < 2 or len(measured(trials)[0]):
        return []
    last = int(there[0] + np.argmax(best[there[0] :] == best[-1]))
    share = (last + 1) / len(best)
    found = f"It was found at trial {last + 1:,} of {len(best):,}"
    if share > _LATE:
        return [f"{found}, so the search was still improving: a larger budget may find more."]
    return [f"{found}; the {counted(len(best) - last - 1, 'trial')} since then found nothing better."]


def mattered(trials: Trials) -> list[str]:
    """Which parameters set the best trials apart."""
    try:
        found = importance_with_errors(trials)
    except JhpoError:
        return []
    clear = [
        (n, s)
        for n, s in sorted(found.items(), key=lambda item: -item[1].share)
        if s.share > 2 * s.error and s.share > 0.1
    ]
    if not clear:
        return ["No parameter clearly sets the best tenth of the trials apart from the others."]
    texts = [f"{name} ({s.share:.0%} ± {s.error:.0%})" for name, s in clear[:3]]
    return [f"What sets the best tenth of the trials apart most: {', '.join(texts)}."]


def edges(trials: Trials) -> list[str]:
    """Parameters whose best values lie at the end of their range, which may be too narrow."""
    ids = trials.table.ranked(trials.sign)
    if len(ids) < 5 * FEWEST:
        return []
    top = ids[: max(len(ids) // 20, 5)]
    units = trials.table.unit.array[top]
    out = []
    for name, parameter, where, on in zip(
        trials.space.names, trials.space.parameters, trials.space.slices, active_rows(trials.space, units)
    ):
        if not isinstance(parameter, Float | Int) or parameter.shape or on.sum() < 5:
            continue
        place = units[on, where.start]
        below, above = place < _EDGE, place > 1 - _EDGE
        if parameter.cells > 2:  # of few values, the first and the last are wider than that
            index = index_of(parameter, place, np)
            below, above = below | (index == 0), above | (index == parameter.cells - 1)
        for near, bound, word in ((below, parameter.low, "lower"), (above, parameter.high, "upper")):
            if near.mean() > 0.5:
                out.append(
                    f"The best values of {name} lie at its {word} bound, {bound:g}: widen the range, if it can be."
                )
    return out


def failed(trials: Trials) -> list[str]:
    """How many trials failed."""
    count, size = len(trials.table.in_state(TrialState.FAILED)), trials.table.size
    return [f"{count:,} of {size:,} trials failed ({count / size:.0%}); the reasons are below."] if count else []


def _front(trials: Trials) -> list[str]:
    assert trials.objectives is not None
    found = trials.front()
    values = trials.table.extra["values"].array[found]
    spans = ", ".join(f"{n} from {v.min():.4g} to {v.max():.4g}" for n, v in zip(trials.labels, values.T) if len(v))
    if not len(found):
        return [f"None of {len(trials.table.successes()):,} successful trials is feasible."]
    middle, newest, size = found[knee(trials.minimised(found))], int(found.max()) + 1, trials.table.size
    balance = ", ".join(f"{n} {v:.4g}" for n, v in zip(trials.labels, trials.table.extra["values"].array[middle]))
    late = newest > _LATE * size
    return [
        f"{len(found):,} of {len(trials.table.successes()):,} successful trials are on the front: {spans}.",
        f"Its knee, which balances the objectives, is trial {middle}: {balance}.",
        f"The last trial that joined the front was number {newest:,} of {size:,}"
        + (", so a larger budget may find more." if late else f"; the {size - newest:,} since then did not change it."),
    ]


def time_spent(trials: Trials) -> list[str]:
    """How long the calls of `optimize` took, and for what."""
    spent = where_time_went(trials)
    total = sum(spent.values())
    if total <= 0:
        return []
    shares = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in spent.items())
    return [f"The calls of optimize took {total:.3g} s: {shares}."]
