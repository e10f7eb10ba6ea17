"""One call of a custom module's code, with an image or latents and, if it takes one, a label."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_LABEL = re.compile(r"^(labels?|y|cls|class(es)?(_(labels?|ids?|idx))?|c|cond(ition)?)$")

_FLOATS = (torch.float32, torch.float64)


class Call(nn.Module):
    """A method of a module, or the module itself, to call with a first argument and a label.

    Attributes:
        name: the name of the method, for error messages.
        label: the name of the parameter that takes the label; None if there is none.
        one_hot: whether labels are passed as one-hot rows.
        saw_one_hot: whether the module itself turned labels into one-hot rows.
        absent: parameters for a label of a model without labels, which are passed None.
        unknown: other parameters without a default.
    """

    def __init__(self, module: nn.Module, name: str, *, method: bool) -> None:
        super().__init__()
        self.module = module
        self.name = name
        self.method = method
        self.label: str | None = None
        self.first: str | None = None
        self.one_hot = False
        self.saw_one_hot = False
        self.absent: list[str] = []
        self.unknown: list[str] = []
        self.classes = 0

    def inspect(self, *, labelled: bool) -> None:
        """Find the parameters for the first argument and, if `labelled`, for the label."""
        function = getattr(self.module, self.name) if self.method else self.module.forward
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        parameters = [p for p in inspect.signature(function).parameters.values()
                      if p.kind not in kinds]  # fmt: skip
        named = [p.name for p in parameters if _LABEL.match(p.name)]
        required = [p.name for p in parameters if p.default is p.empty]
        if labelled and named:
            self.label = named[0]
        elif labelled and len(required) > 1:
            self.label = required[1]
        rest = [p.name for p in parameters if p.name != self.label]
        self.first = rest[0] if rest and self.label is not None else None
        others = [name for name in required if name not in (*rest[:1], self.label)]
        self.absent = [name for name in others if not labelled and _LABEL.match(name)]
        self.unknown = [name for name in others if name not in self.absent]

    def forward(self, first: Tensor, label: Tensor | None = None) -> Any:
        """Call with f32[N, …] and any label that is taken, i64[N] in [0, K]; K means "no label".

        With `first` in float64, the module computes in float64, as the parity check's reference.
        """
        function = getattr(self.module, self.name) if self.method else self.module
        if self.label is None or self.first is None or label is None:
            with OneFloat(first.dtype):
                return function(first, **dict.fromkeys(self.absent))
        with OneFloat(first.dtype), _NullOneHot(self.classes, label) as mode:
            if self.one_hot:
                label = F.one_hot(label, self.classes).to(first.dtype)
            returned = function(**{self.first: first, self.label: label})
        self.saw_one_hot = mode.used
        return returned


class OneFloat(TorchFunctionMode):
    """Mode in which the module's own float32 and float64 tensors have one dtype.

    A graph computes in float32 and its reference in float64, from the first to the last operator,
    also in a module that casts.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (Tensor.float, Tensor.double):
            return args[0].to(self.dtype)
        kwargs = {name: self._replace(value) for name, value in (kwargs or {}).items()}
        result = func(*map(self._replace, args), **kwargs)
        # Constants made without a dtype are float32.
        made = isinstance(result, Tensor) and not any(isinstance(part, Tensor) for part in args)
        return result.to(self.dtype) if made and result.dtype in _FLOATS else result

    def _replace(self, value: Any) -> Any:
        return self.dtype if isinstance(value, torch.dtype) and value in _FLOATS else value


class _NullOneHot(TorchFunctionMode):
    """Mode in which one-hot rows have one for label K ("no label"): an equal mix of all classes.

    The linear layer that follows maps it to the mean over all classes. One-hot rows are recognized
    where the module calls `F.one_hot`, scatters ones into rows of zeros, indexes `torch.eye(K)`, or
    compares labels with `torch.arange(K)`.
    """

    def __init__(self, classes: int, label: Tensor) -> None:
        super().__init__()
        self.classes = classes
        self.label = label
        self.used = False
        self._eyes: list[Tensor] = []
        self._ranges: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _EXTREMES and len(args) == 1 and args[0] is self.label and not kwargs:
            # Checks of the labels' range would not be traceable. The runtime checks labels.
            return torch.tensor(0 if func in _EXTREMES[:2] else self.classes - 1)
        index = self._index(func, args, kwargs)
        if index is None:
            result = func(*args, **kwargs)
            self._remember(func, result)
            return result
        self.used, k = True, self.classes
        rows = torch.cat([torch.eye(k), torch.full((1, k), 1 / k)])[index.reshape(-1)]
        if func is Tensor.scatter_:
            return args[0].copy_(rows)
        return rows if index.dim() < 2 or func in _EQUALS else rows.reshape(*index.shape, k)

    def _index(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """Return the labels of which this call makes one-hot rows; None if it does not."""
        k = self.classes
        if func is F.one_hot:
            size = args[1] if len(args) > 1 else kwargs.get("num_classes", -1)
            return (args[0] if args else kwargs["tensor"]) if size in (-1, k) else None
        if func in _SCATTERS and len(args) == 4:
            target, dim, index, value = args
            fits = target.shape[1:] == (k,) and index.shape[1:] == (1,)
            one = not isinstance(value, Tensor) and value == 1
            return index if dim in (1, -1) and fits and one else None
        if func is Tensor.__getitem__ and any(args[0] is eye for eye in self._eyes):
            return args[1] if isinstance(args[1], Tensor) and args[1].dtype == torch.int64 else None
        if func in _EQUALS and len(args) == 2:
            for labels, other in (args, args[::-1]):
                known = any(other is r for r in self._ranges)
                if known and isinstance(labels, Tensor) and labels.shape[1:] == (1,):
                    return labels
        return None

    def _remember(self, func: Any, result: Any) -> None:
        if func is torch.eye and result.shape == (self.classes, self.classes):
            self._eyes.append(result)
        elif func is torch.arange and result.shape == (self.classes,):
            self._ranges.append(result)


_EXTREMES = (torch.min, Tensor.min, torch.max, Tensor.max)
_SCATTERS = (Tensor.scatter_, Tensor.scatter, torch.scatter)
_EQUALS = (torch.eq, Tensor.eq, Tensor.__eq__)
