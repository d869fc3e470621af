"""What a process that only uses a run imports, and that what it leaves out is there when it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HEAVY = [
    *(
        "torch._dynamo",
        "torch._inductor",
        "torch.distributed.tensor",
        "torch.distributed.fsdp",
        "triton",
        "scipy",
    ),
    *("timm", "sklearn", "pandas", "pyarrow", "matplotlib", "peft", "ray", "transformers.trainer", "fastapi"),
    *("close.training", "close.study", "close.gap"),
]
"""Nothing of these is needed to say what is on a picture."""

LOADED = f"""
import sys
sys.argv = ["close", *sys.argv[1:]]
from close.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code
models = {{name.split(".")[2] for name in sys.modules if name.startswith("transformers.models.") and ".modeling_" in name}}
print("loaded:", [name for name in {HEAVY} if name in sys.modules], "models:", sorted(models))
"""


def python(code: str, *arguments: object, **environment: str) -> str:
    """What a process of its own prints."""
    own = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_in_use_imports_what_it_uses_and_says_the_same(run, pictures, cli):
    *said, about = python(LOADED, "caption", run, pictures).splitlines()
    assert about == "loaded: [] models: ['auto', 't5']"
    assert said == cli("caption", run, pictures).out.splitlines()  # with all that this process has


STAND_INS = """
import gc, sys
from close.fast.imports import light_imports
light_imports()
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, masking_utils
from transformers.loss.loss_utils import LOSS_MAPPING
with torch.device("meta"):
    AutoModelForCausalLM.from_config(LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2))
assert "torch._dynamo" not in sys.modules and gc.isenabled()
assert not isinstance(torch.ones(1), masking_utils.BlockMask)
with masking_utils.TransformGetItemToIndex():
    pass
assert "torch._dynamo" in sys.modules
import torch._dynamo
assert torch._dynamo.__file__ and torch._dynamo.is_compiling() is False
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
mask = create_block_mask(lambda b, h, q, k: q >= k, None, None, 128, 128, device="cpu")
assert type(mask) is BlockMask and isinstance(mask, masking_utils.BlockMask)
try:
    LOSS_MAPPING["ForObjectDetection"]()
except TypeError as error:
    assert "missing" in str(error)
assert "scipy" in sys.modules
print("real")
"""


def test_what_is_left_out_is_there_when_it_is_asked_for():
    assert python(STAND_INS) == "real\n"


OTHER_VERSIONS = """
import sys
from close.fast import imports
asked = []
def nothing(self, *args, **kwargs):
    asked.append(self)
    raise RuntimeError("a library that does more with it")
imports._Later.__call__ = nothing
imports.light_imports()
from transformers import T5Config, T5ForConditionalGeneration as T5
sizes = dict(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=9, decoder_start_token_id=0)
import torch
said = T5(T5Config(**sizes)).generate(torch.tensor([[1, 2]]), max_new_tokens=3)
print(bool(asked), "torch._dynamo" in sys.modules, said.shape[0])
"""


def test_what_can_not_do_without_gets_everything():
    assert python(OTHER_VERSIONS) == "True True 1\n"
