"""SEAL's and TenSEAL's containers, written and taken apart for our own library alone: no foreign byte comes here.

`strip_*` reads what the library in this process has just written and refuses anything unexpected (a newer format, say);
`wrap_*` writes the container round coefficients that `residues.from_wire` has checked. Formats: SEAL 4
`serialization.h`, `ciphertext.cpp`; TenSEAL `tensealcontext.proto`, `bfvvector.proto`, `ckksvector.proto`; zstd
frames, RFC 8878.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fedcollm_crypto.homomorphic.residues import Residues

_MAGIC, _HEADER_BYTES, _VERSION_MAJOR = 0xA15E, 16, 4
_NO_COMPRESSION, _ZSTD = 0, 2
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_INNER = struct.Struct("<32s?QQQdQ")  # parms_id, NTT form, polynomials, degree, primes, scale, correction factor
_DYNAMIC = struct.Struct("<Q")  # number of words


class FormatError(RuntimeError):
    """The library in this process writes a format that this code does not know: the versions do not fit."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a ciphertext or public key says of itself besides its coefficients."""

    header: bytes  # the first eight bytes of SEAL's header, with its version
    parms_id: bytes
    ntt: bool
    polynomials: int
    degree: int
    primes: int
    scale: float

    @property
    def words(self) -> int:
        """Return the number of coefficients."""
        return self.polynomials * self.degree * self.primes


def strip_ciphertext(seal: bytes) -> tuple[Form, Residues]:
    """Take a serialised SEAL ciphertext apart."""
    header, body = _read(seal)
    values = _INNER.unpack_from(body)
    parms_id, ntt, polynomials, degree, primes, scale, correction = values
    form = Form(
        header=header, parms_id=parms_id, ntt=ntt, polynomials=polynomials, degree=degree, primes=primes, scale=scale
    )
    _, words = _read(body[_INNER.size :])
    count = _DYNAMIC.unpack_from(words)[0]
    if correction != 1 or count != form.words or len(words) != _DYNAMIC.size + 8 * count:
        raise FormatError(f"a ciphertext of {form.words} words was expected, got {count}")
    return form, np.frombuffer(words, dtype="<u8", offset=_DYNAMIC.size).astype(np.uint64)


def wrap_ciphertext(form: Form, residues: Residues) -> bytes:
    """Return a serialised SEAL ciphertext, uncompressed, of exactly this form."""
    if len(residues) != form.words:
        raise ValueError(f"a ciphertext of this form has {form.words} coefficients, got {len(residues)}")
    words = _write(form.header, _DYNAMIC.pack(form.words) + residues.astype("<u8", copy=False).tobytes())
    fields = (form.parms_id, form.ntt, form.polynomials, form.degree, form.primes, form.scale, 1)
    return _write(form.header, _INNER.pack(*fields) + words)


def vector_bytes(ciphertexts: list[bytes], slots: int, scale: float | None) -> bytes:
    """Return TenSEAL's message for a vector of whole ciphertexts; `scale` for CKKS."""
    message = _field(1, b"".join(_varint(slots) for _ in ciphertexts))
    message += b"".join(_field(2, ciphertext) for ciphertext in ciphertexts)
    return message if scale is None else message + b"\x19" + struct.pack("<d", scale)


def vector_ciphertexts(message: bytes) -> list[bytes]:
    """Return the SEAL ciphertexts in TenSEAL's message for a vector."""
    return [value for number, value in _fields(message) if number == 2]


def context_key(message: bytes) -> bytes:
    """Return the serialised SEAL public key in TenSEAL's message for a context, where it is field 1 of field 2."""
    public = next((value for number, value in _fields(message) if number == 2), b"")
    key = next((value for number, value in _fields(public) if number == 1), b"")
    if not key:
        raise FormatError("TenSEAL's context message has no public key where version 0.3 keeps it")
    return key


def with_public_key(context: bytes, public_key: bytes) -> bytes:
    """Return a context message with this public key in the place of its own."""
    others = [raw for number, _, raw in _raw_fields(context) if number != 2]
    return b"".join([*others, _field(2, _field(1, public_key))])


def _read(seal: bytes) -> tuple[bytes, bytes]:
    """Return the constant part of SEAL's header and the body, decompressed."""
    magic, header_bytes, major, _, mode, _, size = struct.unpack_from("<HBBBBHQ", seal)
    if (magic, header_bytes, major) != (_MAGIC, _HEADER_BYTES, _VERSION_MAJOR) or size != len(seal):
        raise FormatError("SEAL's serialised header is not that of version 4: another TenSEAL is installed")
    body = seal[_HEADER_BYTES:]
    if mode == _ZSTD:
        body = _stored(body)
    elif mode != _NO_COMPRESSION:
        raise FormatError(f"SEAL compressed with mode {mode}, zstd or none was expected")
    return seal[:5], body


def _write(header: bytes, body: bytes) -> bytes:
    size = _HEADER_BYTES + len(body)
    return header + bytes([_NO_COMPRESSION, 0, 0]) + size.to_bytes(8, "little") + body


def _stored(frame: bytes) -> bytes:
    """Return the content of a zstd frame whose blocks are all stored: uniform residues can't be made smaller."""
    descriptor = frame[4]
    if frame[:4] != _ZSTD_MAGIC or not descriptor & 0x20 or descriptor & 0x07:
        raise FormatError("SEAL's zstd frame is not a single segment without checksum")
    position = 5 + {0: 1, 1: 2, 2: 4, 3: 8}[descriptor >> 6]
    content = bytearray()
    while True:
        block = int.from_bytes(frame[position : position + 3], "little")
        last, kind, size = block & 1, block >> 1 & 3, block >> 3
        if kind != 0 or position + 3 + size > len(frame):
            raise FormatError("SEAL compressed a ciphertext, which uniform coefficients do not allow")
        content += frame[position + 3 : position + 3 + size]
        position += 3 + size
        if last:
            return bytes(content)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the content of each field that has a length."""
    return ((number, value) for number, value, _ in _raw_fields(message) if value is not None)


def _raw_fields(message: bytes) -> Iterator[tuple[int, bytes | None, bytes]]:
    """Yield each field of a protobuf message: its number, its content if it has a length, and all its bytes."""
    position = 0
    while (start := position) < len(message):
        tag, position = _read_varint(message, position)
        content: bytes | None = None
        match tag & 7:
            case 0:
                _, position = _read_varint(message, position)
            case 1:
                position += 8
            case 2:
                size, position = _read_varint(message, position)
                content = message[position : position + size]
                position += size
            case wire_type:
                raise FormatError(f"TenSEAL wrote a field of wire type {wire_type}")
        yield tag >> 3, content, message[start:position]


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value
