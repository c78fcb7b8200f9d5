"""Rules for every answer: it ends, keeps dtype and device, and spares its input."""

import ast
import ctypes
import inspect
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, ValuesView
from functools import wraps
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn


class Unsound(Exception):
    """An answer broke a rule of every exercise; the text says what was observed."""


class NoAnswer(BaseException):
    """The time is over; an `except Exception` in an answer does not catch this.

    If an answer catches it all the same, it is raised once more in the next line that
    runs, which is no longer inside the `try`.
    """

    def __init__(self) -> None:
        frame: FrameType | None = sys._getframe(1)
        while frame and frame.f_code is not in_time.__code__:
            frame.f_trace = once_more
            frame = frame.f_back
            sys.settrace(once_more)


def once_more(*_: Any) -> Any:
    raise NoAnswer


def in_time(seconds: float, judge: Callable[[Any], None], answer: Any) -> None:
    """Judge an answer, but stop its Python code after this time.

    Raises:
        NoAnswer: If the time is over.
    """
    thread, judged = ctypes.c_ulong(threading.get_ident()), list[bool]()
    turn, tracer = threading.Lock(), sys.gettrace()
    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def interrupt() -> None:
        while not judged:
            with turn:
                if not judged:
                    throw(thread, ctypes.py_object(NoAnswer))
            time.sleep(0.01)

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        try:
            judge(answer)
        finally:
            judged.append(True)  # after this, at most one NoAnswer is still under way
    finally:
        sys.settrace(tracer)
        with turn:
            pass  # it arrives here at the latest
        timer.cancel()


def tidy(answer: Any) -> Any:
    """Put words and code, in any order and container, into a tuple, words first.

    An answer without code, or a single function or class, is returned as it is.
    """
    parts = answer.values() if isinstance(answer, dict) else answer
    if isinstance(parts, list | tuple | ValuesView) and any(map(callable, parts)):
        return tuple(sorted(parts, key=callable))
    return answer


def watched(answer: Any) -> Any:
    """Wrap an answer so that `sound` checks what it receives and returns."""
    if isinstance(answer, type) and issubclass(answer, nn.Module):

        @wraps(answer, updated=())
        def build(*args: Any, **kwargs: Any) -> nn.Module:
            module = answer(*args, **kwargs)
            before: list[list[Tensor]] = []
            module.register_forward_pre_hook(
                lambda _, given: before.append(copies(given))
            )
            module.register_forward_hook(
                lambda _, given, out: sound(given, before.pop(), out)
            )
            return module

        return build
    if inspect.isfunction(answer):

        @wraps(answer)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = (*args, *kwargs.values())
            before = copies(given)
            out = answer(*args, **kwargs)
            sound(given, before, out)
            return out

        return call
    if isinstance(answer, tuple):
        return tuple(watched(part) for part in answer)
    return answer


def tensors(value: Any) -> list[Tensor]:
    """The tensors in an argument or a result, also those inside lists and tuples."""
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in tensors(part)]
    return [value] if isinstance(value, Tensor) else []


def copies(value: Any) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors(value)]


def sound(given: Any, before: list[Tensor], out: Any) -> None:
    """Raise Unsound for what is wrong in every exercise."""
    if out is None:
        raise Unsound("your answer returned nothing: is there a `return`?")
    ins, outs = tensors(given), tensors(out)
    for now, then in zip(ins, before, strict=True):
        if then.is_meta:  # there are no numbers to compare
            continue
        if not torch.equal(now.isnan(), then.isnan()) or not torch.equal(
            now.nan_to_num(), then.nan_to_num()
        ):
            now.data.copy_(then)  # the next trial needs it as it was
            raise Unsound(
                f"your answer changed its input {tuple(then.shape)}: work on a copy, or"
                " use operations that return a new tensor"
            )
    floats = {tensor.dtype for tensor in ins if tensor.is_floating_point()}
    devices = {tensor.device for tensor in ins}
    for tensor in outs:
        if len(devices) == 1 and tensor.device not in devices:
            raise Unsound(
                f"the input is on {ins[0].device}, the result on {tensor.device}: make"
                " new tensors on the device of the input"
            )
        if not tensor.is_floating_point() or tensor.is_meta:
            continue
        if len(floats) == 1 and tensor.dtype not in floats:
            raise Unsound(
                f"the input is {floats.pop()}, the result {tensor.dtype}: where was it"
                " converted?"
            )
        if tensor.isnan().any() and all(x.isfinite().all() for x in ins):
            raise Unsound(
                f"the result {tuple(tensor.shape)} contains nan, its input does not: is"
                " 0 divided by 0 somewhere?"
            )


def where(error: BaseException, answer: Any) -> str:
    """Describe an error, with the learner's own line if it was raised there."""
    said = f"{type(error).__name__}: {error}"
    if not functions(answer):
        return f"{answer!r} cannot be read as an answer ({said}): how is it asked?"
    home = functions(answer)[0].__code__.co_filename
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == home:
            return f"your answer raised {said}\n  in the line `{frame.line}`"
    if isinstance(error, TypeError) and "() " in str(error):
        return f"your answer cannot be called as the question says ({said})"
    return f"the result of your answer cannot be compared ({said})"


def functions(answer: Any) -> list[Any]:
    """The functions of an answer, and the methods of a class, without decorators."""
    if isinstance(answer, tuple):
        return [function for part in answer for function in functions(part)]
    parts = vars(answer).values() if isinstance(answer, type) else [answer]
    return [inspect.unwrap(part) for part in parts if inspect.isfunction(part)]


def blank_left(answer: Any) -> bool:
    """Whether a value that is assigned or returned is still a blank, `...`."""
    for function in functions(answer):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, SyntaxError):
            continue  # its source is not available, or begins inside a line
        for node in ast.walk(tree):
            match node:
                case ast.Assign(value=value) | ast.Return(value=value):
                    if isinstance(value, ast.Constant) and value.value is ...:
                        return True
    return False
