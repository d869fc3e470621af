"""What all tests share."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fuzzing import Tried

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # what is not on this machine fails at once
# whatever is started in a shell's background inherits that Ctrl-C is ignored; processes that the tests interrupt must not
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests never read or write the user's cache."""
    os.environ["CLOSE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real embeddings and captions that lie beside the checkout on some machines; the package neither ships nor needs them."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CLOSE_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"the real data folder {folder} is not on this machine")
    return folder


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Iterator[Tried]:
    """Counts a fuzz test's inputs for the script that runs them all."""
    found = Tried()
    yield found
    record_property("inputs", found.inputs)
    record_property("refused", found.refused)
