"""Plays one input: makes it, calls the op, and judges what came of it."""

import inspect
import re
import traceback
import warnings

import torch

from isample.support.errors import NonFiniteScoreError
from tests.fuzz import draws, garbage, means, memory_truth, rows, scores, stored, tables
from tests.fuzz.dice import Dice, same_bits
from tests.fuzz.judge import Fault, Rules, describe, exact, unchanged

OPS = {
    op.name: op
    for part in (scores, means, tables, stored, draws, memory_truth, rows)
    for op in part.OPS
}
PARTS = ("values", "garbage")
WILD = 1e18
REFUSALS = (ValueError, TypeError, RuntimeError, IndexError)
# What torch says before an op hears of a call: it names the op, or fails to read a number.
TORCHS_OWN = re.compile(
    r"isample::|Overflow when unpacking long|Cannot access storage of SparseTensorImpl|"
    r"Tensor.item\(\) cannot be called on meta tensors"  # a number that is a tensor
)


def overload(op):
    packet, _, name = op.name.partition(".")
    return getattr(getattr(torch.ops.isample, packet), name or "default")


class Play:
    """One input. ``given`` are its arguments, ``face`` says whether the wrapper takes them."""

    def __init__(self, name):
        part, op, seed = name.split("/")
        self.part, self.op, self.dice = part, OPS[op], Dice(int(seed))
        self.schema = overload(self.op)._schema
        self.given = self.op.make(self.dice)
        self.face = self.dice.choice(self.op.only)
        if part == "garbage":
            self.given = garbage.break_some(self.dice, self.given)
        self.threads = 3 if self.dice.odds(16) else 1

    def __str__(self):
        lines = [f"  {name} = {describe(value)}" for name, value in self.given.items()]
        return "\n".join([f"{self.face} of {self.op.name}", *lines])

    def judge(self):
        """The verdict "right" or "refused"; raises Fault."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.set_num_threads(self.threads)
            torch.manual_seed(self.dice.getrandbits(32))
            return self._judge()

    def _judge(self):
        rules, before = self._rules(), {}
        tensors = {k: v for k, v in self.given.items() if _is_dense(v)}
        for name, tensor in tensors.items():
            before[name] = (tensor.detach().clone(), _memory(tensor).clone(), _version(tensor))
        full = {**self._defaults(), **self.given}
        copies = {**full, **{name: kept[0] for name, kept in before.items()}}
        copies["generator state"] = _generator_state(full.get("generator"))
        try:
            result = self._call()
        except REFUSALS as error:
            self._refused(error, rules)
            for name, tensor in tensors.items():
                unchanged(f"{name}, of a call that was refused,", tensor, before[name][0])
            return "refused"
        except Exception as error:
            raise Fault(f"{type(error).__name__} is none of the errors told: {error}") from error
        if self._is_shapes_alone(result):
            return "right"
        if rules.broken:
            raise Fault(f"took what breaks a rule: {rules.broken[0]}; gave {_told(result)}")
        if rules.unmade:
            self._inside(result)
        elif not (self._overlap(tensors) or self._is_wild(copies)):
            self.op.check(copies, full, result)
        for name, tensor in tensors.items():
            self._bounds(name, tensor, *before[name])
        return "right"

    def _rules(self):
        known = {argument.name for argument in self.schema.arguments}
        rules = Rules(
            {**self._defaults(), **self.given}, self.face == "wrapper" or self.op.looks, self.face
        )
        for name in known - rules.given.keys():
            rules.broken.append(f"{name} is missing")
        for name in rules.given.keys() - known:
            rules.broken.append(f"{name} is unknown")
        if not rules.broken:
            self.op.rules(rules)
        return rules

    def _defaults(self):
        arguments = self.schema.arguments
        of_op = {each.name: each.default_value for each in arguments if each.has_default_value()}
        if self.face == "op":
            return of_op
        known = inspect.signature(self.op.wrapper).parameters.values()
        return of_op | {each.name: each.default for each in known if each.default is not each.empty}

    def _call(self):
        call = overload(self.op) if self.face == "op" else self.op.wrapper
        return call(**self.given)

    def _refused(self, error, rules):
        text = str(error)
        if "INTERNAL ASSERT" in text:
            raise Fault(f"an assertion of torch failed: {text[:200]}") from error
        names = {argument.name for argument in self.schema.arguments} | set(self.given)
        names |= {"score"} if isinstance(error, NonFiniteScoreError) else set()
        named = any(re.search(rf"\b{re.escape(name)}s?\b", text) for name in names)
        tensors = [v for v in self.given.values() if isinstance(v, torch.Tensor)]
        on_meta = tensors != [] and all(each.is_meta for each in tensors)
        if not named and not on_meta and not TORCHS_OWN.search(text):
            raise Fault(f"{type(error).__name__} names no argument: {text[:200]}") from error
        if self.part == "values" and not (rules.broken or rules.doubtful):
            raise Fault(f"refused what keeps the rules: {text[:200]}") from error

    def _is_shapes_alone(self, result):
        """Whether the call gave tensors on meta, without numbers that could be wrong."""
        tensors = [v for v in self.given.values() if isinstance(v, torch.Tensor)]
        results = [each for each in _parts(result) if isinstance(each, torch.Tensor)]
        return any(v.is_meta for v in tensors) and all(each.is_meta for each in results or tensors)

    def _inside(self, result):
        """Raises where an index of draws leaves its range, whatever the table was."""
        for each in _parts(result):
            if each.dtype == torch.int64:
                items = len(self.given["sums" if "sums" in self.given else "threshold"])
                inside = (each >= 0) & (each < items)
                exact("in range", inside.all(), torch.tensor(True))

    def _is_wild(self, given):
        """Whether garbage holds numbers beyond all use, whose sums cancel or overflow on the way.

        The other part has those that are to be answered right: infinities, NaN, the largest.
        """
        floats = [v for v in given.values() if _is_dense(v) and v.dtype.is_floating_point]
        return self.part == "garbage" and any(
            bool((~each.isfinite() | (each.abs() > WILD)).any()) for each in floats
        )

    def _overlap(self, tensors):
        """Whether an argument lies in memory that the op writes through another one."""
        return any(
            _shares(tensor, tensors[written])
            for written in self.op.writes
            for name, tensor in tensors.items()
            if written in tensors and name != written
        )

    def _bounds(self, name, tensor, values, memory, version):
        """Raises where a byte changed that is not the op's, or a change was not counted."""
        written = [self.given[each] for each in self.op.writes if _is_dense(self.given.get(each))]
        if name not in self.op.writes:
            if not any(_shares(tensor, each) for each in written):
                unchanged(name, _memory(tensor), memory)
            return
        if not same_bits(tensor.detach(), values) and _version(tensor) == version:
            raise Fault(f"{name} was changed, and its version was not")
        if sum(_shares(tensor, each) for each in written) == 1:
            around = _memory(tensor).clone()
            place = around.view(tensor.dtype).as_strided(
                tensor.shape, tensor.stride(), tensor.storage_offset()
            )
            place.copy_(values)
            unchanged(f"memory around {name}", around, memory)


def _is_dense(value):
    dense = isinstance(value, torch.Tensor) and value.layout == torch.strided
    return dense and value.device.type == "cpu"


def _memory(tensor):
    """All bytes of the storage that ``tensor`` is a view of."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.detach().untyped_storage())


def _version(tensor):
    return 0 if tensor.is_inference() else tensor._version


def _shares(a, b):
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _generator_state(source):
    return (source if isinstance(source, torch.Generator) else torch.default_generator).get_state()


def _parts(result):
    return result if isinstance(result, (tuple, list)) else (result,)


def _told(result):
    return ", ".join(describe(each) for each in _parts(result))


def verdict(name):
    """("right" | "refused" | "fault", what is wrong) of an input."""
    play = None
    try:
        play = Play(name)
        return play.judge(), ""
    except Fault as fault:
        return "fault", str(fault)
    except Exception:
        where = "while it was made" if play is None else "in the judge itself"
        return "fault", f"an error {where}:\n{traceback.format_exc()}"
