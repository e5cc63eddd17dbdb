"""The whole protocol on one screen: all parties in one process, every message in order.

Nothing here is used by a real run, which drives the same two ends through `aggregation.aggregate`.
"""

from collections.abc import Callable, Mapping

from fedcollm_crypto.aggregation import Ask, PartyId, Sum
from fedcollm_crypto.masking.server import MaskedServer
from fedcollm_crypto.masking.silo import MaskedSilo

Arrives = Callable[[int, PartyId], bool]
"""Whether the answer of a silo to the stage of this number (1–7) reaches the server."""


def everything_arrives(_: int, __: PartyId) -> bool:
    """Lose no message."""
    return True


def run_masking(
    server: MaskedServer, silos: Mapping[PartyId, MaskedSilo], arrives: Arrives = everything_arrives
) -> Sum:
    """Play one attempt. Raises: TooFewSilos, ProtocolError."""

    def answer(stage: int, ask: Ask | Sum) -> Ask | Sum:
        if isinstance(ask, Sum):
            raise TypeError("the sum comes after the last exchange, not before")
        for party, request in ask.requests.items():
            if arrives(stage, party):
                server.absorb(party, silos[party].handle(request))
        return server.step()

    # M0  S → i   the manifest: models, plan, encoding, cohort, t and k_min. The silo checks it by its own policy.
    hello_wanted = server.start(list(silos))
    # M1  i → S   hello: fresh keys c_i and s_i, H(b_i), a nonce.                U1 = who said hello.
    shares_wanted = answer(1, hello_wanted)
    #     S → i   all hellos. The silo checks: one manifest, its own hello, no key twice, |U1| ≥ max(t, k_min).
    #             T1 = H(hellos) goes into every key and signature from here on.
    # M2  i → S   a box for each j of U1: one share of b_i and one of s_i.       U2 = who dealt.
    check_wanted = answer(2, shares_wanted)
    #     S → i   the boxes for i, each under the one root that its dealer signed.
    # M2a i → S   which of them do not open.
    disclosure_wanted = answer(3, check_wanted)
    #     S → j   who says that a box of j does not open: usually nobody, and nobody is asked.
    # M2b j → S   what was in that box.                                           U2 = who dealt what opens.
    vector_wanted = answer(4, disclosure_wanted)
    #     S → i   U2. The silo checks that it has the shares of each, and that |U2| ≥ max(t, k_min). It trains now.
    # M3  i → S   y_i = x_i + PRG(b_i) + Σ_{j>i} PRG(s_ij) − Σ_{j<i} PRG(s_ij);  U3 = who uploaded.
    #             a signature over H(y_i) and U2.
    consent_wanted = answer(5, vector_wanted)
    #     S → i   all signed uploads. The silo checks: U3 ⊆ U2, everybody's U2 is its own, |U3| ≥ max(t, k_min).
    # M4  i → S   a signature over U3, written to disk before. It signs no other U3.
    reveal_wanted = answer(6, consent_wanted)
    #     S → i   the signatures. The silo checks that t silos signed its own U3.
    # M5  i → S   for j in U3 the share of b_j; for j in U2 without U3 the share of s_j. Never both. Secrets go.
    result = answer(7, reveal_wanted)
    # R   S       combines shares, checks b_j against H(b_j) and s_j against its public key, removes the masks.
    if isinstance(result, Ask):
        raise TypeError("after the last exchange there is nothing left to ask")
    return result
