"""How an exercise is defined, and how every answer is judged.

An exercise is data: the right answer, the trials that are run with every answer, and
the known mistakes, each with its hint and with answers that make it. An answer is right
if it has the same outcome as the right one in every trial. If it does not, the judge
looks for the mistake that has the same outcome as the answer.

    norm = exercise("0.0", right=by_row, trial=lambda answer: answer(draw(2, 5)))
    norm.mistakes |= {
        "over-all: both tokens were divided by one number: what is summed?": by_all,
        "not-squared: {got:.2f} is no length: which root of which sum?": by_sum,
    }
"""

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from .watch import Unsound, watched

Run = Callable[[Any], Any]


class NotYet(AssertionError):
    """An answer that is not right yet.

    `hint` says what was observed, `mistake` is the name of the mistake, or None if it
    is not known, `exercise` is the number of the exercise, and `section` is the section
    of the lesson to read again.
    """

    def __init__(
        self,
        hint: str,
        mistake: str | None = None,
        exercise: str = "",
        section: str = "",
    ) -> None:
        super().__init__(hint)
        self.hint, self.mistake = hint, mistake
        self.exercise, self.section = exercise, section

    def __str__(self) -> str:
        text = f"not yet, {self.exercise}: {self.hint}"
        return text + (
            f"\nTo read again: section {self.section}" if self.section else ""
        )

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True)
class Mistake:
    """A known mistake: its name, its hint, and how it is recognised.

    An answer makes it if its outcome in a trial equals that of one of `answers`, or if
    `seen`, a function of the outcome and the right one, returns True.
    """

    name: str = ""
    hint: str = ""
    answers: tuple[Any, ...] = ()
    seen: Callable[[Any, Any], bool] | None = None


def answers(*answers: Any, seen: Callable[[Any, Any], bool] | None = None) -> Mistake:
    """Several answers that make one mistake, or a function `seen` that spots it."""
    return Mistake(answers=answers, seen=seen)


@dataclass(frozen=True)
class Trial:
    """A function that is run with every answer; its result is the outcome.

    `what` names a trial that even a mostly right answer may fail. If the outcome is
    wrong and no known mistake has it, the judge shows `hint`, which is a text or the
    name of a mistake.
    """

    run: Run
    what: str = ""
    hint: str = ""


@dataclass
class Judge:
    """An exercise; its parts are those of `exercise`, which explains them."""

    right: Any
    trials: Sequence[Trial]
    measures: Mapping[str, Callable[[Any, Any], Any]]
    shape: str
    otherwise: str
    tolerance: Mapping[str, float]
    mistakes: dict[str, Any] = field(default_factory=dict)

    def known(self) -> dict[str, Mistake]:
        """The known mistakes by their names."""
        known = {}
        for key, made in self.mistakes.items():
            name, _, hint = key.partition(": ")
            mistake = made if isinstance(made, Mistake) else answers(made)
            known[name] = replace(mistake, name=name, hint=hint)
        return known

    def __call__(self, answer: Any) -> None:
        """Raise NotYet, or the answer's own error, unless the answer is right."""
        answer = self.asked(answer)
        tried, rights = watched(answer), list[Any]()
        for trial in self.trials:
            got, right = outcome(trial, tried), outcome(trial, self.right)
            if isinstance(got, NotYet):
                raise got
            if isinstance(right, Exception):
                well = isinstance(got, type(right))
            else:
                well = self.same(got, right)
            if not well:
                found = self.recognise(tried, got, right, rights)
                hint = found.hint or self.observed(trial, got, right)
                facts = Facts(self.measures, answer=answer, got=got, right=right)
                raise NotYet(hint.format_map(facts), found.name or None)
            rights.append(right)

    def asked(self, answer: Any) -> Any:
        """Return an answer in the form that the exercise asks for."""
        if callable(self.right):
            return answer
        answer, several = plain(answer), isinstance(self.right, tuple)
        if not several and not isinstance(self.right, int | float):
            return answer
        values = tuple(answer.values()) if isinstance(answer, dict) else answer
        values = tuple(values) if isinstance(values, list | tuple) else (values,)
        count = len(self.right) if several else 1
        asked = "one value is" if count == 1 else f"{count} values are"
        hint = f"{answer!r} cannot be read as an answer: {asked} asked for"
        expect(len(values) == count, hint)
        return values if several else values[0]

    def same(self, got: Any, other: Any) -> bool:
        return same(got, other, **self.tolerance)

    def recognise(self, answer: Any, got: Any, right: Any, rights: list) -> Mistake:
        """The mistake that has the same outcome here and in most of the later trials.

        The answer was right in the trials before, with the outcomes `rights`, so the
        mistake must be right there, too. If no mistake fits, the hint of the trial is
        returned, or a mistake without a name.
        """
        trial, later = self.trials[len(rights)], self.trials[len(rights) + 1 :]
        mistakes, best, found = self.known(), 0, Mistake()
        if isinstance(right, Exception) or not unlike(got, right):
            found = mistakes.get(trial.hint, Mistake(hint=trial.hint))
        outcomes = [outcome(each, answer) for each in later]

        def agreement(other: Any) -> int:
            """In how many trials from here on another answer has the same outcome."""
            if not self.same(got, outcome(trial, other)):
                return 0
            for each, before in zip(self.trials, rights, strict=False):
                if not self.same(outcome(each, other), before):
                    return 0
            pairs = zip(later, outcomes, strict=True)
            return 1 + sum(self.same(mine, outcome(t, other)) for t, mine in pairs)

        for known in mistakes.values():
            agreed = max(map(agreement, map(watched, known.answers)), default=0)
            if known.seen and not agreed:
                with suppress(Exception):  # a failure of `seen` means no
                    agreed = int(bool(known.seen(got, right)))
            if agreed > best:
                best, found = agreed, known
        return found

    def observed(self, trial: Trial, got: Any, right: Any) -> str:
        """Describe a wrong outcome that no known mistake explains."""
        what, said = trial.what, f"{type(got).__name__}: {got}"
        if isinstance(right, Exception):
            seen = f"got {said}" if isinstance(got, Exception) else "nothing was raised"
            return literal(f"{what} should raise {type(right).__name__}: {seen}")
        if isinstance(got, Exception) and not what:
            raise got
        if isinstance(got, Unsound):
            return literal(f"right so far, but not for {what}: {got}")
        if isinstance(got, Exception):
            return literal(f"right so far, but {what} raised {said}")
        off = "differs from the right answer by up to {off:.2g}"
        by_default = off if isinstance(right, Tensor) else "expected {right}, got {got}"
        said = self.shape if unlike(got, right) else self.otherwise or by_default
        return literal(f"right so far, but with {what}: ") + said if what else said


