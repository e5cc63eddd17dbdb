"""Measure Flower's SecAgg+ in memory: its own client mod and its own server workflow, joined by a grid that copies.

Runs in the peers' environment, which has `flwr` and not this project: `.venv-peers/bin/python masking_flower.py CASE`.
CASE is a JSON object, see `Case`; one JSON object goes to stdout. `fedcollm-secure bench masking` starts it;
README.md says what is counted and what is not.
"""

import json
import logging
import os
import re
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NoReturn

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"  # read when flwr is imported

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitRes, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.compat.common.recorddict_compat import (
    arrayrecord_to_parameters,
    fitres_to_recorddict,
    parameters_to_arrayrecord,
)
from flwr.server import LegacyContext
from flwr.server.client_manager import SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.serverapp.grid import Grid
from flwr.supercore.task_identity import TaskIdentity

STAGES = ("silo_keys", "silo_shares", "silo_masks", "silo_reveal")
QUANTISED = 1 << 22  # Flower's default
REPEAT_BELOW_S = 2.0
REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Case:
    """What to measure. `updates`: a .npy file, float32[2, d], clipped to ±1; silo i sends row i mod 2.

    `dropouts`: silos lost after they dealt shares. `sampled`: how many silos really mask, 0 for all.
    """

    silos: int
    parameters: int
    dropouts: int
    threshold: int
    sampled: int
    updates: str


class Proxy(ClientProxy):
    """A name for a silo; the workflow reads `node_id` alone."""

    def __init__(self, node_id: int) -> None:
        """Name the silo."""
        super().__init__(str(node_id))
        self.node_id = node_id

    def get_properties(self, *_: object) -> NoReturn:
        """Never be called."""
        raise NotImplementedError

    get_parameters = fit = evaluate = reconnect = get_properties


class SumOnly(FedAvg):
    """Take the workflow's mean as it is: averaging n copies of it again is not the protocol's doing."""

    def aggregate_fit(self, server_round: int, results: list, failures: list) -> tuple[Parameters, dict]:
        """Return the mean that the workflow put into every result."""
        return results[0][1].parameters, {}


class MemoryGrid(Grid):
    """Call each silo's mod in turn; put its CPU time and bytes on its account, and keep them off the server's."""

    def __init__(self, case: Case, trained: list[Parameters]) -> None:
        """Carry messages to `case.silos` silos, whose apps return what was `trained`."""
        self.case, self.trained = case, trained
        self.contexts = {node: _context(node) for node in range(1, case.silos + 1)}
        self.seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self.silo_seconds = dict.fromkeys(self.contexts, 0.0)
        self.sent = dict.fromkeys(self.contexts, 0)
        self.marks: list[float] = []  # process time when the server hands over, and when it is back
        self.stage = 0
        self.words: list[bytes] = []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Deliver one stage's messages. The last silos are lost from the third stage on."""
        self.marks.append(time.process_time())
        staying = self.case.silos - self.case.dropouts if self.stage >= 2 else self.case.silos
        replies = [self._reply(message) for message in messages if message.metadata.dst_node_id <= staying]
        self.stage += 1
        self.marks.append(time.process_time())
        return replies

    def _reply(self, message: Message) -> Message:
        node, stage = message.metadata.dst_node_id, STAGES[self.stage]
        done = self.seconds[stage]
        if stage == "silo_masks" and self.case.sampled and len(done) >= self.case.sampled:
            return self._stand_in(node, message)
        reply, took = self._call(node, message, self.trained[(node - 1) % 2])
        done.append(took)
        self.silo_seconds[node] += took
        self.sent[node] += recorddict_to_proto(reply.content).ByteSize()
        if stage == "silo_masks":
            self.words = reply.content.config_records["secaggplus_configs"]["masked_params"]
        return reply

    def _stand_in(self, node: int, message: Message) -> Message:
        """Let the mod mask one number, and upload a copy of a sampled silo's words: the server works as hard."""
        reply, _ = self._call(node, message, ndarrays_to_parameters([np.zeros(1, np.float32)]))
        copies = [bytes(bytearray(data)) for data in self.words]
        reply.content.config_records["secaggplus_configs"] = ConfigRecord({"masked_params": copies})
        return reply

    def _call(self, node: int, message: Message, trained: Parameters) -> tuple[Message, float]:
        """Return the mod's reply to a copy of the message, and its CPU seconds without the app's."""
        kind = message.metadata.message_type
        copied = Message(recorddict_from_proto(recorddict_to_proto(message.content)), node, kind)
        result = FitRes(Status(Code.OK, ""), trained, num_examples=1, metrics={})
        answer = Message(fitres_to_recorddict(result, keep_input=True), reply_to=copied)
        start = time.process_time()
        reply = secaggplus_mod(copied, self.contexts[node], lambda _message, _context: answer)
        return reply, time.process_time() - start

    def set_run(self, *_: object) -> NoReturn:
        """Never be called."""
        raise NotImplementedError

    run = property(set_run)
    create_message = get_node_ids = push_messages = pull_messages = set_run


