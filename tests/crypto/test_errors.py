from fedcollm_crypto.errors import CryptoError, ProtocolError, Refused, TooFewSilos


def test_too_few_silos_lists_everyone_who_left():
    error = TooFewSilos("shares", needed=3, left=2, dropped={"silo-b": "did not answer", "silo-a": "bad signature"})

    assert error.diagnostics().splitlines()[:3] == [
        "shares: 2 silos are left, 3 are needed",
        "  silo-a: bad signature",
        "  silo-b: did not answer",
    ]


def test_a_refusal_shows_its_code():
    assert Refused("second_answer", "already answered").diagnostics() == "refused (second_answer): already answered"


def test_a_protocol_error_says_that_nothing_was_released():
    assert "nothing was released" in ProtocolError("bad bytes").diagnostics()


def test_the_base_error_explains_itself_by_its_message():
    assert CryptoError("what, expected, got").diagnostics() == "what, expected, got"