def unlike(got: Any, right: Any) -> bool:
    """Whether an outcome is an error or does not have the right shape."""
    if isinstance(right, Tensor) and not isinstance(got, Exception):
        if not isinstance(got, Tensor):
            raise TypeError(f"expected a tensor, got {type(got).__name__}")
        return got.shape != right.shape
    return isinstance(got, Exception)


def literal(text: str) -> str:
    """Escape the braces in a text, so that nothing is filled in."""
    return text.replace("{", "{{").replace("}", "}}")


class Facts(dict):
    """The values that a hint may contain; a measure is computed when it is used."""

    def __init__(self, measures: Mapping[str, Callable], **values: Any) -> None:
        super().__init__({name: shown(value) for name, value in values.items()})
        self.measures, self.pair = measures, (values["got"], values["right"])

    def __missing__(self, name: str) -> Any:
        if name == "off":
            got, right = (torch.as_tensor(part).double() for part in self.pair)
            return (got - right).abs().max().item()
        return self.measures[name](*self.pair)


def shown(value: Any) -> Any:
    """A value as a hint shows it; for a tensor with axes, its shape."""
    if isinstance(value, Tensor):
        return tuple(value.shape) if value.ndim else value.item()
    return value


JUDGES: dict[str, Judge] = {}


def exercise(
    number: str,
    *,
    right: Any,
    trial: Run | Sequence[Run] | Mapping[str, Run] | None = None,
    also: Mapping[str, Run] | None = None,
    measures: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    shape: str = "expected shape {right}, got {got}",
    otherwise: str = "",
    **tolerance: float,
) -> Judge:
    """Define an exercise; its mistakes are added to the judge that is returned.

    `mistakes` of the judge is a table from "name: hint" to an answer that makes the
    mistake, or to `answers`. A hint may contain measured values: `{got}` and `{right}`
    are the outcomes (for a tensor, its shape), `{off}` is the largest difference
    between them, `{answer}` is the answer itself, and any other name is one of
    `measures`. For a name without a hint, the judge describes what it observed.

    `right` is the right answer. `trial` is one function that is run with an answer, or
    several; each returns an outcome, which is a tensor or plain Python values. By
    default the answer is its own outcome, element by element if `right` is a tuple. If
    `trial` is a mapping, its keys are shown if an outcome is wrong: each is a hint or
    the name of a mistake.

    `also` has further trials, which even a mostly right answer may fail; their names
    complete the sentence "right so far, but with ...". If the right answer raises an
    error in a trial, any answer must raise this type of error; the name of the trial
    completes "... should raise ValueError".

    `measures` are numbers for the hints, as functions of the outcome and the right one.
    `shape` is the hint for a tensor of the wrong shape, `otherwise` for any other
    difference; by default it says how far numbers are off, or shows both values.
    `rtol` and `atol` are the tolerances for equal outcomes.
    """
    if trial is None:
        several = isinstance(right, tuple)
        trial = [element(i) for i in range(len(right))] if several else itself
    if isinstance(trial, Mapping):
        trials = [Trial(run, hint=hint) for hint, run in trial.items()]
    else:
        trials = [Trial(run) for run in ([trial] if callable(trial) else trial)]
    trials += [Trial(run, what) for what, run in (also or {}).items()]
    JUDGES[number] = Judge(right, trials, measures or {}, shape, otherwise, tolerance)
    return JUDGES[number]