def measure(case: Case) -> dict[str, object]:
    """Run one round and return its figures. Raises: RuntimeError when the mean is wrong."""
    updates = np.load(case.updates)
    trained = [ndarrays_to_parameters([update]) for update in updates]
    baseline = peak_mib()
    runs = [_attempt(case, trained, updates)]
    while sum(runs[0]["cpu_seconds"].values()) < REPEAT_BELOW_S and len(runs) < REPEATS:
        runs.append(_attempt(case, trained, updates))
    middle = sorted(runs, key=lambda run: sum(run["cpu_seconds"].values()))[len(runs) // 2]
    return middle | {"repeats": len(runs), "baseline_mib": baseline, "peak_mib": peak_mib()}


def _attempt(case: Case, trained: list[Parameters], updates: np.ndarray) -> dict[str, object]:
    grid, context = MemoryGrid(case, trained), _server_context(case.silos)
    # A share for every silo makes the graph complete, as ours is; as a fraction t = n is allowed, as an int it isn't.
    workflow = SecAggPlusWorkflow(
        1.0, case.threshold / case.silos, max_weight=1.0, clipping_range=1.0, quantization_range=QUANTISED
    )
    start = time.process_time()
    workflow(grid, context)
    marks = [start, *grid.marks, time.process_time()]
    parameters = arrayrecord_to_parameters(context.state.array_records["parameters"], keep_input=True)
    if not case.sampled:
        _check(parameters_to_ndarrays(parameters)[0], updates, case.silos - case.dropouts)
    return _figures(case, grid, [marks[i + 1] - marks[i] for i in range(0, len(marks), 2)])


def _figures(case: Case, grid: MemoryGrid, server: list[float]) -> dict[str, object]:
    """Add up. Where silos were sampled, the masks of the others count as the sampled ones'."""
    staying = range(1, case.silos - case.dropouts + 1)
    phases = {stage: sum(seconds) for stage, seconds in grid.seconds.items()}
    masked = len(grid.seconds["silo_masks"])
    phases["silo_masks"] *= len(staying) / masked
    real = sorted(staying, key=lambda node: -grid.sent[node])[:masked]  # a stand-in's words aren't on its account
    silo, sent = median(grid.silo_seconds[node] for node in real), median(grid.sent[node] for node in real)
    return {
        "cpu_seconds": phases | {"server_relay": sum(server[:-1]), "server_unmask": server[-1]},
        "silo_cpu_seconds": silo,
        "server_cpu_seconds": sum(server),
        "bytes_per_parameter": sent / case.parameters,
    }


def _check(mean: np.ndarray, updates: np.ndarray, silos: int) -> None:
    expected = sum(updates[i % 2].astype(np.float64) for i in range(silos)) / silos
    worst = float(np.abs(mean - expected).max())
    if worst > 4 / QUANTISED:  # two steps: Flower rounds at random, and steps are 2c / 2^22
        raise RuntimeError(f"Flower's mean is off by {worst:g}: what was measured is not the sum")


def _context(node: int) -> Context:
    return Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})


def _server_context(silos: int) -> LegacyContext:
    manager = SimpleClientManager()
    for node in range(1, silos + 1):
        manager.register(Proxy(node))
    context = LegacyContext(_context(0), strategy=SumOnly(fraction_evaluate=0.0), client_manager=manager)
    context.state.config_records["config"] = ConfigRecord({"current_round": 1})
    # No model goes down with the requests: how it travels is the same matter for everyone.
    nothing = parameters_to_arrayrecord(Parameters(tensors=[], tensor_type="numpy.ndarray"), keep_input=True)
    context.state.array_records["parameters"] = nothing
    return context


def peak_mib() -> float:
    """Return the largest resident size of this process so far, without what its parent held, which getrusage counts."""
    if (status := Path("/proc/self/status")).exists():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / (1 << 10)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)  # macOS: bytes


def main() -> None:
    """Measure the case in the first argument."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1
    print(json.dumps(measure(Case(**json.loads(sys.argv[1])))))


if __name__ == "__main__":
    main()
