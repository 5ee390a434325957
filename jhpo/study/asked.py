"""What `Study.ask` gives."""

from __future__ import annotations

from jhpo.trial import Trial
from jhpo.words.attributes import Advising, advice_on


class Asked(list[Trial], Advising):
    """The trials that `Study.ask` gives; what is looked for in it as in a trial is answered by how to get one."""

    def _meant(self, name: str) -> str:
        known = hasattr(Trial, name) or name in Trial.__dataclass_fields__ or advice_on(Trial, name)
        return "it is a list of trials: `for trial in study.ask(n)`, `[trial] = study.ask(1)`" if known else ""
