"""What figures are drawn from: one study, or several to compare, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from jhpo.errors import InvalidArgument, invalid
from jhpo.report.trials import Trials


class HasTrials(Protocol):
    """A `jhpo.Study`, or what else has trials."""

    @property
    def trials(self) -> Trials:
        """Their columns."""
        ...


Runs = HasTrials | Trials | Sequence[HasTrials | Trials]  # one study, or repetitions of it
Studies = Runs | Mapping[str, Runs]  # or some to compare, by name


class Group(NamedTuple):
    """Studies with one name: a search, or repetitions of it with different seeds."""

    name: str
    runs: list[Trials]

    @property
    def trials(self) -> Trials:
        """The first of them."""
        return self.runs[0]


def trials_of(study: object) -> Trials:
    """The columns of a study (anything with `trials`) as they are now, or of columns themselves.

    Raises:
      InvalidArgument: something else.
    """
    found = getattr(study, "trials", study)
    if not isinstance(found, Trials):
        raise invalid("studies", "a jhpo.Study, a list of them, or a dict of them by name", study)
    return found.still()


def groups_of(studies: Studies) -> list[Group]:
    """Studies by name: one study, a list, or a dict whose values are studies or lists of repetitions.

    Raises:
      InvalidArgument: something else, or studies with different directions or objectives.

    >>> import jhpo
    >>> study = jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), "random")
    >>> [group.name for group in groups_of([study, study])], [len(g.runs) for g in groups_of({"a": [study, study]})]
    (['study 1', 'study 2'], [2])
    """
    named: dict[str, object]
    if isinstance(studies, Mapping):
        named = {str(name): each for name, each in studies.items()}
    elif isinstance(studies, Sequence) and not isinstance(studies, (str, Trials)):
        named = {f"study {k + 1}": each for k, each in enumerate(studies)}
    else:
        named = {"": studies}
    found = []
    for name, each in named.items():
        if isinstance(each, Sequence) and not isinstance(each, (str, Trials)):
            runs = [trials_of(one) for one in each]
        else:
            runs = [trials_of(each)]
        if not runs:
            raise invalid("studies", f"at least one study of {name!r}", each)
        found.append(Group(name, runs))
    if not found:
        raise invalid("studies", "at least one study", studies)
    runs = [run for group in found for run in group.runs]
    if len(ways := {run.directions for run in runs}) > 1:
        raise InvalidArgument(f"studies: expected all with the same directions, got {sorted(map(list, ways))}")
    named_by = {run.objectives.names for run in runs if run.objectives is not None} - {None}
    if len(named_by) > 1:
        got = sorted(map(list, filter(None, named_by)))
        raise InvalidArgument(f"studies: expected the same objectives in the same order, got {got}")
    return found


def runs_of(studies: Studies) -> list[tuple[str, Trials]]:
    """Every study with its name; repetitions are numbered."""
    named = []
    for group in groups_of(studies):
        several = len(group.runs) > 1
        named += [(f"{group.name} {k + 1}" if several else group.name, run) for k, run in enumerate(group.runs)]
    return named
