"""A consortium small enough to train in a second: a tokenizer of 60 words, two tiny Llamas, 120 records."""

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("project", deadline=None)  # machines are shared: no test asserts a time
settings.load_profile("project")

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SLOW = (
    "assemble/test_signal_to_noise.py",
    "assurance/attacks/",
    "assurance/privacy_audit/",
    "crypto/test_conviction.py",
    "crypto/test_masking_exact.py",
    "crypto/test_secrecy.py",
    "crypto/test_stages.py",
    "crypto/test_stateful.py",
    "end_to_end/test_crash.py",
    "end_to_end/test_failures.py",
    "end_to_end/test_full_disk.py",
    "end_to_end/test_hostile_folders.py",
    "end_to_end/test_pilot.py",
    "end_to_end/test_rules.py",
    "end_to_end/test_tampering.py",
    "federation/test_long_log.py",
    "learning/test_beyond_pairs.py",
    "learning/test_company.py",
    "learning/test_embedded.py",
    "privacy/test_blocks.py",
    "privacy/test_calibrate.py",
    "privacy/test_dpsgd.py",
    "privacy/test_signal_share.py",
    "research/test_resumable_work.py",
)
"""Files that take a minute or so: `make test` runs them, the tests against the wheel do not."""

TOPICS = {
    "heart": ["murmur", "rhythm", "valve", "pulse", "angina"],
    "skin": ["rash", "itch", "mole", "burn", "scar"],
    "eye": ["blur", "tear", "lens", "pupil", "glare"],
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow."""
    folder = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(folder) and item.path.relative_to(folder).as_posix().startswith(SLOW):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Let no test reach a network: what is not on this machine is not there."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        loopback = isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1")
        if self.family != socket.AF_UNIX and not loopback:
            raise OSError(f"a test tried to reach {address!r}; tests use no network")
        connect(self, address)  # type: ignore[arg-type]

    socket.socket.connect = refuse  # type: ignore[method-assign, assignment]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]


def rows(count: int, *, start: int = 0) -> list[dict[str, object]]:
    """Return records "note: rash itch" → skin, without any randomness."""
    names = sorted(TOPICS)
    found: list[dict[str, object]] = []
    for number in range(start, start + count):
        topic = names[number % 3]
        words = TOPICS[topic]
        text = f"{words[number % 5]} {words[(number // 3) % 5]}"
        found.append({"text": text, "topic": topic, "site": f"s{number % 4}"})
    return found


def write_jsonl(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `llm/` and `slm/`: two tiny Llamas of one tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models")
    words = ["<pad>", "<eos>", "<unk>", "note", ":", "is", *sorted(TOPICS), *(w for t in TOPICS.values() for w in t)]
    words += [f"w{i}" for i in range(60 - len(words))]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=64
    )
    for name, width, layers in (("llm", 32, 2), ("slm", 16, 1)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(layers)
            shape = LlamaConfig(
                vocab_size=60,
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=layers,
                num_attention_heads=2,
                max_position_embeddings=64,
                tie_word_embeddings=True,
                pad_token_id=0,
                eos_token_id=1,
                bos_token_id=None,
            )
            LlamaForCausalLM(shape).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture
def tree(models: Path, tmp_path: Path) -> Callable[..., dict[str, object]]:
    """Return a function that makes a small, complete configuration tree; keywords replace its keys."""

    def make(**changes: object) -> dict[str, object]:
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        base: dict[str, object] = {
            "name": "tiny",
            "seed": 3,
            "models": {"llm": {"from": str(models / "llm")}, "slm": {"from": str(models / "slm")}},
            "lora": {"rank": 2, "alpha": 4, "targets": ["q_proj", "v_proj"]},
            "data": {
                "source": {"path": str(write_jsonl(data / "all.jsonl", rows(90)))},
                "task": {"classification": {"prompt": "note : {text}", "label": "topic"}},
                "silos": {"iid": 4},
                "test": {"path": str(write_jsonl(data / "test.jsonl", rows(15, start=200)))},
                "auxiliary": {"path": str(write_jsonl(data / "aux.jsonl", rows(15, start=400)))},
                "overlap": "allow",  # so few words make 75 texts in all
            },
            "rounds": 2,
            "silo": {"steps": 2, "batch_size": 8, "learning_rate": 0.01},
            "distill": {"steps": 2, "batch_size": 5},
            "aggregation": {"unsafe_plain": {}},
            "privacy": {"non_private": {}},
            "device": "cpu",
        }
        return {**base, **changes}

    return make


DP: Mapping[str, object] = {"record_dp": {"epsilon": 8.0, "delta": 1.0e-5, "clip_norm": 1.0, "sampling_rate": 0.2}}


@pytest.fixture
def private(tree: Callable[..., dict[str, object]]) -> Callable[..., dict[str, object]]:
    """Return a function that makes a configuration tree with DP-SGD."""
    return lambda **changes: tree(**{"privacy": dict(DP), **changes})