def choose(number: str, right: str) -> Judge:
    """Define an exercise whose answer is one of several letters."""

    def letter(answer: Any) -> str:
        *first, last = sorted([right, *judge.mistakes.values()])
        said = re.findall(r"\b[A-Z]\b", str(answer).upper())
        fits = len(said) == 1 and said[0] in (*first, last)
        expect(fits, f"answer {', '.join(first)} or {last}, got {answer!r}")
        return said[0]

    judge = exercise(number, right=right, trial=letter)
    return judge


def expect(fact: object, hint: str, mistake: str | None = None) -> None:
    """Raise NotYet with the hint unless the fact holds."""
    if not fact:
        raise NotYet(hint, mistake)


def outcome(trial: Trial, answer: Any) -> Any:
    """Run a trial; returns its outcome, which may be the error that it raises.

    The seed is one that `draw` does not use, so that the answer does not draw the same
    numbers again.
    """
    torch.manual_seed(1000)
    with torch.enable_grad():  # even if an answer has switched it off
        try:
            return trial.run(answer)
        except Exception as error:
            return error


def itself(answer: Any) -> Any:
    return answer


def element(index: int) -> Callable[[Any], Any]:
    """The trial that looks at one of several values."""
    return lambda answer: answer[index]


def plain(value: Any) -> Any:
    """Turn a value into plain Python: arrays and tensors to lists, texts to values."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set):
        return type(value)(map(plain, value))
    if isinstance(value, str):
        with suppress(ValueError, SyntaxError):  # a word stays a word
            return ast.literal_eval(value.strip())
    return value.tolist() if hasattr(value, "tolist") else value


def words(answer: Any) -> list[str]:
    """The names in an answer, which is one text or any collection of them."""
    if isinstance(answer, dict):
        answer = [name for name, chosen in answer.items() if chosen is not False]
    text = answer if isinstance(answer, str) else " ".join(map(str, answer))
    return [word for word in re.findall(r"\w+", text.lower()) if word != "and"]


def by_letter(answer: Any, letters: str) -> dict[str, Any]:
    """Answers to several questions: a dict or pairs, or the answers in their order."""
    if isinstance(answer, Tensor):
        answer = answer.tolist()
    pairs = list(answer.items() if isinstance(answer, Mapping) else answer)
    if not all(isinstance(pair, list | tuple) for pair in pairs):
        pairs = list(zip(letters, pairs, strict=False))
    said = {str(letter).strip().upper(): value for letter, value in pairs}
    questions = ", ".join(letters)
    expect(said.keys() == set(letters), f"answer each of {questions}, got {answer}")
    return said


def same(
    got: Any, other: Any, rtol: float | None = None, atol: float | None = None
) -> bool:
    """Whether two outcomes are equal up to rounding.

    Tensors must have the same shape; errors must have the same type and, except for
    numbers, the same text.
    """
    if isinstance(got, Exception) or isinstance(other, Exception):
        return type(got) is type(other) and unnumbered(got) == unnumbered(other)
    if isinstance(got, Tensor) and isinstance(other, Tensor):
        if got.shape != other.shape:
            return False
        small = 1e-9 if other.dtype == torch.float64 else 1e-5
        rtol, atol = (small if tol is None else tol for tol in (rtol, atol))
        got, other = got.detach().double(), other.detach().double()
        return torch.allclose(got, other, rtol, atol, equal_nan=True)
    if isinstance(got, Tensor) and got.numel() == 1:
        got = got.item()
    if isinstance(got, dict) and isinstance(other, dict):
        return got.keys() == other.keys() and all(
            same(got[key], other[key], rtol, atol) for key in other
        )
    if isinstance(got, list | tuple) and isinstance(other, list | tuple):
        return len(got) == len(other) and all(
            same(one, two, rtol, atol) for one, two in zip(got, other, strict=True)
        )
    if isinstance(got, Real) and isinstance(other, Real):  # numpy's numbers, too
        return math.isclose(got, other, rel_tol=rtol or 1e-9, abs_tol=atol or 1e-12)
    return type(got) is type(other) and got == other


def unnumbered(error: Exception) -> str:
    return re.sub(r"\d+", "", str(error))


def backward(call: Callable[..., Tensor], *given: Tensor) -> dict[str, Run]:
    """A further trial: the gradients of the tensors in `call(answer, *given)`."""

    def run(answer: Any) -> Tensor:
        leaves = [tensor.clone().requires_grad_() for tensor in given]
        call(answer, *leaves).square().sum().backward()
        found = [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]
        return torch.cat([gradient.flatten() for gradient in found])

    return {"what `backward` carries back to the input": run}


def elsewhere(call: Callable[..., Tensor], *given: Tensor) -> dict[str, Run]:
    """A further trial: the device of the result, if the tensors are not on the CPU."""

    def run(answer: Any) -> str:
        return str(call(answer, *[tensor.to("meta") for tensor in given]).device)

    what = "tensors on another device (here meta: are your new tensors there, too?)"
    return {what: run}


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal random numbers of this shape, always the same for one seed."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64).to(dtype)
