"""`vllm bench serve` without vLLM's engine.

Runs vllm.benchmarks.serve of the installed `vllm` wheel: its argument parser,
data sets, request loop, HTTP client (aiohttp) and parser of server-sent events
are vLLM's own files, unchanged. Importing them imports parts of the engine,
and those import torch, which is several gigabytes and not used by the client.
The modules named below are replaced by empty stand-ins; nothing else is.
"""

import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
import types

STAND_INS = (
    "torch",
    "vllm.distributed",
    "vllm.env_override",
    "vllm.inputs",
    "vllm.lora",
    "vllm.multimodal",
)


class Anything(type):
    """A class whose attributes are such classes, and which can be called and indexed."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return anything(name)

    def __call__(cls, *args, **kwargs):
        return anything(cls.__name__)

    def __or__(cls, other):
        return cls

    __ror__ = __or__

    def __getitem__(cls, key):
        return cls


def anything(name):
    return Anything(name, (), {})


class StandIn(types.ModuleType):
    __path__: list = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = anything(name)
        setattr(self, name, value)
        return value


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if any(name == s or name.startswith(s + ".") for s in STAND_INS):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())
version = importlib.metadata.version
importlib.metadata.version = lambda name: "2.14.0" if name == "torch" else version(name)  # what the wheel asks for

from vllm.benchmarks.serve import add_cli_args, main  # noqa: E402
from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: E402

parser = FlexibleArgumentParser(description="vllm bench serve")
add_cli_args(parser)
main(parser.parse_args())
